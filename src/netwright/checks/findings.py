"""A finding: where something was seen, why it matters, what to do, and how sure that is. Floor 10."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from netwright.config.slugs import ALL, FAMILY_OF

Severity = Literal["error", "warning", "note"]
Confidence = Literal["sure", "likely", "hint"]
Figures = Mapping[str, float | int | str]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """What a check saw, and the figures behind it.

    Args:
        check: Its name, one of `netwright.config.slugs.CHECKS`.
        where: The layer, column, line of code or rows, such as ``layer 5 Softmax(dim=1)``.
        why: What was seen and why it matters.
        advice: What to do.
        severity: ``error`` (it cannot work as meant), ``warning`` (a look is worth it), ``note`` (good to know).
        confidence: ``sure`` (measured, or so by definition), ``likely``, or ``hint``.
        figures: The numbers, by name.

    Raises:
        ValueError: The name stands in no list.

    Example:
        >>> found = Finding("shift", "column 'age'", "it is older in test", "look at the parts")
        >>> found.family, found.refuses, str(found)
        ('data', True, "column 'age': it is older in test; look at the parts")
    """

    check: str
    where: str
    why: str
    advice: str
    severity: Severity = "warning"
    confidence: Confidence = "likely"
    figures: Figures = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.check not in FAMILY_OF:
            raise ValueError(f"{self.check!r} stands in no list of netwright.config.slugs; add it there")

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.where}: {self.why}; {self.advice}"

    @property
    def family(self) -> str:
        """What it is about: ``description``, ``batch`` or ``code`` (the network), or ``data``."""
        return FAMILY_OF[self.check]

    @property
    def refuses(self) -> bool:
        """Whether --strict refuses it; notes are never refused."""
        return self.severity != "note"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for run.json."""
        plain = {name: getattr(self, name) for name in ("check", "severity", "where", "why", "advice", "confidence")}
        return {**self.figures, **plain}


def in_order(found: Iterable[Finding], skipped: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Return findings without those of some checks and without repeats, errors first.

    Example:
        >>> in_order([Finding("shift", "column 'age'", "older", "look")], ["shift"])
        ()
    """
    left_out = set(skipped)
    kept: dict[tuple[str, str, str], Finding] = {}
    for one in found:
        if one.check not in left_out and ALL not in left_out:
            kept.setdefault((one.check, one.where, one.why), one)
    return tuple(sorted(kept.values(), key=lambda one: SEVERITIES.index(one.severity)))


def told_as(finding: Finding) -> str:
    """Return ``note`` or ``warning``: how a finding is told in a line, where an error of the program would be another thing."""
    return "note" if finding.severity == "note" else "warning"
