"""Networks of one architecture that train together, their tensors side by side in one vectorised step."""
