"""The name of a run and of its folder. Floor 0."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path

from netwright.errors import ConfigError


def folder_for(run_dir: str | Path | None, name: str) -> Path:
    """Return where a run shall live: the folder asked for, or ``runs/<name>-<time>-<4 hex>``.

    Raises:
        ConfigError: A name that no folder should have.
    """
    if run_dir is None:
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
        return Path("runs") / f"{safe[:60]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    path = Path(run_dir)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", path.name) or "\0" in str(run_dir):
        raise ConfigError(
            f"--run-dir {str(run_dir)!r}: no name for a run; expected letters, digits, '.', '_' and '-', at most 100; rename it"
        )
    return path


def name_of(source: str) -> str:
    """Return the name of a run of this config or data file.

    Example:
        >>> name_of("sklearn:iris"), name_of("data/rows.csv.gz")
        ('iris', 'rows')
    """
    return source.removeprefix("sklearn:") if source.startswith("sklearn:") else Path(source).stem.split(".")[0]
