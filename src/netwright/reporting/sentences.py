"""The sentences of a report: one line that sums the run up, and one for everything the reader should know first.

Nothing is claimed that the run folder does not say: what was not measured, not finished or looked at more than once
is named as such.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from netwright.reporting.contents import RunContents, entries, section
from netwright.reporting.wording import NOT_RECORDED, as_number, count_text, figure_text, measured_text, plural, shortened

_STATUS = {
    "running": "This run has not ended: every figure is of the epochs finished so far. "
    "If nothing is running any more, netwright resume {folder} goes on from the last checkpoint.",
    "stopped": "This run was stopped before its end; netwright resume {folder} goes on from the last checkpoint.",
    "diverged": "This run diverged: a number stopped being finite{why}. The update that did it is not in the weights; "
    "netwright replay {folder} shows the step. A smaller learning rate usually helps.",
    "failed": "This run failed before its end{why}; the figures are of what was finished. "
    "netwright resume {folder} goes on from the last checkpoint.",
}


PRINCIPAL = ("accuracy", "f1_micro", "mean_poisson_deviance", "rmse", "mae", "r2", "loss")  # the first there is, is told


def principal_metric(test: Mapping[str, object] | None) -> str | None:
    """Return the name of the test metric that a reader asks for first.

    Args:
        test: ``test.json``, or None. What it names as its headline comes first: rare classes are not read by accuracy.

    Returns:
        ``accuracy``, ``rmse`` or another name under the test metrics; None without a test.
    """
    metrics = section(test, "metrics")
    first = str(section(test, "headline").get("metric"))
    return next((name for name in (first, *PRINCIPAL) if name in metrics), next(iter(metrics), None))


def headline_sentence(test: Mapping[str, object] | None) -> str:
    """Say why the headline is not accuracy; empty where it is, or there are no classes.

    Args:
        test: ``test.json``, or None.
    """
    told = section(test, "headline")
    share = as_number(told.get("train_share"))
    if share is None:
        return ""
    whole = f"{100 * share:.0f} %" if share < 0.995 else f"{100 * share:.2f} %"
    name = shortened(str(told.get("class")), 40)
    return f"{whole} of the train rows are ‘{name}’, so {told.get('metric')} is read here, not accuracy."


def summary_sentence(contents: RunContents) -> str:
    """Sum a run up in one sentence: task, data, rows, kept epoch, test figure and looks.

    Args:
        contents: The run.

    Returns:
        One plain sentence.
    """
    parts = [f"{_task_text(contents)}, {_rows_text(contents)}", _kept_text(contents), _test_text(contents)]
    sentence = "; ".join(part for part in parts if part) + "."
    return sentence[0].upper() + sentence[1:]


def _task_text(contents: RunContents) -> str:
    """Word task, target and data."""
    task = section(contents.run, "task")
    kind = str(task.get("kind") or "a task that is not recorded")
    classes = entries(task, "classes")
    if classes:
        words = ("label", "labels") if kind == "multilabel" else ("class", "classes")
        kind = f"{kind} classification" if kind in ("binary", "multiclass", "multilabel") else kind
        kind += f" into {plural(len(classes), *words)}"
    targets = [str(name) for name in entries(task, "target")]
    if targets and targets != ["target"]:
        kind += " of " + (", ".join(targets) if len(targets) <= 4 else f"{len(targets)} targets")
    return f"{kind} on {section(contents.run, 'data').get('source') or 'data that is not recorded'}"


def _rows_text(contents: RunContents) -> str:
    """Word the rows per part."""
    split = section(contents.run, "split")
    parts = [
        f"{count_text(split.get(part))} {'rows ' if part == 'train' else ''}{verb}"
        for part, verb in (("train", "to train"), ("valid", "to validate"), ("test", "to test"))
        if as_number(split.get(part))
    ]
    if not parts:
        return "with rows per part that are not recorded"
    return "with " + (", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0])


def _kept_text(contents: RunContents) -> str:
    """Word which epoch's weights are kept."""
    best = section(contents.run, "best")
    epochs = contents.run.get("epochs")
    if as_number(best.get("epoch")) is None:
        return f"weights of the last of {plural(epochs, 'epoch')}" if as_number(epochs) else "no epoch finished yet"
    return (
        f"weights of epoch {count_text(best['epoch'])} of {count_text(epochs)}, "
        f"where {best.get('monitor') or 'the monitored figure'} was best ({figure_text(best.get('value'))})"
    )


