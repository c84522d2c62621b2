"""What may spoil the figures, looked for before training. Floor 10."""
