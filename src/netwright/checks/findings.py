"""A finding: what was seen between the parts, why it matters, what to do. Floor 8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CHECKS = ("duplicates", "near_duplicates", "groups", "time", "classes", "shift", "leak")


@dataclass(frozen=True)
class Finding:
    """One line for the user, and the figures behind it.

    Args:
        check: Its name, one of `CHECKS`.
        message: What was found; why it matters; what to do.
        figures: The numbers, by name.
    """

    check: str
    message: str
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
