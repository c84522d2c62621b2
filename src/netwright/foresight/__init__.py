"""Before a long run: its learning rate, its batch size, what it will take."""
