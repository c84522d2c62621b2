"""What a figure is worth: accuracy beside always guessing the most frequent class, a forecast beside the last value,
labels beside their most frequent set, counts beside their mean.

Every sentence is about the test rows; without a confusion matrix or a baseline nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netwright.reporting.contents import entries, section
from netwright.reporting.wording import as_number, figure_text, shortened

FEWEST_OF_A_CLASS = 5
RARE = 0.05  # of two classes the second is rare below this share
_MOST_NAMED = 6


@dataclass(frozen=True)
class ConfusionCounts:
    """A sound confusion matrix.

    Args:
        classes: Names of the classes, two or more.
        matrix: Counts, ``(classes, classes)``; rows are true classes.
    """

    classes: list[str]
    matrix: list[list[float]]


def confusion_counts(test: Mapping[str, object] | None) -> ConfusionCounts | None:
    """Read the confusion matrix of a test.

    Args:
        test: ``test.json``, or None.

    Returns:
        The matrix; None where there is none or its sides do not fit its classes.
    """
    record = section(test, "confusion")
    classes = [str(name) for name in entries(record, "classes")]
    matrix = [[as_number(cell) or 0.0 for cell in row] for row in entries(record, "matrix") if isinstance(row, list)]
    if len(classes) < 2 or len(matrix) != len(classes) or any(len(row) != len(classes) for row in matrix):
        return None
    return ConfusionCounts(classes, matrix)


def guessing_sentence(test: Mapping[str, object] | None) -> str:
    """Say what always guessing the most frequent class would reach on the test rows.

    Args:
        test: ``test.json``, or None.

    Returns:
        One sentence; empty without a confusion matrix.
    """
    guess = _best_guess(confusion_counts(test))
    return f"Always guessing {guess[0]} would reach an accuracy of {figure_text(guess[1])}." if guess else ""


def guessing_warnings(test: Mapping[str, object] | None) -> list[str]:
    """Say where an accuracy is no better than guessing, and which classes have too few test rows.

    Args:
        test: ``test.json``, or None.

    Returns:
        One sentence each; empty where there is nothing to warn of.
    """
    counts = confusion_counts(test)
    guess = _best_guess(counts)
    if counts is None or guess is None:
        return []
    found = []
    accuracy = section(test, "metrics").get("accuracy")
    measured = accuracy if isinstance(accuracy, Mapping) else {"value": accuracy}
    value, low = as_number(measured.get("value")), as_number(measured.get("low"))
    name, share = guess
    if value is not None and value < share:
        found.append(
            f"The accuracy of {figure_text(value)} is below that of always guessing {name} ({figure_text(share)}): look at "
            "balanced_accuracy and the confusions."
        )
    elif value is not None and (value == share or (low is not None and low <= share)):
        found.append(
            f"The accuracy of {figure_text(value)} is not clearly above that of always guessing {name} "
            f"({figure_text(share)}): the difference may be chance."
        )
    found += [] if section(test, "headline") else _rare_class(counts)
    rare = [
        (shortened(label, 40), sum(row))
        for label, row in zip(counts.classes, counts.matrix, strict=True)
        if sum(row) < FEWEST_OF_A_CLASS
    ]
    if rare:
        named = ", ".join(f"{label} ({count:,.0f})" for label, count in rare[:_MOST_NAMED])
        more = f" and {len(rare) - _MOST_NAMED:,} more" if len(rare) > _MOST_NAMED else ""
        found.append(
            f"Fewer than {FEWEST_OF_A_CLASS} test rows: {named}{more}. Figures that weigh all classes alike hang on these few."
        )
    return found


def persistence_sentence(test: Mapping[str, object] | None) -> str:
    """Say whether a forecast is better than repeating the last value that was seen.

    Args:
        test: ``test.json``, or None.

    Returns:
        One sentence; empty where no such figure was taken.
    """
    base = as_number(_baseline(test, "persistence").get("rmse"))
    found = section(section(test, "metrics"), "rmse")
    value, high = as_number(found.get("value")), as_number(found.get("high"))
    if base is None or value is None:
        return ""
    return _compared(f"Repeating the last value (persistence) gives RMSE {figure_text(base)}", base, value, high)


def _baseline(test: Mapping[str, object] | None, key: str) -> Mapping[str, object]:
    """Return a baseline's figures, which stand under ``metrics`` or, in old run folders, directly."""
    entry = section(section(test, "baselines"), key)
    return {**entry, **section(entry, "metrics")}


def _compared(known: str, base: float, value: float, high: float | None) -> str:
    """Say whether a figure of which less is better beats one that needs no network."""
    if value >= base:
        return f"{known}; the network's {figure_text(value)} does not beat it."
    if high is not None and high >= base:
        return f"{known}; the network's {figure_text(value)} is lower, but its interval reaches {figure_text(high)}: no sure gain."
    return f"{known}; the network's {figure_text(value)} beats it."


def baseline_sentence(test: Mapping[str, object] | None) -> str:
    """Say what is reached without a network: by the last value, the most frequent set of labels, or the mean count.

    Args:
        test: ``test.json``, or None.

    Returns:
        One sentence; empty where no such figure was taken.
    """
    return persistence_sentence(test) or _labels_sentence(test) or _mean_sentence(test)


def _labels_sentence(test: Mapping[str, object] | None) -> str:
    base = _baseline(test, "most_frequent")
    if as_number(base.get("f1_micro")) is None:
        return ""
    names = [shortened(str(label), 40) for label in entries(base, "labels")]
    told = ", ".join(f"‘{name}’" for name in names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
    figures = ", ".join(
        f"{name} {figure_text(base.get(name))}" for name in ("f1_micro", "f1_macro", "subset_accuracy", "hamming_loss")
    )
    return f"Always guessing the most frequent set of labels ({told or 'none'}) would reach {figures}."


def _mean_sentence(test: Mapping[str, object] | None) -> str:
    name = "mean_poisson_deviance"
    base = as_number(_baseline(test, "mean").get(name))
    found = section(section(test, "metrics"), name)
    value, high = as_number(found.get("value")), as_number(found.get("high"))
    if base is None or value is None:
        return ""
    return _compared(f"Always predicting the mean of the train rows gives {name} {figure_text(base)}", base, value, high)


def _rare_class(counts: ConfusionCounts) -> list[str]:
    """Say which figures to read where the second of two classes is rare."""
    sums = [sum(row) for row in counts.matrix]
    if len(sums) != 2 or not 0 < sums[1] < RARE * sum(sums):
        return []
    share = figure_text(sums[1] / sum(sums))
    return [
        f"Only {share} of the test rows are ‘{shortened(counts.classes[1], 40)}’: read average_precision (by chance {share}) and "
        "roc_auc (by chance 0.5) rather than accuracy."
    ]


def _best_guess(counts: ConfusionCounts | None) -> tuple[str, float] | None:
    """Return the most frequent true class, in quotes, and its share of the test rows."""
    if counts is None:
        return None
    sums = [sum(row) for row in counts.matrix]
    total = sum(sums)
    if total <= 0:
        return None
    place = max(range(len(sums)), key=sums.__getitem__)
    return f"‘{shortened(counts.classes[place], 40)}’", sums[place] / total
