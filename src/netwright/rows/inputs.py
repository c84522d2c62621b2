"""From settings to prepared rows: read, target, split, preparation; nothing is fitted on valid or test rows.

Floor 11.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from netwright.config.data_schema import DataConfig
from netwright.config.schema import RunConfig
from netwright.data import targets
from netwright.data.augmentation import Reread
from netwright.data.mapped import Mapped
from netwright.data.preparation import Preparation
from netwright.data.splits import Split
from netwright.data.targets import Target
from netwright.errors import ConfigError, DataError
from netwright.model.layers import AXES, Form, layouts_read
from netwright.model.recipes import Recipe
from netwright.numerals import counted
from netwright.rows import pictures, windows
from netwright.rows.filling import all_train, filled, recipe_of
from netwright.rows.fitting import fit
from netwright.rows.mapping import ingest
from netwright.rows.reading import Source, markers_of, names_of, read
from netwright.rows.splitting import make_split
from netwright.rows.windows import Past
from netwright.sources.arrays import Arrays
from netwright.sources.headers import header_hint
from netwright.sources.image_files import ImageFiles
from netwright.sources.sequences import Raw, Sequences, table_notes
from netwright.sources.tables import Table

MOST_LIKELY_CLASSES = 100
FEW = 1000  # train rows by which nearly every target is told from a constant one
SMALLEST_TEST = 30  # below this many rows a test figure says little


@dataclass(frozen=True)
class Inputs:
    """All rows of a run: raw, target, split, preparation, and what to tell the user.

    ``past`` holds, for windows of a series, what is known of the target before the step asked for. ``reread`` reads a train
    row anew where the rows are a Dataset that changes them at random. ``recipe`` is that of a default network. ``parts`` names
    the parts that stood apart where the rows were read: in files, folders or arrays of their own.
    """

    raw: Raw | Mapped
    target: Target
    split: Split
    preparation: Preparation
    digest: str
    source: str
    notes: tuple[str, ...]
    past: Past | None = None
    reread: Reread | None = None
    recipe: Recipe | None = None
    parts: tuple[str, ...] = ()

    def forms(self, sample: dict[str, torch.Tensor]) -> dict[str, Form]:
        """Return the form of one row of each prepared input."""
        return {
            name: Form(tuple(value.shape[1:]), self.preparation.layout(name), value.dtype == torch.int64)
            for name, value in sample.items()
        }


def load(
    config: RunConfig, objects: Any = None, implied: str | None = None, own: bool = False, watched: bool = False
) -> Inputs:
    """Read, split and fit, without writing anything.

    Args:
        config: The settings.
        objects: Rows from Python instead of ``data.source``.
        implied: The task that the loss leaves no doubt about, or None.
        own: Whether the network is a module from Python.
        watched: Whether something that is not in the settings reads figures of valid rows.

    Raises:
        ConfigError, DataError: See the stages.
    """
    rows = read(config.data, objects)
    axes: list[str] = []
    if not isinstance(rows.raw, ImageFiles):
        raw, axes = _with_axes(config, rows.raw)
        rows = replace(rows, raw=raw)
    found = _divided(config.data, rows, implied)
    recipe = None if own else recipe_of(config, found.raw, len(found.split.train), found.target)
    if recipe is not None and not watched and all_train(config, recipe, rows.parts or (), found.split, found.target.task):
        found = _divided(filled(config, replace(recipe, all_train=True)).data, rows, implied)
        recipe = recipe_of(config, found.raw, len(found.split.train), found.target)
        recipe = None if recipe is None else replace(recipe, all_train=True)
        axes.append(
            f"{counted(found.split.train, 'row')} to learn from, too few to set some apart: none validates, and the run ends after "
            "its epochs; data.split.valid = 0.2 sets a fifth apart"
        )
    hidden = () if config.data.window is not None else found.target.names  # the past of a target may be read
    if config.evaluation.season is not None and found.past is None:
        raise ConfigError(
            f"evaluation.season: {config.evaluation.season} came; it is that of a series whose numbers are forecast (data.window); "
            "leave it out"
        )
    kept: Raw | Mapped = found.raw
    config = filled(config, recipe)
    if rows.blocks is None:
        fitted, more = fit(config, found.raw, hidden, found.split.train)
    else:
        kept, fitted, more = ingest(config, rows, rows.blocks, hidden, found.split.train)
        found = _off_memory(found, kept)
    notes = [*axes, *_task_notes(config.data.task or implied, found.target), *found.notes, *more]
    if 0 < len(found.split.test) < SMALLEST_TEST:
        notes.append(f"only {counted(found.split.test, 'test row')}: the test figure will be rough")
    how = found.raw.notes if isinstance(found.raw, Arrays) else table_notes(found.raw)
    notes = [*rows.notes, *how, *notes]
    return Inputs(
        kept, found.target, found.split, fitted, rows.digest, rows.name, tuple(notes), found.past, rows.reread, recipe,
        tuple(rows.parts or ()),
    )  # fmt: skip


@dataclass(frozen=True)
class _Divided:
    """Rows with target and split."""

    raw: Raw
    target: Target
    split: Split
    notes: list[str]
    past: Past | None = None


def _off_memory(found: _Divided, rows: Mapped) -> _Divided:
    """Return target and split as maps beside the map of the rows."""
    parts = found.split
    split = replace(parts, train=rows.beside(parts.train), valid=rows.beside(parts.valid), test=rows.beside(parts.test))
    return replace(found, target=replace(found.target, values=rows.beside(found.target.values)), split=split)


def _divided(data: DataConfig, rows: Source, implied: str | None) -> _Divided:
    """Return rows with target and split, by what they are."""
    if isinstance(rows.raw, ImageFiles):
        return _images(data, rows.raw, rows, implied)
    return _windows(data, rows.raw, rows) if data.window is not None else _rows(data, rows.raw, rows, implied)


def _windows(data: DataConfig, raw: Raw, rows: Source) -> _Divided:
    """Return windows over a time series or a text."""
    text = isinstance(raw, Sequences) and bool(raw.symbols)
    names = [] if text else list(rows.target) if rows.target is not None else target_names(data, raw)
    made, split, notes = windows.cut(data, raw, names, rows.parts)
    return _Divided(made.raw, made.target, split, notes, made.past)


def _rows(data: DataConfig, raw: Raw, rows: Source, implied: str | None) -> _Divided:
    """Return rows that stand for themselves."""
    names = list(rows.target) if rows.target is not None else target_names(data, raw)
    target = read_target(data, raw, names, data.task, data.classes)
    if data.task is None and data.classes is None and _loss_decides(implied, target):
        several = "multilabel" if len(names) > 1 else "binary"
        target = read_target(data, raw, names, "regression" if implied == "regression" else several)
    known = raw.about if isinstance(raw, Sequences) and raw.about is not None else raw
    if isinstance(known, Sequences):
        raise ConfigError("data: sequences without labels came; expected a label each or per step; set data.target")
    split, notes = make_split(data, known, target, rows.parts, markers_of(data))
    hint = _header_hint(data, known)
    return _Divided(raw, target, split, [*notes, f"{known.origins[0].name}: {hint}"] if hint else notes)


def _images(data: DataConfig, images: ImageFiles, rows: Source, implied: str | None) -> _Divided:
    """Return images: divided by what is known of them, then read as the train rows decide."""
    found = _rows(data, images.about, rows, implied)
    raw = pictures.decoded(images, data, found.split.train)
    return replace(found, raw=raw)


def read_target(data: DataConfig, raw: Raw, names: list[str], task: str | None, classes: Any = None) -> Target:
    """Read the target of rows, or of each of their steps.

    Raises:
        ConfigError: Several labels per step.
    """
    if not isinstance(raw, Sequences):
        return targets.read_target(raw, names, task, data.labels, markers_of(data), classes)
    found = targets.read_target(raw.labelled, names, task, data.labels, markers_of(data), classes)
    if raw.per_step and found.task == "multilabel":
        raise ConfigError(
            f"data.target: {len(found.classes)} labels per step came; expected one class or numbers per step; choose one column, "
            'or set data.task = "regression"'
        )
    return replace(found, sequences=raw) if raw.per_step else found


def refuse_no_counts(data: DataConfig, raw: Raw | Mapped, target: Target) -> None:
    """Refuse a target that holds no counts where the loss expects such.

    Raises:
        DataError: A value is below zero or no whole number; row and column are named.
    """
    bad = (target.values < 0) | (target.values != np.round(target.values))
    if not bad.any():
        return
    row, column = (int(place) for place in np.argwhere(bad)[0])
    value = f"target {target.names[min(column, len(target.names) - 1)]!r}: {target.values[row, column]:g} is no count"
    if isinstance(raw, Sequences) and (target.per_step or data.window is not None):
        step = row if target.per_step else int(raw.starts[row] + raw.lengths[row]) - 1 + (data.horizon or 1)
        where = raw.steps.place(step)
    elif isinstance(raw, Mapped):
        where = f"row {row + 1}"
    else:
        where = raw.place(row)
    raise DataError(
        f"{where}: {value} ({int(bad.sum())} such values); PoissonNLLLoss expects whole numbers from 0; mend the cell or choose "
        "another loss"
    )


def refuse_constant(inputs: Inputs, own: bool) -> None:
    """Refuse numbers of which the train rows hold one only, as one class is refused; of several outputs one may be constant.

    Args:
        inputs: All rows.
        own: Whether code of one's own trains; it may want a target of zeros, such as a residual.

    Raises:
        DataError: All train rows have the same target.
    """
    target, train = inputs.target, inputs.split.train
    if own or target.task != "regression" or len(train) < 2:
        return
    if not _all_alike(target.of(train[:FEW])) or not _all_alike(target.of(train)):
        return
    name, value = target.names[0], float(target.of(train[:1]).flat[0])
    raise DataError(
        f"{inputs.source}: target {name!r} holds one value only ({value:g}, {counted(train, 'train row')}); expected two or more; "
        "choose another target"
    )


def _all_alike(values: npt.NDArray[Any]) -> bool:
    return bool((values == values[:1]).all())


def _with_axes(config: RunConfig, raw: Raw) -> tuple[Raw, list[str]]:
    """Return arrays with what their axes mean where the first layer tells or the default network must guess."""
    if not isinstance(raw, Arrays) or raw.layout is not None or len(raw.inputs) != 1:
        return raw, []
    shape = next(iter(raw.inputs.values())).shape[1:]
    calls = config.layer_calls()
    if len(shape) == 2 and calls is not None:
        layout = next((read for read in layouts_read(calls[0]) if read in ("NTC", "NCT")), None)
        return (raw if layout is None or calls[0].name == "Transpose" else replace(raw, layout=layout)), []
    form = f"(N, {', '.join(str(size) for size in shape)})"
    advice = "set data.layout if they mean something else"
    if len(shape) == 2 and config.model.module is None and config.model.object is None:
        layout = "NCT" if shape[0] <= shape[1] else "NTC"
        return replace(raw, layout=layout), [f"the axes {form} are read as {AXES[layout]} = {layout}; {advice}"]
    if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4):
        return raw, [
            f'the axes {form} are read as {AXES["NCHW"]}; if the last one holds the channels, set data.layout = "NHWC"'
        ]
    return raw, []


def _loss_decides(implied: str | None, target: Target) -> bool:
    """Tell whether the loss asks for another task that the target allows: numbers, or two of them as classes or labels."""
    if implied == "regression" and target.task == "multilabel":
        return len(target.names) > 1
    if implied == "regression":
        return bool(target.classes) and all(type(label) in (int, float) for label in target.classes)
    return implied in ("binary", "multilabel") and target.task == "regression" and len(np.unique(target.values)) == 2


def _task_notes(told: str | None, target: Target) -> list[str]:
    """Tell how a target was read where it could be read otherwise."""
    values = target.values
    if told is None and target.task == "regression" and values.shape[1] > 1 and np.isin(values, (0.0, 1.0)).all():
        alone = (
            "; for classes give one column of them, of a matrix its argmax(axis=1)"
            if (values.sum(axis=1) == 1).all()
            else ""
        )
        return [
            f"the {values.shape[1]} target columns hold fractions that are all 0 or 1 and are read as quantities; for labels set "
            f'data.task = "multilabel"{alone}'
        ]
    if told is None and target.task == "regression" and values.shape[1] == 1:
        distinct = np.unique(values)
        if 1 < len(distinct) <= MOST_LIKELY_CLASSES and (distinct == np.round(distinct)).all():
            return [
                f"target {target.names[0]!r} holds {len(distinct)} different whole numbers and is read as a quantity; "
                'for classes set data.task = "multiclass"'
            ]
    return []


def target_names(data: DataConfig, raw: Raw) -> list[str]:
    """Return the names of the target columns.

    Raises:
        ConfigError: A table came without ``data.target``.
    """
    names = names_of(data.target)
    if isinstance(raw, Sequences):
        return target_names(data, raw.labelled)
    if isinstance(raw, Arrays):
        count = 1 if raw.target is None or raw.target.ndim == 1 or raw.labels else raw.target.shape[1]
        return (
            list(names)
            if names and len(names) == count
            else (["target"] if count == 1 else [f"target_{place + 1}" for place in range(count)])
        )
    if names is not None:
        return raw.spread(names)
    if "target" in raw.names or "target" in raw.sets:
        return raw.spread(["target"])
    if data.source is not None and data.source == "sklearn:linnerud":
        return raw.names[-3:]
    shown = ", ".join(raw.names[:12]) + (", ..." if len(raw.names) > 12 else "")
    hint = f"; {told}" if (told := _header_hint(data, raw)) else ""
    raise ConfigError(
        f"data.target: nothing came; expected one of the columns {shown}; set data.target (--target NAME, in Python target='NAME')"
        f"{hint}"
    )


def _header_hint(data: DataConfig, raw: Raw) -> str:
    """Return the advice where the names of a file of lines, which the user has not given, look like a row of data."""
    if not isinstance(raw, Table) or not raw.origins or raw.origins[0].line_of is None:
        return ""
    return header_hint(raw.names) if not data.columns and data.header is not False else ""
