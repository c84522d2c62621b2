"""Reporting: what a run folder holds, told as a page, as Markdown, as a picture and as a LaTeX table; a drawing of the network.

Reads run folders and returns text or bytes; another module writes them. Never imports torch.
"""
