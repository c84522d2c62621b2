"""How many processes train one network, and what each of them holds."""
