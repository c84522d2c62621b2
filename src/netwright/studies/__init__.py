"""Several runs as one: folds, seeds, ensembles, comparisons; and whatever predicts, by its path."""
