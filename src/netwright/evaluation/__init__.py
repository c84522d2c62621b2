"""How good it is: exact figures over all rows, intervals, predictions in the user's words."""
