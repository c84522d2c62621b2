"""Files of a single array, whose labels lie in a file beside them: npy and MNIST's idx. Floor 2."""

from __future__ import annotations

import re
from collections.abc import Sequence

from netwright.errors import DataError
from netwright.sources import arrays, choosing
from netwright.sources.arrays import Arrays
from netwright.sources.places import Place
from netwright.sources.sequences import Raw
from netwright.sources.tables import Origin


def is_idx(place: Place) -> bool:
    """Tell whether a name is one of MNIST's: images-idx3-ubyte, packed by gzip or not."""
    return re.search(r"idx\d?(-ubyte)?$", place.name.lower().removesuffix(".gz")) is not None


def is_labels(place: Place) -> bool:
    """Tell whether a name is that of labels in MNIST's spelling."""
    return re.search(r"labels[-.]idx1", place.name.lower()) is not None


def idx_layout(axes: int) -> str | None:
    """Return what the axes of an idx file mean."""
    return "NHW" if axes == 3 else None


def labels_beside(place: Place, target: Sequence[str] | None) -> Place | None:
    """Return the file of labels beside an array, by the name that the user wrote or MNIST's."""
    beside = place.parent.child(target[0]) if target else None
    return beside if beside is not None and beside.is_file() else arrays.idx_labels(place)


def read_npy(place: Place, target: Sequence[str] | None, needed: bool, cache: str | None) -> Raw:
    """Read an .npy file, with the .npy file of its targets.

    Args:
        place: The file.
        target: The name of the file of targets beside it.
        needed: Whether missing targets are an error.
        cache: See `choosing.choose_rows`.

    Raises:
        DataError: One number, no targets, or another number of them.
    """
    with arrays.npy_array(place) as found:
        stored = found["X"]
        if stored.ndim == 0:
            raise _one_number(place)
        name = target[0] if target and target[0].endswith(".npy") else None
        labels = None if name is None else labels_beside(place, target)
        if labels is not None:
            answers = choosing.held(arrays.read_npy(labels))
            return choosing.choose_rows({"X": stored, "y": answers}, ["X"], ["y"], place.label, True, cache)
        if needed and name is not None:
            raise DataError(
                f"{place.parent.child(name)}: no such file; expected the targets of {place.name}; set data.target"
            )
        if needed:
            raise DataError(
                f'{place}: one array without a target; set data.target = "FILE.npy" beside it, or save both in an .npz'
            )
        notes: list[str] = []
        values = choosing.kept("X", stored, cache, notes)
        return Arrays({"X": values}, None, (Origin(place.label, len(values)),), notes=tuple(notes))


def read_idx(place: Place, target: Sequence[str] | None, needed: bool) -> Arrays:
    """Read an idx file with that of its labels.

    Args:
        place: The file.
        target: The name of the file of labels beside it; MNIST's is found.
        needed: Whether missing labels are an error.

    Raises:
        DataError: One number, no labels, or another number of them.
    """
    values = arrays.read_idx(place)
    if values.ndim == 0:
        raise _one_number(place)
    labels = labels_beside(place, target)
    if labels is None and needed:
        raise DataError(f"{place}: no label file beside it; expected ...-labels-idx1-...; set data.target to its name")
    answers = None if labels is None else arrays.read_idx(labels)
    if answers is not None and len(answers) != len(values):
        raise DataError(f"{labels}: {len(answers)} labels for {len(values)} images; expected equally many; check the files")
    return Arrays({"images": values}, answers, (Origin(place.label, len(values)),), idx_layout(values.ndim))


def _one_number(place: Place) -> DataError:
    return DataError(f"{place}: one number came; expected an array with a row each; check the file")
