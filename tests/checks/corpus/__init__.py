"""Seeded mistakes and good networks, written down before the checks were tuned on them; `run` asks the checks."""
