"""The tables of a test, ready for the page: baselines, classes, slices, threshold, importance.

Each function takes whatever `test.json` holds, old, partial or damaged, and returns None where there is nothing to show. Every
text is plain: the template escapes it. A strip is the place of a figure and its interval on an axis that its table shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netwright.reporting.contents import RunContents, entries, objects, section
from netwright.reporting.sentences import principal_metric
from netwright.reporting.verdict import Baseline, baselines_of, less_is_better
from netwright.reporting.wording import (
    as_number,
    count_text,
    duration_text,
    figure_text,
    interval_text,
    like_text,
    measured_parts,
    plural,
    probability_text,
    signed,
    value_text,
)

MOST_CLASSES = 100
_MOST_SLICES = 200
_MOST_IMPORTANT = 30
_MOST_METRICS = 3
_WORTH_TELLING = 0.1  # seconds


@dataclass(frozen=True)
class Strip:
    """A figure with its interval as percentages of an axis, for a small drawing beside it.

    Args:
        at: Place of the figure.
        left: Place of the interval's lower end; the figure's where there is no interval.
        width: Its length.
        mark: Place of the mark that all of a table's strips share; None where there is none.
    """

    at: float
    left: float
    width: float
    mark: float | None


@dataclass(frozen=True)
class ModelRow:
    """One model of the table of baselines, in words.

    Args:
        name: The model.
        value: Its principal figure.
        difference: Network minus this model, with its interval; empty where it was not taken.
        strip: The difference drawn.
        others: Its further figures.
        remark: What is to be said.
    """

    name: str
    value: str
    difference: str
    strip: Strip | None
    others: Sequence[str]
    remark: str


@dataclass(frozen=True)
class BaselinesView:
    """The table of baselines.

    Args:
        metric: The principal figure.
        others: Names of the further figures.
        network: The network's own row.
        rows: The baselines, best first.
        paired: Whether any difference was taken.
        less: Whether a smaller figure is better.
        left_out: Name and reason of baselines that were not made.
    """

    metric: str
    others: Sequence[str]
    network: ModelRow
    rows: Sequence[ModelRow]
    paired: bool
    less: bool
    left_out: Sequence[tuple[str, str]]


def strips(figures: Sequence[object], mark: object = None) -> list[Strip | None]:
    """Place figures with their intervals on one axis from the lowest end to the highest.

    Args:
        figures: Objects with ``value`` and perhaps ``low`` and ``high``, or numbers.
        mark: A number the axis must hold and every strip shows, such as zero; None for none.

    Returns:
        One strip per figure, None where it is no number.
    """
    spans = [_span(figure) for figure in figures]
    marked = as_number(mark)
    ends = [end for span in spans if span is not None for end in span[1:]] + ([] if marked is None else [marked])
    if not ends or max(ends) == min(ends):
        return [None] * len(spans)
    low, length = min(ends), max(ends) - min(ends)

    def place(value: float) -> float:
        return round(2 + 96 * (value - low) / length, 2)

    line = None if marked is None else place(marked)
    return [
        None if span is None else Strip(place(span[0]), place(span[1]), round(place(span[2]) - place(span[1]), 2), line)
        for span in spans
    ]


def _span(figure: object) -> tuple[float, float, float] | None:
    """Return a figure's value and the ends of its interval, the value itself where there is none."""
    entry = figure if isinstance(figure, Mapping) else {"value": figure}
    value, low, high = (as_number(entry.get(name)) for name in ("value", "low", "high"))
    if value is None:
        return None
    return (value, value, value) if low is None or high is None else (value, min(low, value), max(high, value))


def baselines_view(contents: RunContents) -> BaselinesView | None:
    """Return the network and its baselines as rows, best first; None where there are none and none was left out.

    Args:
        contents: The run.
    """
    metric = principal_metric(contents.test) or ""
    found = [one for one in baselines_of(contents.test) if metric]
    left_out = [
        (str(entry.get("name") or "a baseline"), str(entry.get("why") or ""))
        for entry in objects(contents.test, "baselines_left_out")
    ]
    if not found and not left_out:
        return None
    figures = section(contents.test, "metrics")
    less = less_is_better(metric)
    sign = 1.0 if less else -1.0
    found.sort(key=lambda one: sign * one.metrics[metric] if metric in one.metrics else math.inf)
    others = [name for name in figures if name not in (metric, "loss") and any(name in one.metrics for one in found)]
    others = others[: _MOST_METRICS - 1]
    drawn = strips([one.differences.get(metric) for one in found], 0.0)
    names = [name for name in (metric, *others) if name]
    own = [value_text(figures[name]) for name in names]
    rows = [_model_row(one, names, figures, strip) for one, strip in zip(found, drawn, strict=True)]
    network = ModelRow("this network", own[0] if own else "", "", None, own[1:], "")
    return BaselinesView(metric, others, network, rows, any(row.difference for row in rows), less, left_out)


def _model_row(one: Baseline, names: Sequence[str], network: Mapping[str, object], strip: Strip | None) -> ModelRow:
    """Return one baseline in words, its figures with as many decimals as the network's."""
    difference, told = one.differences.get(names[0]), ""
    if isinstance(difference, Mapping):
        words = [signed(word) for word in measured_parts(*(difference.get(part) for part in ("value", "low", "high")))]
        told = f"{words[0]} ({words[1]} to {words[2]})" if words[1] else words[0]
    elif as_number(difference) is not None:
        told = signed(figure_text(difference))
    took = duration_text(one.seconds) if one.seconds is not None and one.seconds >= _WORTH_TELLING else ""
    figures = [like_text(one.metrics[name], network[name]) if name in one.metrics else "" for name in names]
    remark = "; ".join(text for text in (one.note, took) if text)
    return ModelRow(one.name, figures[0], told, strip, figures[1:], remark)


