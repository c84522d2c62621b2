"""The verdict of a test: the one figure a reader asks for, beside the best of the baselines, in words.

A difference is the network's figure minus the baseline's, paired on the same test rows; it counts as clear only where its
interval leaves out zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from netwright.config.metrics import ERRORS
from netwright.reporting.chance import baseline_sentence, guessing_sentence
from netwright.reporting.contents import RunContents, section
from netwright.reporting.sentences import headline_sentence, principal_metric
from netwright.reporting.wording import as_number, figure_text, like_text, measured_parts

Tone = Literal["better", "worse", "unclear", "unknown"]
_NAMES = {
    "most_frequent": "always guessing the most frequent class",
    "mean": "always predicting the mean",
    "persistence": "repeating the last value",
    "seasonal": "repeating the last season",
    "linear": "linear regression",
    "logistic": "logistic regression",
    "boosting": "gradient boosting",
}
_NO_FIGURES = ("seconds", "period")


@dataclass(frozen=True)
class Baseline:
    """What one baseline reached on the test rows.

    Args:
        name: In words.
        metrics: Its figures by name, the finite ones.
        differences: By metric, an object with ``value`` and perhaps ``low`` and ``high``: network minus baseline.
        note: What is to be said about it; empty where nothing.
        seconds: How long it took, or None.
    """

    name: str
    metrics: Mapping[str, float]
    differences: Mapping[str, object]
    note: str
    seconds: float | None


@dataclass(frozen=True)
class Verdict:
    """The headline of a test.

    Args:
        metric: The figure's name; empty without a test.
        value: The figure in words.
        low: Lower end of its interval in words; empty where there is none.
        high: Upper end.
        words: One sentence that sets it beside the best baseline.
        tone: Whether the network is clearly better, clearly worse, neither, or nothing is known.
    """

    metric: str
    value: str
    low: str
    high: str
    words: str
    tone: Tone


def less_is_better(metric: str) -> bool:
    """Tell whether a smaller figure is the better one.

    Args:
        metric: Such as ``rmse`` or ``mean_poisson_deviance``.

    Example:
        >>> less_is_better("rmse"), less_is_better("accuracy"), less_is_better("hamming_loss")
        (True, False, True)
    """
    return metric.rpartition("_")[2] in ERRORS


def baselines_of(test: Mapping[str, object] | None) -> list[Baseline]:
    """Read the baselines of a test, as written now and as old run folders hold them (figures without a name).

    Args:
        test: ``test.json``, or None.

    Returns:
        Those with at least one finite figure, in the order of the file.
    """
    found = []
    for key, entry in section(test, "baselines").items():
        if not isinstance(entry, Mapping):
            continue
        nested = isinstance(entry.get("metrics"), Mapping)
        figures = section(entry, "metrics") if nested else {k: v for k, v in entry.items() if k not in _NO_FIGURES}
        values = {name: _value(metric) for name, metric in figures.items()}
        metrics = {str(name): value for name, value in values.items() if value is not None}
        period = as_number(entry.get("period"))
        name = str(entry.get("name") or _NAMES.get(str(key), key))
        name += f" (period {period:g})" if period is not None and f"{period:g}" not in name else ""
        if metrics:
            note = entry.get("note")
            found.append(
                Baseline(
                    name,
                    metrics,
                    section(entry, "difference"),
                    note if isinstance(note, str) else "",
                    as_number(entry.get("seconds")),
                )
            )
    return found


def _value(metric: object) -> float | None:
    """Return the number of a figure, whether bare or with an interval."""
    return as_number(metric.get("value") if isinstance(metric, Mapping) else metric)


def best_baseline(baselines: list[Baseline], metric: str) -> Baseline | None:
    """Return the baseline that is best by a metric; None where none has it.

    Args:
        baselines: Those of a test.
        metric: The figure that decides.
    """
    having = [baseline for baseline in baselines if metric in baseline.metrics]
    sign = -1.0 if less_is_better(metric) else 1.0
    return max(having, key=lambda baseline: sign * baseline.metrics[metric], default=None)


def verdict_of(contents: RunContents) -> Verdict:
    """Return the headline of a run.

    Args:
        contents: The run.

    Returns:
        The figure, its interval, and the sentence beside the best baseline.
    """
    metric = principal_metric(contents.test)
    if contents.test is None or metric is None:
        return Verdict(
            "", "not tested yet", "", "", "Nothing is known about new data before a look at the test set.", "unknown"
        )
    figure = section(contents.test, "metrics")[metric]
    parts = figure if isinstance(figure, Mapping) else {"value": figure}
    value, low, high = measured_parts(parts.get("value"), parts.get("low"), parts.get("high"))
    best = best_baseline(baselines_of(contents.test), metric)
    if best is None:
        words = guessing_sentence(contents.test) or baseline_sentence(contents.test) or "No baseline was measured beside it."
        return Verdict(metric, value, low, high, words, "unknown")
    words, tone = _compared(metric, figure, best)
    if why := headline_sentence(contents.test):
        words += f" {why}"
    return Verdict(metric, value, low, high, words, tone)


def _compared(metric: str, figure: object, best: Baseline) -> tuple[str, Tone]:
    """Return the sentence that compares the network with a baseline, and its tone."""
    value = _value(figure)
    base = f"{best.name} ({like_text(best.metrics[metric], figure)})"
    difference = best.differences.get(metric)
    entry = difference if isinstance(difference, Mapping) else {"value": difference}
    middle, low, high = (as_number(entry.get(name)) for name in ("value", "low", "high"))
    if middle is None and value is not None:
        middle, low, high = value - best.metrics[metric], None, None
    if middle is None:
        return f"The best baseline is {base}.", "unknown"
    if less_is_better(metric):
        middle, low, high = -middle, None if high is None else -high, None if low is None else -low
    if low is None or high is None:
        if middle == 0:
            return f"The same as {base}.", "unclear"
        side = "Better" if middle > 0 else "Worse"
        return f"{side} than {base} by {figure_text(abs(middle))}; no interval of the difference was taken.", "unknown"
    if low > 0:
        words = measured_parts(middle, low, high)
        return f"Better than {base} by {words[0]} ({words[1]} to {words[2]}).", "better"
    if high < 0:
        words = measured_parts(-middle, -high, -low)
        return f"Worse than {base} by {words[0]} ({words[1]} to {words[2]}).", "worse"
    side = "better" if middle >= 0 else "worse"
    by, worse, better = (word.removeprefix("-") for word in measured_parts(middle, low, high))
    reach = f"the interval reaches from {worse} worse to {better} better"
    return f"No clear difference from {base}: {by} {side}, but {reach}.", "unclear"
