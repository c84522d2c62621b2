"""From settings to a fitted preparation: columns learned, numbers scaled, symbols counted, on the train rows only. Floor 11."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from netwright.config import signatures
from netwright.config.data_schema import DataConfig, PreparationConfig
from netwright.config.schema import RunConfig
from netwright.data import columns, preparation
from netwright.data.array_preparation import CHUNK
from netwright.data.column import Column
from netwright.data.preparation import Preparation
from netwright.errors import ConfigError, DataError, did_you_mean
from netwright.model.layers import CODE_LAYERS, layouts_read
from netwright.rows.raw_rows import unseen
from netwright.rows.reading import markers_of, names_of
from netwright.sources import cells, sequences
from netwright.sources.arrays import Arrays
from netwright.sources.sequences import Raw, Sequences, StepForm
from netwright.sources.tables import Table

Rows = npt.NDArray[np.int64]
OF_COLUMNS = {  # settings that say nothing of arrays: what these have instead, and what to do
    "ignore": "are taken whole; expected no names; leave columns out of the arrays before they are handed over",
    "missing_values": "have NaN for what is missing; expected none; write NaN in place of such numbers",
    "kinds": "hold numbers alone; expected none; hand the rows over as a frame, whose columns have kinds",
    "columns": "have no columns with names; leave it out, or hand the rows over as a frame",
    "header": "have no lines of text; leave it out",
    "delimiter": "have no lines of text; leave it out",
    "decimal": "hold numbers and no texts; leave it out",
    "thousands": "hold numbers and no texts; leave it out",
    "sheet": "have no sheets; leave it out",
    "preparation.rare": "have no categories; leave it out, or hand the rows over as a frame",
    "inputs": "are called {names}; expected such names, or none to read all",
}


def fit(config: RunConfig, raw: Raw, target: Sequence[str], train: Rows) -> tuple[Preparation, list[str]]:
    """Return the preparation fitted on the train rows, and remarks.

    Args:
        config: The settings.
        raw: All rows.
        target: The columns a network may not read.
        train: The train rows.
    """
    if isinstance(raw, Sequences):
        return _fit_sequences(config, raw, target, train)
    if isinstance(raw, Arrays):
        _refuse_columns(config.data, raw)
        return _fit_arrays(config, raw, train)
    return _fit_table(config, raw, target, train)


def _fit_sequences(config: RunConfig, raw: Sequences, target: Sequence[str], train: Rows) -> tuple[Preparation, list[str]]:
    """Fit on the steps of the train rows."""
    uniform = bool((raw.lengths == raw.lengths[0]).all())
    rungs = tuple(config.data.rungs or sequences.rungs_of(raw.lengths))
    form = StepForm(_channels_first(config, raw, uniform), rungs, raw.per_step)
    if raw.symbols:
        vocabulary = sequences.learn_vocabulary(raw, train)
        form = replace(form, vocabulary=vocabulary, channels_first=False)
        coded = form.coded(raw)
        fitted = preparation.fit_arrays(coded, train[:0], "codes", len(vocabulary) + 1)  # type: ignore[arg-type]
        unknown = len(raw.symbols) - len(vocabulary)
        notes = [f"text: {unknown} of {len(raw.symbols)} symbols are not among the train rows and count as unknown"]
        return replace(fitted, steps=form), notes if unknown else []
    steps = raw.steps_in(train)
    if isinstance(raw.steps, Table):
        known = raw.about.names if isinstance(raw.about, Table) else []
        fitted, notes = _fit_table(config, raw.steps, target, steps, known)
    else:
        one_each = _whole(raw.steps) and all(values.ndim == 1 for values in raw.steps.inputs.values())
        one_code = one_each and config.data.window is None and _undescribed(config)
        if one_code:
            form = replace(form, channels_first=False)
        elif one_each and form.channels_first:
            raise ConfigError(
                f"model: {_first_layer(config) or 'data.layout NCT'} came, which reads channels, and the data give one whole "
                "number per step; put Embedding(...) first, or hand over floats"
            )
        fitted, notes = _fit_arrays(config, replace(raw.steps, layout=None), steps, one_code)
    return replace(fitted, steps=form), notes


def _channels_first(config: RunConfig, raw: Sequences, uniform: bool) -> bool:
    """Tell whether the network reads (N, channels, time): as written, as the first layer does, or as its default does."""
    if config.data.layout is not None:
        if config.data.layout not in ("NTC", "NCT"):
            raise ConfigError(f"data.layout: {config.data.layout} came; sequences are NTC or NCT; leave it out")
        return config.data.layout == "NCT"
    calls = config.layer_calls()
    if calls is not None:
        return "NCT" in layouts_read(calls[0]) and calls[0].name != "Transpose"
    own = config.model.module is not None or config.model.object is not None
    return uniform and not own and not raw.per_step and config.data.window is None


def _fit_arrays(config: RunConfig, raw: Arrays, train: Rows, one_code: bool = False) -> tuple[Preparation, list[str]]:
    """Fit on the train rows; with ``one_code`` whole numbers are the codes of steps, one each, for the default network."""
    mode = "codes" if one_code else _array_mode(config, raw)
    limit = _code_limit(config, raw, train) if mode == "codes" else None
    notes = (
        [f"sequences of whole numbers are read as {limit} codes; hand over floats where they are amounts"]
        if one_code
        else []
    )
    return preparation.fit_arrays(raw, train, mode, limit), [*notes, *_missing_notes(config.data, raw, mode)]


def _refuse_columns(data: DataConfig, raw: Arrays) -> None:
    """Refuse settings about columns, where arrays came: they would do nothing.

    Raises:
        ConfigError: Naming the first.
    """
    own = data.preparation
    written = {
        "ignore": data.ignore,
        "missing_values": [repr(text) for text in data.missing_values or ()],
        "kinds": list(data.kinds),
        "columns": data.columns,
        "header": data.header is not None and [str(data.header).lower()],
        "delimiter": data.delimiter and [repr(data.delimiter)],
        "decimal": data.decimal != "." and [repr(data.decimal)],
        "thousands": data.thousands and [repr(data.thousands)],
        "sheet": data.sheet and [data.sheet],
        "preparation.rare": isinstance(own, PreparationConfig) and own.rare > 1 and [str(own.rare)],
        "inputs": [name for name in names_of(data.inputs) or () if name.rpartition("/")[2] not in raw.inputs],
    }
    for name, came in written.items():
        if came:
            advice = OF_COLUMNS[name].format(names=", ".join(raw.inputs))
            raise ConfigError(f"data.{name}: {', '.join(came[:3])} came, of arrays, which {advice}")


def _whole(raw: Arrays) -> bool:
    return all(values.dtype.kind in "iu" for values in raw.inputs.values())


def _undescribed(config: RunConfig) -> bool:
    """Tell whether the network is the default one."""
    model = config.model
    return config.layer_calls() is None and model.module is None and model.object is None and model.backbone is None


def _fit_table(
    config: RunConfig, raw: Table, target: Sequence[str], train: Rows, further: Sequence[str] = ()
) -> tuple[Preparation, list[str]]:
    """Fit on the train rows of a table; ``further`` columns are known of the data but are no inputs."""
    settings = config.data.preparation
    rare = settings.rare if isinstance(settings, PreparationConfig) else 1
    names = input_columns(config.data, raw, target, further)
    encoder, notes = columns.learn_columns(raw, train, names, config.data.kinds, markers_of(config.data), rare)
    _refuse_missing(config.data, raw, encoder)
    numbers = settings.numbers if isinstance(settings, PreparationConfig) else "none"
    fitted = preparation.fit_table(raw, train, encoder, numbers, codes_wanted(config, encoder))
    found = fitted.encoder or encoder
    return fitted, [*notes, *unseen(found, found.unknown(raw), "train")]


def input_columns(data: DataConfig, raw: Table, target: Sequence[str], further: Sequence[str] = ()) -> list[str]:
    """Return the columns to learn from; ``further`` ones are known of the data but are no inputs.

    Raises:
        ConfigError: The target is among them.
        DataError: A column is missing.
    """
    named = names_of(data.inputs) or raw.inputs
    names = [name for name in raw.names if name not in target] if named is None else raw.spread(named)
    for name in [*names, *data.ignore]:
        if name not in raw.names and name not in further:
            raise DataError(f"{raw.origins[0].name}: column {name!r} is missing; {did_you_mean(name, raw.names)}")
        if name in target and name in names:
            raise ConfigError(f"data.inputs: {name!r} is the target; a network may not read its target; leave it out")
    left_out = {*data.ignore, *([data.split.group] if data.split.group and data.inputs is None else [])}
    return [name for name in names if name not in left_out and name in raw.names]


def _refuse_missing(data: DataConfig, raw: Table, encoder: columns.TableEncoder) -> None:
    if data.missing != "error":
        return
    for column in encoder.used:
        if column.missing:
            values = cells.clean(raw.columns[column.name], encoder.markers)
            row = int(np.flatnonzero(np.asarray(values.is_null(nan_is_null=True)))[0])
            raise missing_cell(raw.place(row), column)


def missing_cell(place: str, column: Column) -> DataError:
    """Return the error of a missing cell where none may be."""
    return DataError(
        f'{place}: column {column.name!r} is missing ({column.missing} such cells) and data.missing = "error"; '
        'mend the cells or set data.missing = "fill"'
    )


def _first_layer(config: RunConfig) -> str | None:
    """Return the name of the first layer, or None without a list."""
    calls = config.layer_calls()
    return None if calls is None else calls[0].name


def codes_wanted(config: RunConfig, encoder: columns.TableEncoder) -> bool:
    """Categories stay codes for EmbedColumns() as layer 0; the default network writes it. Steps are one-hot."""
    if not any(column.kind == "category" for column in encoder.used) or config.data.of_steps:
        return False
    first = _first_layer(config)
    if first is None:
        return config.model.module is None and config.model.object is None
    return first == "EmbedColumns"


def _array_mode(config: RunConfig, raw: Arrays) -> str:
    """Whole numbers stay codes for an Embedding as first layer, or for an own module without preparation."""
    whole = _whole(raw)
    first = _first_layer(config)
    if whole and first in CODE_LAYERS:
        return "codes"
    if config.data.preparation == "none":
        words = all(values.dtype.itemsize >= 4 for values in raw.inputs.values())
        return "codes" if whole and words and first is None else "none"
    numbers = config.data.preparation.numbers
    if numbers == "quantile":
        raise ConfigError('data.preparation.numbers: "quantile" is for tables; arrays take "standardize" or "none"')
    return numbers


def _code_limit(config: RunConfig, raw: Arrays, train: Rows) -> int | None:
    """Return the number of codes of an Embedding: as written, else those of the train rows."""
    calls = config.layer_calls()
    if calls is None and not _undescribed(config):
        return None
    values = next(iter(raw.inputs.values()))
    if calls is None:  # the default network
        return int(values[train].max()) + 1
    written = signatures.bind(calls[0], signatures.layers(), "model.layers.0").get("num_embeddings")
    return int(written) if written is not None else int(values[train].max()) + 1


def _missing_notes(data: DataConfig, raw: Arrays, mode: str) -> list[str]:
    """Tell of missing numbers in arrays, or refuse them where the settings do."""
    notes = []
    for name, values in raw.inputs.items():
        starts = range(0, len(values), CHUNK) if values.dtype.kind == "f" else ()
        found = [int(np.isnan(values[start : start + CHUNK]).sum()) for start in starts]
        missing = sum(found)
        if missing and data.missing == "error":
            start = starts[next(place for place, count in enumerate(found) if count)]
            row = start + int(np.argwhere(np.isnan(values[start : start + CHUNK]))[0][0])
            raise DataError(
                f'{raw.place(row)}: array {name!r} is missing ({missing} such numbers) and data.missing = "error"; '
                'mend them or set data.missing = "fill"'
            )
        if missing:
            filled = "read as 0 (preparation = none)" if mode == "none" else "filled with the mean"
            notes.append(f"array {name!r}: {missing} missing numbers (NaN) are {filled}")
    return notes
