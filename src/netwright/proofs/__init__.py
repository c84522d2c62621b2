"""A run opened up and proven: its script, its loop told line by line, its bits beside those of other ways."""
