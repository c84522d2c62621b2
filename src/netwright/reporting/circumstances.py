"""What surrounds the figures, ready for the page: findings of the checks, where the time went, how to repeat the run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from netwright.reporting.contents import RunContents, entries, objects, section
from netwright.reporting.wording import NOT_RECORDED, as_number, duration_text, moment_text, plural

_SEVERITIES = ("error", "warning", "note")
_CONFIDENCE = {"sure": "sure", "likely": "likely", "hint": "only a hint"}
_SPENT = {"train": "training", "valid": "validation"}
_SHARE = 0.001  # of all seconds; smaller parts are not drawn


def findings_of(run: Mapping[str, object]) -> list[dict[str, str]]:
    """Return what the checks found, errors first.

    Args:
        run: ``run.json``; old ones hold a message only, newer ones where, why, advice, severity and confidence.
    """
    found = []
    for entry in objects(run, "findings"):
        severity = str(entry.get("severity"))
        message = str(entry.get("message") or "")
        why = entry.get("why")
        found.append(
            {
                "severity": severity if severity in _SEVERITIES else "warning",
                "check": str(entry.get("check") or "check"),
                "where": str(entry.get("where") or ""),
                "why": str(why) if why else message,
                "advice": str(entry.get("advice") or ""),
                "confidence": _CONFIDENCE.get(str(entry.get("confidence")), ""),
            }
        )
    found.extend(
        {"severity": "warning", "check": "check", "where": "", "why": text, "advice": "", "confidence": ""}
        for text in entries(run, "findings")
        if isinstance(text, str)
    )
    return sorted(found, key=lambda entry: _SEVERITIES.index(entry["severity"]))


def findings_words(findings: list[dict[str, str]]) -> str:
    """Say how many findings there are of each severity.

    Args:
        findings: From `findings_of`.

    Returns:
        ``1 error and 2 warnings``; empty where there are none.
    """
    counts = [
        plural(float(number), severity)
        for severity in _SEVERITIES
        if (number := sum(entry["severity"] == severity for entry in findings))
    ]
    return counts[0] if len(counts) == 1 else ", ".join(counts[:-1]) + f" and {counts[-1]}" if counts else ""


def timing_view(contents: RunContents) -> dict[str, object] | None:
    """Return where the seconds went: training, validation, the rest of it, and the parts of the test.

    Args:
        contents: The run.
    """
    seconds = {str(name): as_number(value) for name, value in section(contents.run, "seconds").items()}
    total = seconds.pop("total", None)
    waiting = seconds.pop("waiting", None)
    parts = [(_SPENT.get(name, name), value) for name, value in seconds.items() if value is not None and value >= 0]
    if total is not None and (rest := total - sum(value for _, value in parts)) > 0:
        parts.append(("the rest of training", rest))
    for name, value in section(section({"test": contents.test}, "test"), "seconds").items():
        spent = as_number(value)
        if spent is not None and spent >= 0 and name != "total":
            parts.append((f"{name} (test)", spent))
    whole = sum(value for _, value in parts)
    if whole <= 0:
        return None
    told = [
        (name, duration_text(value), f"{value / whole:.1%}", round(100 * value / whole, 2), number % 8)
        for number, (name, value) in enumerate(parts)
        if value >= _SHARE * whole
    ]
    return {
        "parts": told,
        "whole": duration_text(whole),
        "waiting": duration_text(waiting) if waiting is not None else "",
        "longest": max(parts, key=lambda part: part[1])[0],
    }


def command_text(run: Mapping[str, object]) -> str:
    """Return the command that made a run, as it can be typed again.

    Args:
        run: ``run.json``.

    Returns:
        One line, quoted for a shell; empty where it is not recorded.
    """
    words = [str(word) for word in entries(run, "command")]
    if not words:
        return ""
    first = Path(words[0]).name
    return shlex.join(["netwright" if first in ("netwright", "__main__.py") else words[0], *words[1:]])


def provenance(run: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return where a run comes from, as (what, value).

    Args:
        run: ``run.json``.
    """
    found = [
        ("started", moment_text(run.get("started"))),
        ("ended", moment_text(run.get("ended")) if run.get("ended") else "not yet"),
        ("device", f"{run.get('device') or NOT_RECORDED}, {plural(run.get('threads'), 'thread')}"),
        ("engine", ", ".join(str(run[name]) for name in ("engine", "played") if run.get(name)) or NOT_RECORDED),
        ("data digest", str(section(run, "data").get("digest") or NOT_RECORDED)),
        ("split digest", str(section(run, "split").get("digest") or NOT_RECORDED)),
        ("netwright", str(run.get("netwright") or NOT_RECORDED)),
    ]
    start = section(run, "start")
    if start:
        new = ", ".join(map(str, entries(start, "new"))) or "none"
        found.append(("weights from", f"{start.get('source')} ({start.get('what')}); new layers: {new}"))
        found.append(("digest of these", str(start.get("digest") or NOT_RECORDED)))
    weights = [(f"digest of {name}", str(digest)) for name, digest in section(run, "weights").items()]
    return found + weights + [(str(name), str(version)) for name, version in section(run, "versions").items()]
