"""What the page shows of a run: key figures, curves, network, columns, the tables and drawings of its test."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from netwright.reporting import wording
from netwright.reporting.chance import (
    ConfusionCounts,
    baseline_sentence,
    confusion_counts,
    guessing_sentence,
    guessing_warnings,
)
from netwright.reporting.contents import RunContents, TargetPairs, entries, objects, read_target_pairs, section
from netwright.reporting.diagram import diagram_svg
from netwright.reporting.evidence import intervals_words, notes_of
from netwright.reporting.plots import (
    LARGEST_WITH_CELL_TEXT,
    confusion_svg,
    histogram_svg,
    placed_curves,
    predicted_svg,
    residual_svg,
)
from netwright.reporting.sentences import curves_absent
from netwright.reporting.wording import interval_text, value_text

_MOST_POINTS = 2000
_MOST_TARGETS = 4
_MOST_CLASSES = 100
_MOST_COLUMNS = 500
_MOST_LABELS = 50
_MOST_EPOCHS = 400  # whose values stand in the page; the curves show all
_BY_FORMULA = ("accuracy", "subset_accuracy")
_COLOURS = ("first", "second", "third", "fourth")


def drawn(svg: str) -> Markup:
    """Mark a drawing as safe: its module has escaped every text in it. In a page it needs no namespace.

    Args:
        svg: From `plots` or `diagram`.
    """
    return Markup(svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1))


def tiles_of(contents: RunContents) -> list[tuple[str, str, str]]:
    """Return the key figures of the run as (name, figure, what to know about it)."""
    run = contents.run
    tiles: list[tuple[str, str, str]] = []
    best = section(run, "best")
    if best:
        epoch = f"epoch {wording.count_text(best.get('epoch'))} of {wording.count_text(run.get('epochs'))}"
        tiles.append((f"best {best.get('monitor') or 'epoch'}", wording.figure_text(best.get("value")), epoch))
    else:
        steps = wording.plural(run.get("steps"), "step")
        tiles.append(("epochs", wording.count_text(run.get("epochs")), steps))
    model = section(run, "model")
    trainable = f"{wording.count_text(model.get('trainable'))} trainable"
    total, trained = (wording.as_number(model.get(name)) for name in ("parameters", "trainable"))
    if total is not None and trained is not None and total > trained:
        trainable += f" in epoch 1, {wording.count_text(total - trained)} frozen"
    tiles.append(("parameters", wording.large_text(model.get("parameters")), trainable))
    tiles.append(("multiply-adds", wording.large_text(model.get("multiply_adds")), "per row, forward"))
    split = section(run, "split")
    parts = ("train", "valid", "test")
    rows = " · ".join(f"{wording.count_text(split.get(part) or 0)}\u00a0{part}" for part in parts)
    tiles.append(("rows", wording.count_text(section(run, "data").get("rows")), rows))
    seconds = section(run, "seconds")
    engine = f"{run.get('engine') or 'engine'} on {run.get('device') or wording.NOT_RECORDED}"
    tiles.append(("time", wording.duration_text(seconds.get("total")), engine))
    return tiles


def curves_view(contents: RunContents) -> dict[str, object]:
    """Return the curves of losses and of validation metrics, or why there are none."""
    history = contents.history
    absent = curves_absent(history)
    if absent:
        return {"absent": absent, "plots": [], "without": ""}
    best = section(contents.run, "best")
    length = len(next(iter(history.values())))
    epochs = history.get("epoch", [float(number + 1) for number in range(length)])
    plots = [
        _curve(title, epochs, dict(list(series.items())[:4]), best) for title, series in curves_of(history).items() if series
    ]
    metrics = any(name.startswith("valid_") for name in history)
    without = "" if metrics else "Nothing was measured on validation rows during training."
    return {"absent": "" if plots else "The history holds no finite loss.", "plots": plots, "without": without}


def curves_of(history: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Sequence[float]]]:
    """Sort the columns of a history into the plots that show them.

    Args:
        history: ``history.csv`` by column.

    Returns:
        ``Loss``, ``Learning rate`` where it changes, and ``Validation metrics``, each with its series that hold a finite number;
        each may be empty.
    """
    measured = {name: values for name, values in history.items() if any(map(math.isfinite, values))}
    losses = {name: values for name, values in measured.items() if name in ("train_loss", "valid_loss")}
    metrics = {
        name: values
        for name, values in measured.items()
        if name.startswith("valid_") and name not in ("valid_loss", "valid_seconds")
    }
    rates = measured.get("learning_rate", ())
    rate = {"learning_rate": rates} if len(set(rates)) > 1 else {}
    return {"Loss": losses, "Learning rate": rate, "Validation metrics": metrics}


def _curve(
    title: str, epochs: Sequence[float], series: Mapping[str, Sequence[float]], best: Mapping[str, object]
) -> dict[str, object]:
    """Return one plot of curves, with the places and texts its script reads and the table that stands below it."""
    monitor = str(best.get("monitor") or "")
    marked = monitor if monitor in series else list(series)[-1]
    label = f"{title} by epoch: {', '.join(series)}"
    kept = wording.as_number(best.get("epoch"))
    svg, places = placed_curves(epochs, series, kept, marked, label)
    stride = math.ceil(len(epochs) / _MOST_EPOCHS)
    shown = [number for number in range(len(epochs)) if number % stride == 0 or epochs[number] == kept]
    start = next((place for place, number in enumerate(shown) if epochs[number] == kept), len(shown) - 1)
    texts = [[wording.figure_text(values[number]) for number in shown] for values in series.values()]
    points = {
        "label": title,
        "epochs": [f"{epochs[number]:g}" for number in shown],
        "across": [places.across[number] for number in shown],
        "up": [[values[number] for number in shown] for values in places.up.values()],
        "texts": texts,
        "colours": [f"var(--{colour})" for colour in _COLOURS[: len(series)]],
        "top": places.top,
        "bottom": places.bottom,
        "start": start,
    }
    return {
        "title": title,
        "svg": drawn(svg),
        "points": json.dumps(points, separators=(",", ":"), allow_nan=False),
        "names": list(series),
        "start_epoch": f"{epochs[shown[start]]:g}" + (" (kept)" if epochs[shown[start]] == kept else ""),
        "start": [(name, look, row[start]) for name, look, row in zip(series, _COLOURS, texts, strict=False)],
        "table": [(f"{epochs[number]:g}", [row[place] for row in texts]) for place, number in enumerate(shown)],
        "thinned": stride if stride > 1 else 0,
    }


def network_view(contents: RunContents) -> dict[str, object]:
    """Return the table of layers and the drawing of the network."""
    model = section(contents.run, "model")
    layers = objects(model, "layers")
    shape: Sequence[object] = entries(section(contents.run, "data"), "shape")
    sizes = [size for size in shape if isinstance(size, int)]
    return {
        "model": model,
        "layers": layers,
        "svg": drawn(diagram_svg(layers, sizes, str(contents.run.get("name") or "network"), styled=False))
        if layers
        else None,
    }


def columns_view(contents: RunContents) -> dict[str, object]:
    """Return the table of data columns as (name, kind, missing, share of rows, levels)."""
    data = section(contents.run, "data")
    rows = wording.as_number(data.get("rows"))
    columns = objects(data, "columns")
    table = []
    for column in columns[:_MOST_COLUMNS]:
        missing = wording.as_number(column.get("missing"))
        share = f"{missing / rows:.1%}" if missing and rows else ""
        levels = column.get("levels")
        if isinstance(levels, list):
            shown = ", ".join(str(level) for level in levels[:6]) + (", …" if len(levels) > 6 else "")
            words = f"{len(levels):,}: {wording.shortened(shown, 90)}"
        else:
            words = "" if levels is None else str(levels)
        table.append((str(column.get("name")), str(column.get("kind")), wording.count_text(missing), share, words))
    return {"table": table, "left_out": len(columns) - len(table)}


def test_view(contents: RunContents) -> dict[str, object] | None:
    """Return the test table and the confusion matrix; None without a test."""
    test = contents.test
    if test is None:
        return None
    rows = []
    for name, metric in section(test, "metrics").items():
        between = interval_text(metric)
        rows.append((name, value_text(metric), between, not between and name != "loss"))
    method = intervals_words(test)[1]
    older = (
        "infinitesimal jackknife over the test rows" if _labels(test) else "bootstrap over the test rows, 1,000 resamples"
    )
    formula = next((name for name, _, between, _ in rows if name in _BY_FORMULA and between), "")
    return {
        "rows": rows,
        "intervals": any(between for _, _, between, _ in rows),
        "unmeasured": any(missing for _, _, _, missing in rows),
        "by_formula": "" if method else formula,
        "by_resampling": any((method or name not in _BY_FORMULA) and between for name, _, between, _ in rows),
        "method": method or older,
        "notes": notes_of(test),
        "labels": _labels(test),
        "n": test.get("n"),
        "looks": test.get("looks"),
        "weights": str(test.get("weights") or wording.NOT_RECORDED),
        "guessing": guessing_sentence(test) or baseline_sentence(test),
        "warnings": guessing_warnings(test),
        "confusion": _confusion(confusion_counts(test)),
    }


def _confusion(counts: ConfusionCounts | None) -> dict[str, object] | None:
    """Return the drawing of a confusion matrix and the most frequent confusions; None where there is none."""
    if counts is None:
        return None
    classes, matrix = counts.classes, counts.matrix
    size = len(classes)
    wrong = sorted(
        ((matrix[row][column], -row, -column) for row in range(size) for column in range(size) if row != column),
        reverse=True,
    )
    confusions = [
        (classes[-row], classes[-column], f"{count:,.0f}", f"{count / sum(matrix[-row]):.1%}")
        for count, row, column in wrong[:5]
        if count > 0
    ]
    label = f"Confusion matrix of {size} classes: rows are true classes, columns predicted classes"
    return {
        "svg": drawn(confusion_svg(classes, matrix, label)) if size <= _MOST_CLASSES else None,
        "size": size,
        "without_text": size > LARGEST_WITH_CELL_TEXT,
        "confusions": confusions,
    }


def _labels(test: Mapping[str, object]) -> dict[str, object] | None:
    """Return the table of labels, the most frequent first; None where there is none."""
    found = sorted(objects(test, "labels"), key=lambda entry: -(wording.as_number(entry.get("support")) or 0.0))
    rows = wording.as_number(test.get("n"))
    table = []
    for entry in found[:_MOST_LABELS]:
        support = wording.as_number(entry.get("support"))
        share = f"{support / rows:.1%}" if support is not None and rows else ""
        figures = [wording.figure_text(entry.get(name)) for name in ("precision", "recall", "f1")]
        table.append((str(entry.get("label")), *figures, wording.count_text(support), share))
    return {"table": table, "left_out": len(found) - len(table)} if table else None


def regression_view(contents: RunContents) -> dict[str, object] | None:
    """Return the plots of a regression's test rows; None for other tasks and without a test."""
    if section(contents.run, "task").get("kind") != "regression" or contents.test is None:
        return None
    pairs = [pair for pair in read_target_pairs(contents.folder) if len(pair.true)]
    plots = [_target_plots(pair) for pair in pairs[:_MOST_TARGETS]]
    return {"plots": plots, "left_out": len(pairs) - len(plots)}


def _target_plots(pair: TargetPairs) -> dict[str, object]:
    """Return both plots of one target, thinned out evenly where it has too many rows."""
    rows = len(pair.true)
    stride = math.ceil(rows / _MOST_POINTS)
    true, predicted = pair.true[::stride], pair.predicted[::stride]
    name = pair.name or "the target"
    errors = [guess - value for guess, value in zip(pair.predicted, pair.true, strict=True)]
    return {
        "name": pair.name,
        "rows": rows,
        "drawn": len(true),
        "predicted": drawn(predicted_svg(true, predicted, f"Predicted against true values of {name}")),
        "residual": drawn(residual_svg(true, predicted, f"Residuals of {name} against its prediction")),
        "histogram": drawn(histogram_svg(errors, f"How often which residual of {name} occurs")),
    }
