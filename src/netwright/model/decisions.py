"""Decoded outputs to classes and labels: the rules of a prediction, without torch. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.errors import ConfigError


def places_of(decoded: npt.NDArray[np.float64], threshold: float | None = None) -> npt.NDArray[np.int64]:
    """Return the class number of the largest probability or score of each row; of two classes the second from a threshold on.

    Example:
        >>> places_of(np.array([[0.6, 0.4]])).tolist(), places_of(np.array([[0.6, 0.4]]), 0.4).tolist()
        ([0], [1])
    """
    if threshold is None:
        return np.asarray(decoded.argmax(axis=1), dtype=np.int64)
    return (decoded[:, 1] >= threshold).astype(np.int64)


def decide(decoded: npt.NDArray[np.float64], labels: Sequence[Any], threshold: float | None = None) -> list[Any]:
    """Return the label of each row; see `places_of`."""
    return [labels[place] for place in places_of(decoded, threshold)]


def decided(decoded: npt.NDArray[np.float64], labels: Sequence[Any], threshold: float | None = None) -> npt.NDArray[Any]:
    """Return what `decide` gives as an array, of the dtype that NumPy gives such a list."""
    every = _array_of(tuple(labels), tuple(map(type, labels))) if len(decoded) else None
    if every is not None:
        return every[places_of(decoded, threshold)]
    return np.asarray(decide(decoded, labels, threshold))


@lru_cache(maxsize=16)
def _array_of(labels: tuple[Any, ...], kinds: tuple[type, ...]) -> npt.NDArray[Any] | None:
    """Return labels as an array, if any list of them has its dtype; ``kinds`` since 1 and True are equal."""
    every = np.asarray(labels) if len(set(kinds)) == 1 else np.empty(0, dtype=object)
    return every if (kinds[0], every.dtype.kind) in ((int, "i"), (bool, "b"), (float, "f")) else None


def decide_each(decoded: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return 1 for each label that is more likely than not, else 0: the rule of two classes; int64 ``(rows, labels)``."""
    return (decoded > 0.5).astype(np.int64)


def refuse_threshold(threshold: float, task: str, classes: Sequence[Any], probabilities: bool) -> None:
    """Refuse a threshold that does not fit a network.

    Raises:
        ConfigError: There are not two classes with probabilities, or it is no probability.
    """
    if len(classes) != 2 or task != "binary" or not probabilities:
        raise ConfigError(
            f"threshold {threshold:g}: the task is {task} with {len(classes)} classes"
            f"{'' if probabilities else ' and no probabilities'}; expected two classes and a loss that gives "
            "probabilities; leave the threshold out"
        )
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold {threshold:g} came; expected a probability from 0 to 1; write for instance 0.37")
