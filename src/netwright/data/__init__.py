"""From a file to batches: sources, targets, splits, preparation fitted on train rows only."""
