"""The training loop and what it keeps: optimizer, journal, signals."""
