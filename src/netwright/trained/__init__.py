"""What a trained network gives and tells: predictions, calibration, the test of a run, an export."""
