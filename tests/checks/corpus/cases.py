"""What a case is, and the rows that cases share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

import netwright as nw
from netwright.errors import NetwrightError

SEED = 0
Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A network with its data, and the checks of which one has to speak; none for a good network."""

    name: str
    family: str
    expected: tuple[str, ...]
    arguments: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What the checks said: the slugs, and those that are warnings or errors."""

    found: tuple[str, ...]
    alarms: tuple[str, ...]
    text: str


def run(case: Case) -> Outcome:
    """Ask `netwright.check`; data that cannot be read at all count as refused.

    Weights of own modules are drawn from torch's generator: here from a seed, so that a case is the same whatever ran before.
    (Of "twenty plain layers" the first gradient is 3e-6 to 2e-5 of the last, and 1e-5 is what is told: 16 of 20 seeds.)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return _asked(case)


def _asked(case: Case) -> Outcome:
    arguments = case.arguments()
    config = arguments.pop("config", None)
    if case.expected and "cannot-overfit" not in case.expected:
        arguments["skip"] = ["cannot-overfit"]  # it takes most of the time, and is not what has to find this
    arguments.setdefault(
        "engine", "eager"
    )  # what is found does not depend on it; whether steps can be replayed takes a fifth
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, which a mistake may cause
            found = nw.check(config, **arguments)
    except NetwrightError as error:
        return Outcome(("refused",), ("refused",), str(error))
    told = tuple(one.check for one in found.findings)
    return Outcome(told, tuple(one.check for one in found.findings if one.refuses), str(found))


def blobs(rows: int = 240, features: int = 6, classes: int = 3, seed: int = 0) -> Arrays:
    """Return classes around centres, with deviation 1 or so."""
    generator = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    centres = generator.normal(size=(classes, features))
    X = centres[y] + 0.6 * generator.normal(size=(rows, features))
    order = generator.permutation(rows)
    return X[order].astype(np.float32), y[order]


def values(rows: int = 240, features: int = 6, seed: int = 0) -> Arrays:
    """Return numbers and a smooth function of them with noise."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, features)).astype(np.float32)
    y = np.sin(X[:, 0]) + X[:, 1] * 0.7 + 0.2 * generator.normal(size=rows)
    return X, y.astype(np.float32)[:, None]


def pictures(rows: int = 160, side: int = 12, channels: int = 1, classes: int = 4, scale: float = 1.0) -> Arrays:
    """Return images with a bright corner each."""
    generator = np.random.default_rng(1)
    y = generator.integers(0, classes, rows)
    X = generator.normal(0.4, 0.2, size=(rows, channels, side, side))
    half = side // 2
    for row, corner in enumerate(y):
        top, left = (corner % 4) // 2 * half, corner % 2 * half
        X[row, :, top : top + half, left : left + half] += 0.4
    return (X * scale).astype(np.float32), y


def walks(rows: int = 160, steps: int = 12, features: int = 3, classes: int = 2) -> Arrays:
    """Return sequences ``(rows, steps, features)`` that drift up or down."""
    generator = np.random.default_rng(2)
    y = generator.integers(0, classes, rows)
    drift = (y - (classes - 1) / 2)[:, None, None] * np.linspace(0, 1, steps)[None, :, None]
    return (drift + 0.5 * generator.normal(size=(rows, steps, features))).astype(np.float32), y


def frame(rows: int = 300, seed: int = 3, **columns: Any) -> pd.DataFrame:
    """Return a table of ordinary columns with a target ``y``, and further ones."""
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=rows), generator.uniform(0, 10, rows)
    colour = generator.choice(["red", "green", "blue"], rows)
    y = 2 * a + 0.3 * b + (colour == "red") + 0.5 * generator.normal(size=rows)
    return pd.DataFrame({"a": a, "b": b, "colour": colour, **columns, "y": y})
