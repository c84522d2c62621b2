"""What a run must remember, as folders that are whole, verified and never hold code."""
