"""How a training step is executed: the one step, and what may wrap it."""
