"""A finished run behind HTTP: predict, health, metrics, a description and a page, and nothing else. Floor 17."""
