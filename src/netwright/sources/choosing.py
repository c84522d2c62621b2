"""From the arrays of one file to rows: which are inputs, which the target; columns with names make a table. Floor 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from netwright.errors import DataError, did_you_mean
from netwright.sources.arrays import NUMBERS, TEXTS, Array, Arrays, Stored
from netwright.sources.cache import fits
from netwright.sources.objects import side_by_side
from netwright.sources.tables import Origin, Table

TARGET_NAMES = ("target", "y", "label", "labels")
INPUT_NAMES = ("X", "x", "inputs", "data", "images")
PARTS = {"train": ("_train",), "valid": ("_valid", "_val"), "test": ("_test",)}  # X_train, y_train, ...; or train/X, ...
Found = Mapping[str, Stored]


def held(value: Array) -> Stored:
    """Return an array in memory as one that is read when it is asked for."""
    return Stored(value.shape, value.dtype, lambda: value)


def parts_of(found: Found) -> dict[str, dict[str, Stored]]:
    """Return the arrays of each part of a file that holds train rows and others apart; empty for another file."""
    parts: dict[str, dict[str, Stored]] = {}
    for key, stored in found.items():
        if (place := _part(key)) is not None:
            parts.setdefault(place[0], {})[place[1]] = stored
    return {part: parts[part] for part in PARTS if part in parts} if "train" in parts else {}


def choose_rows(
    found: Found,
    inputs: Sequence[str] | None,
    target: Sequence[str] | None,
    name: str,
    needed: bool,
    cache: str | None = None,
) -> Table | Arrays:
    """Sort the arrays of a file into inputs and target, and read them.

    Args:
        found: Arrays by name; a name may be a path, ``data/X``.
        inputs: Names of the inputs; default ``X``, ``x``, ``inputs``, ``data``, or the only other array.
        target: Names of the target; default ``y``, ``target``, ``label`` or ``labels``.
        name: The file, for messages.
        needed: Whether a missing target is an error.
        cache: A folder for copies of inputs that are packed and too large for memory.

    Returns:
        A table where the columns of all inputs have names, else arrays.

    Raises:
        DataError: A name is unknown, or the arrays differ in length.
    """
    answers = _answers(found, target, name, needed)
    if not inputs:
        _refuse_parts(found, name, needed)
    keys = _inputs(found, inputs, answers, name)
    for key in [*keys, *answers]:
        if not _is_plain(found[key]):
            found[key].read()  # tells why it is none
    rows = _same_rows(found, [*keys, *answers], name)
    columns = all(found[key].names for key in keys)
    for key in keys:
        if not columns and found[key].dtype.kind in TEXTS:
            raise DataError(f"{name}: array {key!r} holds {found[key].dtype}; expected numbers; convert it")
    used = {*keys, *answers}
    others = [key for key in found if key not in used and _is_column(found[key], rows)]
    if columns:
        return _table(found, keys, answers, others, name, inputs)
    notes = _left_parts(found, keys)
    read = {_plain(key, keys): kept(key, found[key], cache, notes) for key in keys}
    labels = [found[key].read() for key in answers]
    joined = labels[0] if len(labels) == 1 else side_by_side(labels, answers) if labels else None
    further = {key: found[key].read().reshape(-1) for key in others}
    return Arrays(read, joined, (Origin(name, rows),), others=further, notes=tuple(notes))


def kept(key: str, stored: Stored, cache: str | None, notes: list[str]) -> Array:
    """Return an input in memory, or mapped where it would take more than a quarter of the free memory."""
    size = stored.size * stored.dtype.itemsize
    if stored.mapped is None or fits(size):
        return stored.read()
    notes.append(
        f"array {key!r} takes {size / 1e9:.1f} GB, more than a quarter of the free memory: its rows are read from a map"
    )
    return stored.mapped(cache)


def declared_shape(found: Found, inputs: Sequence[str] | None, target: Sequence[str] | None) -> tuple[int, ...] | None:
    """Return the shape of one row of the inputs, from headers alone; None for a table or where inputs differ."""
    parts = {} if inputs else parts_of(found)
    found = parts.get("train", found)
    try:
        keys = _inputs(found, inputs, _answers(found, target, "", False), "")
    except DataError:
        return None  # told when the rows are read
    shapes = {found[key].shape[1:] for key in keys}
    return None if len(shapes) != 1 or all(found[key].names for key in keys) else shapes.pop()


def keys_of(found: Found, inputs: Sequence[str] | None, target: Sequence[str] | None, name: str) -> list[tuple[str, str]]:
    """Return the names of the input and of the target in a file, a pair for each part that it holds apart.

    Raises:
        DataError: Several inputs or targets, or none.
    """
    parts: dict[str, Found] = {} if inputs else dict(parts_of(found))
    pairs = []
    for part, members in (parts or {"": found}).items():
        answers = _answers(members, target, name, True)
        keys = _inputs(members, inputs, answers, name)
        if len(keys) != 1 or len(answers) != 1:
            raise DataError(
                f"{name}: arrays {', '.join([*keys, *answers])} came; expected one input and one target; save such"
            )
        whole = {
            (_part(key) or ("", key))[1] if part else key: key
            for key in found
            if not part or (_part(key) or ("",))[0] == part
        }
        pairs.append((whole[keys[0]], whole[answers[0]]))
    return pairs


def _part(key: str) -> tuple[str, str] | None:
    """Return the part that a name tells and the name without it."""
    folder, slash, rest = key.partition("/")
    for part, ends in PARTS.items():
        if slash and folder.lower() in {end[1:] for end in ends}:
            return part, rest
        for end in ends:
            if key.endswith(end):
                return part, key.removesuffix(end)
    return None


def _leaf(key: str) -> str:
    return key.rpartition("/")[2]


def _plain(key: str, keys: Sequence[str]) -> str:
    """Return the name of an input: the last part of its path where that is enough."""
    short = _leaf(key) if [_leaf(other) for other in keys].count(_leaf(key)) == 1 else key.replace("/", "_")
    return short.replace(".", "_")


def _is_plain(stored: Stored) -> bool:
    """Tell whether an array holds numbers or texts."""
    return stored.dtype.kind in NUMBERS + TEXTS


def _is_column(stored: Stored, rows: int) -> bool:
    return _is_plain(stored) and stored.size == rows and stored.ndim > 0 and stored.shape[0] == rows


def _usual(found: Found, names: Sequence[str]) -> list[str]:
    """Return the array that has a usual name, if one has."""
    for known in names:
        keys = [key for key in found if _leaf(key) == known]
        if len(keys) == 1:
            return keys
    return []


def _resolved(found: Found, wanted: str, name: str) -> list[str]:
    """Return the arrays that a name stands for: its own, those of a group, or the one with a column of this name."""
    key = wanted.strip("/")
    below = [other for other in found if other.startswith(key + "/")]
    owners = [other for other, stored in found.items() if wanted in stored.names]
    keys = [key] if key in found else below or owners[:1]
    if not keys:
        known = [*found, *(column for stored in found.values() for column in stored.names)]
        raise DataError(f"{name}: array {wanted!r} is missing; {did_you_mean(wanted, known)}")
    return keys


def _all_resolved(found: Found, wanted: Iterable[str], name: str) -> list[str]:
    return list(dict.fromkeys(key for one in wanted for key in _resolved(found, one, name)))


def _answers(found: Found, target: Sequence[str] | None, name: str, needed: bool) -> list[str]:
    """Return the arrays that hold the target; none where there is none and none is needed."""
    if target:
        try:
            return _all_resolved(found, target, name)
        except DataError:
            if needed:
                raise
            return []
    chosen = _usual(found, TARGET_NAMES)
    if not chosen and needed and not any(_part(key) for key in found):
        raise DataError(f"{name}: no target; the arrays are {', '.join(found)}; set data.target")
    return chosen


def _inputs(found: Found, inputs: Sequence[str] | None, answers: Sequence[str], name: str) -> list[str]:
    """Return the arrays to learn from."""
    if inputs:
        return [key for key in _all_resolved(found, inputs, name) if key not in answers or key in inputs]
    rest = {key: stored for key, stored in found.items() if key not in answers}
    keys = _usual(rest, INPUT_NAMES) or [key for key in rest if _is_plain(rest[key])] or list(rest)
    if len(keys) > 1 and answers:
        beside = [key for key in keys if key.rpartition("/")[0] == answers[0].rpartition("/")[0]]
        keys = beside if all(found[key].names and found[key].ndim == 1 for key in beside) and beside else keys
    if len(keys) != 1 and not (keys and all(found[key].names and found[key].ndim == 1 for key in keys)):
        raise DataError(f"{name}: arrays {', '.join(keys)} came; expected one input; set data.inputs")
    return keys


def _refuse_parts(found: Found, name: str, needed: bool) -> None:
    """Refuse the parts of a training file where one set of rows is read: nobody can tell which is meant."""
    parts = [key for key in found if _part(key) is not None]
    if parts and not any(_leaf(key) in INPUT_NAMES and key not in parts for key in found):
        advice = "save the test rows as X and y" if needed else "save the rows to predict as X"
        raise DataError(f"{name}: arrays {', '.join(parts)} came; expected one array of rows; {advice}")


def _left_parts(found: Found, keys: Sequence[str]) -> list[str]:
    """Tell of the rows to test on that a file holds beside the train rows which were named."""
    if not any((_part(key) or ("",))[0] == "train" for key in keys):
        return []
    left = [key for key in found if (_part(key) or ("train",))[0] != "train"]
    read = "with neither data.inputs nor data.target each part is read as what it is called"
    return [f"arrays {', '.join(left)} are left out; {read}"] if left else []


def _same_rows(found: Found, keys: Sequence[str], name: str) -> int:
    """Return the number of rows, which all arrays share."""
    first = found[keys[0]]
    rows = first.shape[0] if first.ndim else 0
    if first.ndim and not rows:
        raise DataError(f"{name}: array {keys[0]!r} has shape {first.shape}, no row; expected one or more; check the arrays")
    for key in keys:
        if found[key].ndim == 0 or found[key].shape[0] != rows or found[key].size == 0:
            raise DataError(
                f"{name}: array {key!r} has shape {found[key].shape}, {keys[0]!r} {first.shape}; "
                "expected one row each; check the arrays"
            )
    return rows


def _table(
    found: Found,
    keys: Sequence[str],
    answers: Sequence[str],
    others: Sequence[str],
    name: str,
    written: Sequence[str] | None,
) -> Table:
    """Return columns with names as a table."""
    every = [*keys, *answers, *others]
    sets = {key: _column_names(found[key], key) for key in every}
    flat = [column for names in sets.values() for column in names]
    if len(set(flat)) != len(flat):
        sets = {key: tuple(f"{key}/{column}" for column in names) for key, names in sets.items()}
    columns: dict[str, pa.Array] = {}
    for key, names in sets.items():
        values = found[key].read().reshape(found[key].shape[0], -1)
        columns |= {column: _column(values[:, place]) for place, column in enumerate(names)}
    inputs = tuple(column for key in keys for column in sets[key])
    groups = {one: inputs for one in written or () if one.strip("/") not in found and one not in inputs}
    if answers and "target" not in columns:
        groups["target"] = tuple(column for key in answers for column in sets[key])
    paths = {spelled: names for key, names in sets.items() for spelled in (key, f"/{key}")}
    table = pa.table(columns)
    return Table(table, (Origin(name, table.num_rows),), inputs, {**groups, **paths})


def _column_names(stored: Stored, key: str) -> tuple[str, ...]:
    """Return the names of the columns of an array; an array without gives its own."""
    width = stored.size // stored.shape[0]
    if len(stored.names) == width:
        return stored.names
    return (_leaf(key),) if width == 1 else tuple(f"{_leaf(key)}_{place + 1}" for place in range(width))


def _column(values: Array) -> pa.Array:
    if values.dtype.kind == "U":
        return pa.array(values.tolist(), pa.string())
    return pa.array(values.astype(np.float32) if values.dtype == np.float16 else values)