def _test_text(contents: RunContents) -> str:
    """Word the test figure, its rows and the looks at the test set."""
    name = principal_metric(contents.test)
    if contents.test is None or name is None:
        return "not tested yet"
    looks = as_number(contents.test.get("looks"))
    seen = "looked at once" if looks == 1 else f"looked at {count_text(looks)} times"
    figure = measured_text(section(contents.test, "metrics")[name])
    known = "the looks at the test set not recorded" if looks is None else f"the test set {seen}"
    return f"test {name} {figure} on n = {count_text(contents.test.get('n'))}, {known}"


def warnings_of(contents: RunContents) -> list[str]:
    """Return what a reader must know before the figures.

    Args:
        contents: The run.

    Returns:
        One sentence each; empty for a finished, tested run without trouble.
    """
    found: list[str] = []
    status = str(contents.run.get("status"))
    if status != "done":
        known = _STATUS.get(status)
        found.append(
            known.format(folder=contents.folder, why=_why(contents)) if known else f"The status of this run is {status}."
        )
    for entry in entries(contents.run, "resumed"):
        changed = section({"entry": entry}, "entry").get("changed")
        if isinstance(changed, list) and changed:
            found.append(
                f"Resumed after step {section({'entry': entry}, 'entry').get('step')} with other settings: "
                f"{shortened('; '.join(map(str, changed)), 300)}."
            )
    looks = as_number(section({"test": contents.test}, "test").get("looks"))
    if looks is not None and looks > 1:
        found.append(
            f"The test set has been looked at {looks:,.0f} times. Each look that led to a change makes the figure more "
            "hopeful than new data will be."
        )
    split = section(contents.run, "split")
    if not as_number(split.get("valid")) and as_number(split.get("train")):
        found.append("There is no validation set: nothing says when to stop, and overfitting does not show in the curves.")
    found.extend(_unmeasured(contents.history))
    found.extend(contents.problems)
    return found


def _why(contents: RunContents) -> str:
    """Return the recorded reason why a run ended, in brackets; empty where there is none."""
    why = contents.run.get("why")
    return f" ({shortened(why, 300)})" if isinstance(why, str) and why.strip() else ""


def _unmeasured(history: Mapping[str, Sequence[float]]) -> list[str]:
    """Name the columns of the history with some cells, but not all, that are no finite number."""
    found = []
    for name, values in history.items():
        missing = sum(not math.isfinite(value) for value in values)
        if missing and (missing < len(values) or name == "train_loss"):
            found.append(
                f"{name} is not a finite number in {missing:,} of {plural(len(values), 'epoch')}; its curve has gaps there."
            )
    return found


def curves_absent(history: Mapping[str, Sequence[float]]) -> str:
    """Say why there are no curves.

    Args:
        history: ``history.csv`` by column.

    Returns:
        One sentence; empty where there are at least two epochs to draw.
    """
    epochs = len(next(iter(history.values()), ()))
    if not epochs:
        return "No epoch has finished yet, so there are no curves."
    if epochs == 1:
        figures = [
            f"{name} {figure_text(values[0])}"
            for name, values in history.items()
            if name.startswith(("train_", "valid_")) and not name.endswith("_seconds") and math.isfinite(values[0])
        ]
        return f"One epoch makes no curve; its figures: {', '.join(figures) or NOT_RECORDED}."
    return ""
