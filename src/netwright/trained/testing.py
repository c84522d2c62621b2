"""Testing a run: its own rows read again, what the network gives for labelled rows, and what that says of it. Floor 13."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.config.calls import OBJECT
from netwright.config.data_schema import DataConfig
from netwright.config.schema import RunConfig
from netwright.config.values import is_address
from netwright.errors import CheckpointError, DataError, DivergedError, NetwrightError
from netwright.evaluation.own_metrics import figures_told, intervals_of, twin_of
from netwright.evaluation.resampling import block_length, blocks_of
from netwright.evaluation.testing import Drawn, Verdict, all_figures, bounds_told
from netwright.model.losses import loss_of_each
from netwright.pipeline.custom import left_out
from netwright.rows.inputs import Inputs, load
from netwright.rows.reading import files_of, read
from netwright.runfolder import folder as folders
from netwright.sources import labels
from netwright.sources.opening import BUNDLED
from netwright.sources.places import places_of
from netwright.sources.sequences import Sequences
from netwright.trained.known import Known
from netwright.trained.slicing import group_numbers

Rows = npt.NDArray[np.int64]


def from_python(config: RunConfig) -> bool:
    """Tell whether a run was trained on Python objects, which nobody but its user has."""
    return (config.data.source or "").startswith(OBJECT)


def are_own(config: RunConfig, record: dict[str, Any], objects: Any) -> bool:
    """Tell whether rows are the Python objects that a run was trained on."""
    if not from_python(config) or isinstance(objects, str | Path):
        return False
    try:
        return read(config.data, objects).digest == str(record.get("data", {}).get("digest"))
    except NetwrightError:  # rows of another form, which are read as new ones
        return False


def put_back(config: RunConfig) -> str:
    """Return what comes before testing a run's own rows where they are gone, as the beginning of an advice; else nothing."""
    place = gone(config.data)
    return "" if place is None else f"put them back to {place}, where they were read, and "


def gone(data: DataConfig) -> str | None:
    """Return which file or folder of a run's rows is not where it was, and its setting; None where none is known to be gone.

    What lies at an address is taken for granted: why it is not reached, its error tells.
    """
    named = files_of(data) | ({} if data.join is None else {"join": data.join})
    for setting, name in named.items():
        if name.startswith((BUNDLED, OBJECT)) or is_address(name):
            continue
        try:
            there = any(place.exists() for place in places_of(name))
        except DataError:  # no file matches; an archive that is damaged is there
            there = not glob.has_magic(name)
        if not there:
            return f"{name} (data.{setting})"
    return None


def own_inputs(folder: Path, config: RunConfig, record: dict[str, Any], objects: Any = None) -> Inputs:
    """Read the run's own data again, and refuse other data than those it was trained on.

    Args:
        folder: Of the run.
        config: Resolved.
        record: run.json.
        objects: The rows, of a run that was trained on Python objects.

    Raises:
        DataError: They are gone, or cannot be read.
        CheckpointError: They changed, or were Python objects.
    """
    if config.data.source is None and not (folder / folders.RECORD).is_file():
        raise CheckpointError(
            f"{folder}: a bundle came, which does not know where the rows of its run are; expected the run, or rows to test on: "
            f"netwright test {folder} DATA"
        )
    if from_python(config) and objects is None:
        raise CheckpointError(
            f"{folder}: the run was trained on Python objects, which it does not hold; expected the same ones, whose test rows are "
            f"then tested: in Python nw.load({str(folder)!r}).test(data); or a file of new rows: netwright test {folder} DATA"
        )
    try:
        inputs = load(config, objects)
    except DataError as error:
        if objects is not None or (place := gone(config.data)) is None:
            raise
        raise DataError(
            f"{folder}: the run read its rows from {place}, which is not there; expected the same rows there; put them back, or "
            "test other labelled rows: netwright test RUN DATA"
        ) from error
    if "digest" not in record.get("data", {}):
        raise CheckpointError(f"{folder}/run.json: no data digest; expected the record of a run; check the file")
    if inputs.digest != record["data"]["digest"]:
        raise CheckpointError(
            f"{inputs.source}: the data changed since training ({record['data']['digest'][:19]} -> "
            f"{inputs.digest[:19]}); expected the same file; put it back, or name the new file as DATA"
        )
    saved = folders.read_split(folder)
    if saved.digest() != inputs.split.digest():
        raise CheckpointError(f"{folder}: split.npz is not the split of its config; expected equal; check the run")
    return inputs