def classes_view(test: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return the table of classes.

    Args:
        test: ``test.json``, or None.
    """
    found = objects(test, "classes")
    shown = found[:MOST_CLASSES]
    drawn = strips([entry.get("recall") for entry in shown])
    rows = [
        (
            str(entry.get("class")),
            count_text(entry.get("n")),
            probability_text(_bare(entry.get("precision"))),
            value_text(entry.get("recall")),
            interval_text(entry.get("recall")),
            probability_text(_bare(entry.get("f1"))),
            strip,
        )
        for entry, strip in zip(shown, drawn, strict=True)
    ]
    return {"rows": rows, "left_out": len(found) - len(rows)} if rows else None


def slices_view(contents: RunContents) -> dict[str, object] | None:
    """Return the test figure of each slice of the rows, by column.

    Args:
        contents: The run.
    """
    found = [entry for entry in objects(contents.test, "slices") if section(entry, "metrics")]
    metric = principal_metric(contents.test)
    if metric is None or not any(metric in section(entry, "metrics") for entry in found):
        metric = next((name for entry in found for name in section(entry, "metrics")), None)
    if metric is None:
        return None
    shown = [entry for entry in found if metric in section(entry, "metrics")][:_MOST_SLICES]
    whole = section(contents.test, "metrics").get(metric)
    figures = [section(entry, "metrics")[metric] for entry in shown]
    *drawn, all_rows = strips([*figures, whole], _bare(whole))
    groups: dict[str, list[tuple[object, ...]]] = {}
    for entry, figure, strip in zip(shown, figures, drawn, strict=True):
        row = (str(entry.get("slice")), count_text(entry.get("n")), value_text(figure), interval_text(figure), strip)
        groups.setdefault(str(entry.get("column")), []).append(row)
    test = contents.test or {}
    return {
        "metric": metric,
        "groups": list(groups.items()),
        "whole": (count_text(test.get("n")), value_text(whole), interval_text(whole), all_rows),
        "left_out": len(found) - len(shown),
    }


def threshold_view(test: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return the chosen threshold and its figures beside those of one half.

    Args:
        test: ``test.json``, or None.
    """
    found = section(test, "threshold")
    if as_number(found.get("value")) is None:
        return None
    chosen, half = section(found, "metrics"), section(found, "at_half")
    names = [str(name) for name in chosen if as_number(_bare(chosen[name])) is not None]
    return {
        "value": figure_text(found["value"]),
        "on": str(found.get("chosen_on") or "valid"),
        "for": str(found.get("for") or ""),
        "n": plural(found.get("n_valid"), "row") if as_number(found.get("n_valid")) is not None else "",
        "rows": [(name, probability_text(_bare(chosen[name])), probability_text(_bare(half.get(name)))) for name in names],
    }


def _bare(figure: object) -> object:
    """Return a figure without its interval."""
    return figure.get("value") if isinstance(figure, Mapping) else figure


def importance_view(test: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return the columns by how much the figure drops when their values are dealt out anew.

    Source: Breiman, Random Forests, Machine Learning 45, 2001.

    Args:
        test: ``test.json``, or None.
    """
    found = section(test, "importance")
    columns = [entry for entry in objects(found, "columns") if as_number(entry.get("value")) is not None]
    columns.sort(key=lambda entry: -(as_number(entry.get("value")) or 0.0))
    shown = columns[:_MOST_IMPORTANT]
    drawn = strips(shown, 0.0)
    rows = [
        (str(entry.get("column")), value_text(entry).replace("-", "\u2212"), _reach(entry), strip)
        for entry, strip in zip(shown, drawn, strict=True)
    ]
    if not rows:
        return None
    return {
        "metric": str(found.get("metric") or "test figure"),
        "less": less_is_better(str(found.get("metric") or "")),
        "repeats": count_text(found.get("repeats")) if as_number(found.get("repeats")) is not None else "",
        "n": count_text(found.get("n")) if as_number(found.get("n")) is not None else "",
        "rows": rows,
        "left_out": len(columns) - len(rows),
    }


def _reach(entry: Mapping[str, object]) -> str:
    """Return the interval of an importance, minus signs as long as plus signs."""
    return interval_text(entry).replace("-", "\u2212")


def intervals_words(test: Mapping[str, object] | None) -> tuple[str, str]:
    """Return the level of the intervals and how they were made, as the test says.

    Args:
        test: ``test.json``, or None.

    Returns:
        ``95 %``, and such as ``BCa bootstrap, 1,000 resamples, whole groups of subject (31)``; the second is empty where
        the folder does not say.
    """
    found = section(test, "intervals")
    level = as_number(found.get("level"))
    percent = f"{100 * level:g} %" if level is not None and 0 < level < 1 else "95 %"
    method = found.get("method")
    words = method if isinstance(method, str) else ""
    groups = section(found, "groups")
    if words and groups.get("column"):
        words += f", whole groups of {groups['column']} ({count_text(groups.get('n'))} groups)"
    return percent, words


def notes_of(test: Mapping[str, object] | None) -> list[str]:
    """Return what the test itself remarks, each as a sentence.

    Args:
        test: ``test.json``, or None.
    """
    return [text if (text := str(note)).endswith((".", "!", "?")) else f"{text}." for note in entries(test, "notes")]
