"""JSON files of a run, read within limits. Floor 0."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from netwright.errors import SafetyError

LARGEST_JSON = 64 << 20  # bytes


def read_json(path: Path) -> Any:
    """Read a JSON file as we write it: of bounded size, without NaN and infinity.

    Args:
        path: The file.

    Raises:
        SafetyError: It is larger than any file of a run.
        OSError, ValueError: It cannot be read, or is no such JSON; one that is nested too deeply too.
    """
    refuse_no_file(path)
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise SafetyError(f"{path}: {size:,} bytes came; expected at most {LARGEST_JSON:,}; refused")
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def refuse_no_file(path: Path) -> None:
    """Refuse what could wait for ever or has no end: a pipe, a device, a socket.

    Raises:
        OSError: No plain file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no plain file", str(path))


def _refuse(text: str) -> float:
    raise ValueError(f"{text} among the numbers")
