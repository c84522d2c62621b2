"""Every error a user can meet: one class per stage, each with the exit code of the command line.

An error carries one string, so it survives pickling, and the string says what came, what was expected and
what to do. Floor 0: imports nothing of the project.
"""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

PACKAGE = f"{Path(__file__).parent}{os.sep}"
CALLERS = ("sklearn", "joblib")  # which call estimators for their users
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # torch's words


class NetwrightError(Exception):
    """An error that is explained to the user in one line.

    Args:
        message: ``place: what came; what was expected; what to do``.
    """

    exit_code = 70
    quiet = False  # whether another process of the same training tells it

    def __init__(self, message: str) -> None:
        super().__init__(message)


class FindingWarning(UserWarning):
    """A finding of the checks that is more than a note, where no observer is there to be told."""


def warn_of(finding: str) -> None:
    """Warn of a finding at the line that asked for what was looked at: outside of this package, and of what searches and pipelines
    call it from."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(PACKAGE) or str(frame.f_globals.get("__name__")).partition(".")[0] in CALLERS
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(finding, FindingWarning, stacklevel=level)


class ConfigError(NetwrightError):
    """A setting, a command or a network description that cannot be used (exit 2)."""

    exit_code = 2


class DataError(NetwrightError):
    """Data that cannot be read or cannot be learned from (exit 3)."""

    exit_code = 3


class CheckpointError(NetwrightError):
    """A run folder or a saved state that is unreadable or does not match (exit 4)."""

    exit_code = 4


class DivergedError(NetwrightError):
    """A training step whose loss is not a finite number (exit 5)."""

    exit_code = 5


class ResourceError(NetwrightError):
    """No room left: disk or memory (exit 6)."""

    exit_code = 6


class FolderInUseError(NetwrightError):
    """A run folder that already exists or is being written by someone else (exit 7)."""

    exit_code = 7
    holder: Mapping[str, Any] = MappingProxyType({})  # what a process that writes says of itself


class SafetyError(NetwrightError):
    """Something refused because it could run code or reach outside the named folders (exit 8)."""

    exit_code = 8


def no_run(folder: Path, reason: str) -> CheckpointError:
    """Return what to say of a folder that is no run, and which runs lie in it.

    Args:
        folder: What was named.
        reason: Why its ``run.json`` cannot be read.
    """
    if (folder / "tune.json").is_file():
        best = folder / "best"
        known = f"name {best}" if (best / "run.json").is_file() else "it has no best run yet"
        return CheckpointError(
            f"{folder}: a search, no run; expected one run; {known}, or go on with netwright tune --resume {folder}"
        )
    inside = sorted(path.parent for path in folder.glob("[!.]*/run.json")) if folder.is_dir() else []
    if inside:
        return CheckpointError(
            f"{folder}: no run but a folder of {len(inside)}; expected one run; name one of them, such as {inside[-1]}"
        )
    return CheckpointError(f"{folder}: no run (run.json: {reason}); expected a run folder; netwright runs lists them")


def first_line(error: BaseException) -> str:
    """Return the first line of another library's message, or the kind of error where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, in Python's class or torch's words."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)
    )


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` known names that resemble ``name``, best first; upper and lower case count little."""
    lowered: dict[str, str] = {}
    for candidate in known:
        lowered.setdefault(candidate.lower(), candidate)
    matches = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.6)
    return [lowered[match] for match in matches]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean A or B?`` for the nearest known names, else those it begins, or the list where none is near."""
    candidates = sorted(set(known))
    close = nearest(name, candidates) or [one for one in candidates if name and one.startswith(f"{name}_")]
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(candidates[:12])
    return f"known: {shown}" + (", ..." if len(candidates) > 12 else "")
