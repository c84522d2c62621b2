"""Reporting: what a run folder holds, told as one self-contained page, a few plots and a drawing of the network.

Reads run folders and returns text; another module writes it. Never imports torch.
"""
