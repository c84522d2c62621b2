"""Work on tensors written down once, and played again: from the processor, by C++, on a GPU; the same kernels and bits."""
