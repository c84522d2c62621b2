"""Several processes that train one network: which of them this is, and what they tell each other."""
