"""A run from its birth to its end: trained, kept, mended, gone on with, replayed, several at a time."""
