"""The report of a run in Markdown, for terminals, issues and notes: figures, baselines, findings, the command.

Holds no single row of the data. Texts of the user are escaped, so that none turns into a link, a tag or a table cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from netwright.reporting.circumstances import command_text, findings_of, findings_words
from netwright.reporting.contents import RunContents, read_run, section
from netwright.reporting.evidence import baselines_view, intervals_words, notes_of
from netwright.reporting.sentences import summary_sentence, warnings_of
from netwright.reporting.verdict import verdict_of
from netwright.reporting.wording import count_text, interval_text, value_text

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!])")


def markdown_text(folder: Path) -> str:
    """Tell a run in Markdown.

    Args:
        folder: The run folder.

    Returns:
        The text, a line break at its end.

    Raises:
        CheckpointError: Where ``run.json`` is missing, no JSON, or not a run's.
    """
    contents = read_run(folder)
    run, verdict = contents.run, verdict_of(contents)
    headline = f"test {verdict.metric} {verdict.value}" if verdict.metric else verdict.value
    if verdict.low:
        headline += f" ({verdict.low} to {verdict.high})"
    parts = [
        f"# {escaped(run.get('name') or folder.name)}",
        f"**{escaped(headline)}** {escaped(verdict.words)}",
        escaped(summary_sentence(contents)),
        "\n".join(f"- {escaped(text)}" for text in warnings_of(contents)),
        *_test_parts(contents),
        *_finding_parts(contents),
    ]
    command = command_text(run)
    if command:
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", command) or [""]))
        parts += ["## Repeat", f"{fence}sh\n{' '.join(command.splitlines())}\n{fence}"]
        digests = [
            f"{part} {section(run, part).get('digest')}" for part in ("data", "split") if section(run, part).get("digest")
        ]
        parts.append(escaped("; ".join([*digests, f"netwright {run.get('netwright') or 'not recorded'}"])))
    return "\n\n".join(part for part in parts if part) + "\n"


def _test_parts(contents: RunContents) -> list[str]:
    """Return the tables of the test and of the baselines."""
    test = contents.test
    if test is None:
        return []
    level, method = intervals_words(test)
    figures = [(name, value_text(one), interval_text(one)) for name, one in section(test, "metrics").items()]
    parts = [
        f"## Test: {count_text(test.get('n'))} rows",
        _table(("metric", "value", f"{level} interval"), figures),
        escaped(" ".join([*([f"Intervals: {method}."] if method else []), *notes_of(test)])),
    ]
    view = baselines_view(contents)
    if view is not None and view.rows:
        head = ("model", view.metric, "network minus baseline", *view.others)
        rows = [(one.name, one.value, one.difference, *one.others) for one in (view.network, *view.rows)]
        parts += ["## Baselines, on the same rows", _table(head, rows)]
    return parts


def _finding_parts(contents: RunContents) -> list[str]:
    """Return what the checks found as a list."""
    findings = findings_of(contents.run)
    if not findings:
        return []
    lines = []
    for one in findings:
        where = f" {escaped(one['where'])}:" if one["where"] else ""
        advice = f" {escaped(one['advice'])}" if one["advice"] else ""
        sure = f" ({one['confidence']})" if one["confidence"] else ""
        lines.append(f"- **{one['severity']}** {escaped(one['check'])}{sure}:{where} {escaped(one['why'])}{advice}")
    return [f"## Checks: {findings_words(findings)}", "\n".join(lines)]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table, numbers to the right, padded so that it reads in a terminal too."""
    cells = [[escaped(cell) for cell in row] for row in [head, *rows]]
    widths = [max(3, *(len(row[place]) for row in cells)) for place in range(len(head))]
    lines = [
        "| " + " | ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in pairs) + " |"
        for pairs in ([*enumerate(zip(row, widths, strict=True))] for row in cells)
    ]
    rule = "|" + "|".join("-" * (width + 1) + (":" if place else "-") for place, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def escaped(text: object) -> str:
    r"""Write a text on one line so that Markdown shows it as it is.

    Args:
        text: Any value.

    Example:
        >>> print(escaped("a|b <img> *c*"))
        a\|b \<img\> \*c\*
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
