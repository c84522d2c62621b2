"""The run folder: what stands in it, who may take it, and how it is seen from outside while it grows."""