def judge(folder: Path, known: Known, rows: Rows) -> tuple[dict[str, Any], Verdict]:
    """Return the figures of labelled rows, and what the network gave for them.

    Args:
        folder: Of the run.
        known: The network, its rows and the target.
        rows: Which of them.

    Raises:
        DivergedError: A decoded output is not finite.
    """
    scores = known.scores(rows)
    decoded = known.decoded(scores.outputs)
    if not np.isfinite(decoded).all():
        count = int((~np.isfinite(decoded)).any(axis=1).sum())
        raise DivergedError(
            f"{folder}: the network gives no finite value for {count} of {len(rows)} rows; expected finite outputs; "
            "train with a lower learning rate"
        )
    target, decoding = known.target, known.program.outcome.decoding
    verdict = Verdict(target.task, target.of(rows), decoded, decoding, drawn_together(known, rows))
    losses = loss_of_each(known.task.loss_function, scores.outputs, known.task.spell_target(verdict.true))
    if losses is not None and not np.isclose(float(losses.mean()), scores.loss, rtol=1e-4, atol=1e-6):
        losses = None  # the mean of the loss is another than that over the rows
    shown = [labels.shown(label) for label in target.classes]
    found = all_figures(verdict, scores.loss, shown, None if losses is None else losses.numpy())
    return {"n": len(verdict.true), **with_own_figures(found, known, verdict)}, verdict


def with_own_figures(found: dict[str, Any], known: Known, verdict: Verdict) -> dict[str, Any]:
    """Add the figures of one's own, with their intervals, and notes on those that could not be had."""
    lost = [f"metrics: {name}: a Python object; it is left out here" for name in left_out(known.config, known.metrics)]
    if not known.metrics and not lost:
        return found
    drawn, notes = verdict.drawn, list(lost)
    kind, true, decoded = verdict.kind, verdict.true, verdict.decoded
    figures = figures_told(known.metrics, kind, true, decoded, lambda name, text: notes.append(text))
    twins = {metric.name: twin for metric in known.metrics if (twin := twin_of(metric, figures, found["metrics"]))}
    alone = [metric for metric in known.metrics if metric.name not in twins]
    bounds = intervals_of(alone, kind, true, decoded, None if drawn is None else drawn.clusters)
    finite = {name: value for name, value in figures.items() if np.isfinite(value)}  # JSON holds no NaN
    told = {name: {"value": value, **bounds_told(bounds.get(name))} for name, value in finite.items()} | twins
    return {**found, "metrics": {**found["metrics"], **told}, "notes": [*found.get("notes", []), *notes]}


def drawn_together(known: Known, rows: Rows) -> Drawn | None:
    """Return which rows are no independent draws: the steps of a row, the rows of a group, neighbours in a series.

    Errors of forecasts are alike over the steps between forecast and answer at least; blocks of the series are drawn
    (Carlstein, The use of subseries values for estimating the variance of a general statistic, 1986).
    """
    raw, data = known.raw, known.config.data
    groups = group_numbers(known, rows)
    if known.target.per_step and isinstance(raw, Sequences):
        numbers = np.arange(len(rows)) if groups is None else groups
        return Drawn(np.repeat(numbers, raw.lengths[rows]), "steps of a row" if groups is None else str(data.split.group))
    if groups is not None:
        return Drawn(groups, str(data.split.group))
    if data.window is None or not isinstance(raw, Sequences):
        return None
    return neighbours(data, raw.starts[rows], None if raw.series is None else raw.series[rows])


def neighbours(data: DataConfig, places: Rows, series: Rows | None = None) -> Drawn | None:
    """Return which windows are drawn together: those of a series where groups divide them, else blocks of it.

    Args:
        data: The settings; ``window`` is written.
        places: Where each window stands among the steps of all series, rising ``(rows,)``.
        series: The number of the series of each ``(rows,)``; None where it is not known: a jump of the places tells it.
    """
    stride = data.stride or 1
    if data.split.group is not None:  # a series each: its column is not among the steps
        return Drawn(blocks_of(places, len(places), stride, series), data.split.group)
    length = block_length(len(places), data.horizon or 1)
    return Drawn(blocks_of(places, length, stride, series), f"blocks of {length} steps") if length > 1 else None
