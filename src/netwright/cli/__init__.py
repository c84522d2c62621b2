"""The command line: parses, prints, exit codes. It imports the pipeline, and so torch, only inside a command."""

from netwright.cli.entry import main
from netwright.cli.group import cli

__all__ = ["cli", "main"]
