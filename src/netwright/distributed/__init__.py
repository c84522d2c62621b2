"""Several processes: the world they are, and who starts them. Floor 4."""
