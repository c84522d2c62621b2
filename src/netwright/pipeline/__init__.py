"""The verbs: the one place where settings become calls. inputs.py, network.py and folder.py are its steps."""
