"""From layer texts to a plain torch module: grammar, shapes, tasks, summary."""
