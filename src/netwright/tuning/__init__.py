"""A search for hyperparameters: trials that are ordinary runs, told by their validation figure, shared by worker processes."""
