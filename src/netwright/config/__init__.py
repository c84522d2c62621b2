"""Settings: the frozen tree, its readers, and the grammar of call texts. Imports no torch."""
