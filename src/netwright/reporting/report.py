"""The report of a run: everything its folder holds as one HTML page that needs nothing else.

The page has no script and fetches nothing, and its own policy forbids both. Every text of the user is escaped: by
the template's autoescaping, and in the drawings by the modules that make them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from netwright.reporting import wording
from netwright.reporting.chance import (
    ConfusionCounts,
    baseline_sentence,
    confusion_counts,
    guessing_sentence,
    guessing_warnings,
)
from netwright.reporting.contents import (
    RunContents,
    TargetPairs,
    entries,
    objects,
    read_run,
    read_target_pairs,
    section,
)
from netwright.reporting.diagram import diagram_svg
from netwright.reporting.plots import (
    LARGEST_WITH_CELL_TEXT,
    confusion_svg,
    curves_svg,
    predicted_svg,
    residual_svg,
)
from netwright.reporting.sentences import (
    curves_absent,
    interval_text,
    principal_metric,
    summary_sentence,
    warnings_of,
)

_MOST_POINTS = 5000
_MOST_TARGETS = 4
_MOST_CLASSES = 100
_MOST_COLUMNS = 500
_MOST_LABELS = 50
_BY_FORMULA = ("accuracy", "subset_accuracy")
_MOST_SETTINGS = 100_000  # characters; a resolved config may list every row number


def render_report(folder: Path) -> str:
    """Tell a run as one self-contained HTML page.

    Args:
        folder: The run folder; files other than ``run.json`` may be missing.

    Returns:
        The page, without script and without anything to fetch.

    Raises:
        CheckpointError: Where ``run.json`` is missing, no JSON, or not a run's.

    Example:
        >>> render_report(Path("no-such-run"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        netwright.errors.CheckpointError: no-such-run/run.json: no such file; expected ...
    """
    contents = read_run(folder)
    page = Environment(
        loader=PackageLoader("netwright.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters.update(
        figure=wording.figure_text,
        count=wording.count_text,
        large=wording.large_text,
        size=wording.size_text,
        duration=wording.duration_text,
        moment=wording.moment_text,
        shape=wording.shape_text,
        layout=wording.layout_text,
        breakable=_breakable,
    )
    run = contents.run
    return page.get_template("report.html.jinja").render(
        run=run,
        name=str(run.get("name") or folder.name),
        status=str(run["status"]),
        summary=summary_sentence(contents),
        warnings=warnings_of(contents),
        notes=[str(note) for note in entries(run, "notes")],
        tiles=_tiles(contents),
        test=_test(contents),
        curves=_curves(contents),
        regression=_regression(contents),
        network=_network(contents),
        columns=_columns(contents),
        split=section(run, "split"),
        data=section(run, "data"),
        settings=(contents.settings or "")[:_MOST_SETTINGS] if contents.settings is not None else None,
        settings_cut=len(contents.settings or "") > _MOST_SETTINGS,
        provenance=_provenance(contents),
    )


def _drawn(svg: str) -> Markup:
    """Mark a drawing as safe: its module has escaped every text in it. In a page it needs no namespace."""
    return Markup(svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1))


def _breakable(text: object) -> Markup:
    """Escape a layer's text and let its lines break after brackets and points, not only at spaces."""
    return Markup(escape(text).replace("(", Markup("(<wbr>")).replace(".", Markup(".<wbr>")))


def _tiles(contents: RunContents) -> list[tuple[str, str, str]]:
    """Return the key figures as (name, figure, what to know about it)."""
    run = contents.run
    tiles: list[tuple[str, str, str]] = []
    name = principal_metric(contents)
    if name is not None and contents.test is not None:
        metric = section(contents.test, "metrics")[name]
        value = metric.get("value") if isinstance(metric, Mapping) else metric
        rows = f"n\u00a0=\u00a0{wording.count_text(contents.test.get('n'))}"
        between = interval_text(metric)
        tiles.append((f"test {name}", wording.figure_text(value), f"{between} · {rows}" if between else rows))
    else:
        tiles.append(("test", "not yet", "no look at the test set"))
    best = section(run, "best")
    if best:
        epoch = f"epoch {wording.count_text(best.get('epoch'))} of {wording.count_text(run.get('epochs'))}"
        tiles.append((f"best {best.get('monitor') or 'epoch'}", wording.figure_text(best.get("value")), epoch))
    else:
        steps = wording.plural(run.get("steps"), "step")
        tiles.append(("epochs", wording.count_text(run.get("epochs")), steps))
    model = section(run, "model")
    trainable = f"{wording.count_text(model.get('trainable'))} trainable"
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


def _curves(contents: RunContents) -> dict[str, object]:
    """Return the curves of losses and of validation metrics, or why there are none."""
    history = contents.history
    absent = curves_absent(history)
    if absent:
        return {"absent": absent, "plots": [], "without": ""}
    best = section(contents.run, "best")
    monitor = str(best.get("monitor") or "")
    length = len(next(iter(history.values())))
    epochs = history.get("epoch", [float(number + 1) for number in range(length)])
    measured = {name: values for name, values in history.items() if any(map(math.isfinite, values))}
    losses = {name: measured[name] for name in ("train_loss", "valid_loss") if name in measured}
    metrics = {
        name: values
        for name, values in measured.items()
        if name.startswith("valid_") and name not in ("valid_loss", "valid_seconds")
    }
    plots = []
    for title, series in (("Loss", losses), ("Validation metrics", metrics)):
        if series:
            marked = monitor if monitor in series else next(reversed(series))
            label = f"{title} by epoch: {', '.join(series)}"
            four = dict(list(series.items())[:4])
            kept = wording.as_number(best.get("epoch"))
            plots.append((title, _drawn(curves_svg(epochs, four, kept, marked, label))))
    without = "" if metrics or "valid_loss" in losses else "Nothing was measured on validation rows during training."
    return {"absent": "" if plots else "The history holds no finite loss.", "plots": plots, "without": without}


def _test(contents: RunContents) -> dict[str, object] | None:
    """Return the test table and the confusion matrix; None without a test."""
    test = contents.test
    if test is None:
        return None
    rows = []
    for name, metric in section(test, "metrics").items():
        value = metric.get("value") if isinstance(metric, Mapping) else metric
        between = interval_text(metric)
        rows.append((name, wording.figure_text(value), between, not between and name != "loss"))
    return {
        "rows": rows,
        "intervals": any(between for _, _, between, _ in rows),
        "unmeasured": any(missing for _, _, _, missing in rows),
        "by_formula": next((name for name, _, between, _ in rows if name in _BY_FORMULA and between), ""),
        "by_resampling": any(name not in _BY_FORMULA and between for name, _, between, _ in rows),
        "notes": [str(note) for note in entries(test, "notes")],
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
        "svg": _drawn(confusion_svg(classes, matrix, label)) if size <= _MOST_CLASSES else None,
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


def _regression(contents: RunContents) -> dict[str, object] | None:
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
    return {
        "name": pair.name,
        "rows": rows,
        "drawn": len(true),
        "predicted": _drawn(predicted_svg(true, predicted, f"Predicted against true values of {name}")),
        "residual": _drawn(residual_svg(true, predicted, f"Residuals of {name} against its prediction")),
    }


def _network(contents: RunContents) -> dict[str, object]:
    """Return the table of layers and the drawing of the network."""
    model = section(contents.run, "model")
    layers = objects(model, "layers")
    shape: Sequence[object] = entries(section(contents.run, "data"), "shape")
    sizes = [size for size in shape if isinstance(size, int)]
    return {
        "model": model,
        "layers": layers,
        "svg": _drawn(diagram_svg(layers, sizes, str(contents.run.get("name") or "network"))) if layers else None,
    }


def _columns(contents: RunContents) -> dict[str, object]:
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


def _provenance(contents: RunContents) -> list[tuple[str, str]]:
    """Return where the run comes from, as (what, value)."""
    run = contents.run
    threads = wording.plural(run.get("threads"), "thread")
    found = [
        ("command", " ".join(str(word) for word in entries(run, "command")) or wording.NOT_RECORDED),
        ("started", wording.moment_text(run.get("started"))),
        ("ended", wording.moment_text(run.get("ended")) if run.get("ended") else "not yet"),
        ("device", f"{run.get('device') or wording.NOT_RECORDED}, {threads}"),
        ("engine", ", ".join(str(run[name]) for name in ("engine", "played") if run.get(name)) or wording.NOT_RECORDED),
        ("waiting for rows", wording.duration_text(section(run, "seconds").get("waiting"))),
        ("data digest", str(section(run, "data").get("digest") or wording.NOT_RECORDED)),
        ("split digest", str(section(run, "split").get("digest") or wording.NOT_RECORDED)),
        ("netwright", str(run.get("netwright") or wording.NOT_RECORDED)),
    ]
    return found + [(str(name), str(version)) for name, version in section(run, "versions").items()]
