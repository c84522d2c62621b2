"""Several processes that train one network: which of them this is, what they tell each other, and who starts them."""
