r"""The test figures of a run as a LaTeX table (booktabs), beside the baselines, ready for a paper.

Needs ``\usepackage{booktabs}``. Every text of the user is escaped; letters outside ASCII are left to LaTeX, whose source is UTF-8.
"""

from __future__ import annotations

from pathlib import Path

from netwright.reporting.contents import RunContents, read_run, section
from netwright.reporting.evidence import intervals_words
from netwright.reporting.sentences import principal_metric
from netwright.reporting.verdict import baselines_of, best_baseline, verdict_of
from netwright.reporting.wording import count_text, like_text, measured_parts

_MOST_BASELINES = 4
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "‘": "`",
    "’": "'",
    "\u2212": "$-$",
    "\u00a0": "~",
    "…": r"\ldots{}",
    "±": r"$\pm$",
}


def latex_text(folder: Path) -> str:
    """Tell the test of a run as a LaTeX table.

    Args:
        folder: The run folder.

    Returns:
        A ``table`` environment; where nothing was tested yet, a comment that says so.

    Raises:
        CheckpointError: Where ``run.json`` is missing, no JSON, or not a run's.
    """
    contents = read_run(folder)
    if contents.test is None:
        return "% not tested yet: netwright test RUN\n"
    metric = principal_metric(contents.test)
    baselines = [one for one in baselines_of(contents.test) if metric in one.metrics]
    best = best_baseline(baselines, metric or "")
    shown = sorted(baselines, key=lambda one: one is not best)[:_MOST_BASELINES]
    level = intervals_words(contents.test)[0]
    head = ["metric", "network", f"{level} interval", *(one.name for one in shown)]
    lines = [" & ".join(escaped(word) for word in head) + r" \\", r"\midrule"]
    for name, figure in section(contents.test, "metrics").items():
        entry = figure if isinstance(figure, dict) else {"value": figure}
        value, low, high = measured_parts(*(entry.get(part) for part in ("value", "low", "high")))
        others = [like_text(one.metrics[name], figure) if name in one.metrics else "" for one in shown]
        cells = [name, value, f"[{low}, {high}]" if low else "", *others]
        lines.append(" & ".join(_cell(cell, place) for place, cell in enumerate(cells)) + r" \\")
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_caption(contents)}}}",
            rf"\begin{{tabular}}{{lrr{'r' * len(shown)}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _cell(text: str, place: int) -> str:
    """Return a cell, a negative number with a minus sign; a bracket at a row's begin would be read as an argument."""
    if place and text.startswith("-"):
        return f"${text}$".replace(",", "{,}")
    return ("{}" if text[:1] in ("[", "*") and not place else "") + escaped(text)


def _caption(contents: RunContents) -> str:
    """Return what the table shows: run, rows, looks, how the intervals were made, and the paired difference."""
    test = contents.test or {}
    method = intervals_words(test)[1]
    parts = [
        f"Test figures of {contents.run.get('name') or contents.folder.name} on {count_text(test.get('n'))} rows",
        *([f"intervals: {method}"] if method else []),
    ]
    return escaped("; ".join(parts) + f". {verdict_of(contents).words}")


def escaped(text: object) -> str:
    r"""Write a text on one line so that LaTeX shows it as it is.

    Args:
        text: Any value.

    Example:
        >>> print(escaped("f1_macro 50% of {a} \\ b"))
        f1\_macro 50\% of \{a\} \textbackslash{} b
    """
    shown = "".join(letter for letter in " ".join(str(text).split()) if letter.isprintable())
    return "".join(_SPECIAL.get(letter, letter) for letter in shown)
