"""The data and sizes of each workload; everything is drawn from a seed, nothing is downloaded."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
RATE = 1e-3  # of Adam, everywhere

LEVELS = (5, 7, 9, 14, 16, 41)  # categories of the six columns of the table
DIMENSIONS = (3, 4, 4, 6, 6, 10)  # lengths of their vectors
COLUMNS = 20  # of the table that grows


@dataclass(frozen=True)
class Data:
    """Rows ready for training: float32 inputs (codes int64), and int64 classes ``(rows,)`` or float32 ``(rows, 1)``."""

    inputs: list[Array]
    target: Array
    outputs: int
    loss: str  # "classes", "binary" or "values"


@dataclass(frozen=True)
class Case:
    """One column of a table: a batch size, the epochs, and what else differs."""

    label: str
    batch: int
    epochs: int
    rows: int
    extra: dict[str, int] = field(default_factory=dict)

    def task(self) -> dict[str, Any]:
        """Return what a contender is told."""
        return {"label": self.label, "batch": self.batch, "epochs": self.epochs, "rows": self.rows, **self.extra}


@dataclass(frozen=True)
class Workload:
    """What is measured: ``kind`` is train, predict, whole (a process from start to end) or growth."""

    kind: str
    title: str
    cases: tuple[Case, ...]
    quick: tuple[Case, ...]
    make: Callable[..., Any] | None = None


def classes(generator: np.random.Generator, rows: int, shape: tuple[int, ...], outputs: int, noise: float) -> Data:
    """Return standard normal rows around one smooth prototype per class; one label in ten is drawn by chance."""
    prototypes = generator.standard_normal((outputs, *shape), dtype=np.float32)
    for axis in range(1, len(shape) + 1):
        prototypes = (prototypes + np.roll(prototypes, 1, axis) + np.roll(prototypes, 2, axis)) / np.float32(3**0.5)
    target = generator.integers(0, outputs, rows)
    inputs = generator.standard_normal((rows, *shape), dtype=np.float32)
    inputs += prototypes[target] * np.float32(noise)
    swapped = generator.random(rows) < 0.1
    target[swapped] = generator.integers(0, outputs, int(swapped.sum()))
    return Data([inputs], target, outputs, "classes")


def mlp(rows: int, **_: Any) -> Data:
    """Return rows of 784 numbers, 10 classes."""
    return classes(np.random.default_rng(0), rows, (784,), 10, 0.15)


def cnn(rows: int, **_: Any) -> Data:
    """Return grey images ``(rows, 1, 28, 28)``, 10 classes."""
    return classes(np.random.default_rng(0), rows, (1, 28, 28), 10, 0.2)


def sequences(rows: int, **_: Any) -> Data:
    """Return sequences ``(rows, 100 steps, 9)``, 6 classes."""
    return classes(np.random.default_rng(0), rows, (100, 9), 6, 0.3)


def conv1d(rows: int, **_: Any) -> Data:
    """Return series ``(rows, 3 channels, 128 steps)``, 6 classes."""
    return classes(np.random.default_rng(0), rows, (3, 128), 6, 0.2)


def table(rows: int, **_: Any) -> Data:
    """Return 8 numbers and 6 columns of codes (from 1; 0 is kept for an unknown category), two classes."""
    generator = np.random.default_rng(0)
    numbers = generator.standard_normal((rows, 8), dtype=np.float32)
    codes = np.stack([generator.integers(1, levels + 1, rows) for levels in LEVELS], axis=1)
    for column, levels in enumerate(LEVELS):
        codes[:levels, column] = np.arange(1, levels + 1)  # each category is there
    effects = [generator.normal(0, 0.8, levels + 1) for levels in LEVELS]
    score = numbers @ generator.normal(0, 0.5, 8) + numbers[:, 0] * numbers[:, 1]
    score += sum(effect[codes[:, column]] for column, effect in enumerate(effects))
    chance = 1 / (1 + np.exp(-score))
    return Data([numbers, codes], (generator.random((rows, 1)) < chance[:, None]).astype(np.float32), 1, "binary")


def tutorial(rows: int, **_: Any) -> Data:
    """Return the tutorial's random regression: 10 numbers and a target, all uniform."""
    generator = np.random.default_rng(0)
    inputs, target = generator.random((rows, 10), dtype=np.float32), generator.random((rows, 1), dtype=np.float32)
    return Data([inputs], target, 1, "values")


def growth(rows: int, **_: Any) -> Data:
    """Return a table of 20 numbers and a target, drawn block by block so that memory holds little else."""
    generator = np.random.default_rng(0)
    weights = generator.standard_normal(COLUMNS, dtype=np.float32) / np.float32(COLUMNS**0.5)
    inputs, target = np.empty((rows, COLUMNS), np.float32), np.empty((rows, 1), np.float32)
    for start in range(0, rows, 100_000):
        block = inputs[start : start + 100_000]
        generator.standard_normal(out=block, dtype=np.float32)
        target[start : start + 100_000, 0] = block @ weights + 0.5 * np.sin(3 * block[:, 0])
    return Data([inputs], target, 1, "values")


NUMBERS = ("age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week")
CATEGORIES = {
    "workclass": 8,
    "education": 16,
    "marital_status": 7,
    "occupation": 14,
    "relationship": 6,
    "race": 5,
    "sex": 2,
    "native_country": 41,
}
TARGET = "income"


def write_job(path: Path, rows: int) -> None:
    """Write a CSV file like the census table "adult": 6 numbers, 8 categories, the income as one of two texts."""
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((rows, 3))
    age = np.clip(38 + 13 * hidden[:, 0], 17, 90).astype(int)
    gain = np.where(generator.random(rows) < 0.08, generator.integers(100, 20_000, rows), 0)
    loss = np.where(generator.random(rows) < 0.05, generator.integers(100, 4_000, rows), 0)
    hours = np.clip(40 + 12 * hidden[:, 1], 1, 99).astype(int)
    school = np.clip(10 + 2.5 * hidden[:, 2], 1, 16).astype(int)
    columns = [age, generator.integers(12_000, 1_500_000, rows), school, gain, loss, hours]
    score = 0.04 * (age - 38) + 0.3 * (school - 10) + 0.02 * (hours - 40) + gain / 4_000 + loss / 2_000 - 1.6
    for name, levels in CATEGORIES.items():
        codes = generator.choice(levels, rows, p=(shares := 1 / np.arange(1, levels + 1)) / shares.sum())
        score = score + generator.normal(0, 0.6, levels)[codes]
        columns.append(np.array([f"{name}-{level}" for level in range(levels)])[codes])
    rich = generator.random(rows) < 1 / (1 + np.exp(-score))
    columns.append(np.where(rich, ">50K", "<=50K"))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*NUMBERS, *CATEGORIES, TARGET])
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))


def _grown(rows: int, width: int, depth: int, epochs: int) -> Case:
    return Case(f"{rows:,} x {width} x {depth}", 1024, epochs, rows, {"width": width, "depth": depth})


def _once(*cases: Case) -> tuple[Case, ...]:
    return tuple({case.label: case for case in cases}.values())


WORKLOADS = {
    "mlp": Workload(
        "train",
        "MLP 784-128-64-10, thousand rows per second",
        (Case("batch 10", 10, 2, 30_000), Case("batch 64", 64, 3, 30_000), Case("batch 512", 512, 6, 30_000)),
        (Case("batch 10", 10, 3, 3_000), Case("batch 64", 64, 3, 6_000), Case("batch 512", 512, 4, 30_000)),
        mlp,
    ),
    "tutorial": Workload(
        "whole",
        "The tutorial whole: 100 x 10 random regression, 20 epochs, from start of script to test result",
        (Case("whole", 10, 20, 100),),
        (Case("whole", 10, 20, 100),),
        tutorial,
    ),
    "cnn": Workload(
        "train",
        "CNN 16-32 on 28 x 28, thousand rows per second",
        (Case("batch 64", 64, 4, 10_000),),
        (Case("batch 64", 64, 3, 2_560),),
        cnn,
    ),
    "cnn_norm": Workload(
        "train",
        "CNN 16-32 with BatchNorm on 28 x 28, thousand rows per second",
        (Case("batch 64", 64, 4, 10_000),),
        (Case("batch 64", 64, 3, 2_560),),
        cnn,
    ),
    "lstm": Workload(
        "train",
        "LSTM(64) on 100 x 9, thousand rows per second",
        (Case("batch 64", 64, 4, 5_000),),
        (Case("batch 64", 64, 3, 1_280),),
        sequences,
    ),
    "lstm2": Workload(
        "train",
        "LSTM(64) of two layers on 100 x 9, thousand rows per second",
        (Case("batch 64", 64, 4, 5_000),),
        (Case("batch 64", 64, 3, 1_280),),
        sequences,
    ),
    "gru": Workload(
        "train",
        "GRU(64) on 100 x 9, thousand rows per second",
        (Case("batch 64", 64, 4, 5_000),),
        (Case("batch 64", 64, 3, 1_280),),
        sequences,
    ),
    "conv1d": Workload(
        "train",
        "Conv1d 16-32 on 3 x 128, thousand rows per second",
        (Case("batch 64", 64, 5, 10_000),),
        (Case("batch 64", 64, 3, 2_560),),
        conv1d,
    ),
    "table": Workload(
        "train",
        "Table of 8 numbers and 6 embedded categories, MLP 128-64-1, thousand rows per second",
        (Case("batch 256", 256, 8, 32_000),),
        (Case("batch 256", 256, 4, 32_000),),
        table,
    ),
    "prediction": Workload(
        "predict",
        "Prediction with the MLP 784-128-64-10, from NumPy rows to NumPy classes",
        (Case("prediction", 1024, 1, 50_000),),
        (Case("prediction", 1024, 1, 10_000),),
        mlp,
    ),
    "job": Workload(
        "whole",
        "Whole job: CSV of 32,000 rows like adult to test accuracy, MLP 64-32-1, 10 epochs, batch 256",
        (Case("whole", 256, 10, 32_000),),
        (Case("whole", 256, 10, 8_000),),
    ),
    "growth": Workload(
        "growth",
        "Growth with rows, width and depth: rows x width x depth of an MLP on 20 numbers, batch 1,024",
        _once(
            *(_grown(rows, 64, 1, 11 if rows < 100_000 else 4) for rows in (10_000, 40_000, 160_000, 640_000, 2_560_000)),
            _grown(10_000_000, 64, 1, 3),
            *(_grown(40_000, width, 2, 4) for width in (32, 64, 128, 256, 512, 1024, 2048)),
            *(_grown(40_000, 64, depth, 4) for depth in (1, 2, 4, 8, 16, 32, 64)),
        ),
        _once(
            *(_grown(rows, 64, 1, 3) for rows in (10_000, 40_000, 160_000)),
            *(_grown(10_000, width, 2, 3) for width in (64, 256)),
            *(_grown(10_000, 64, depth, 3) for depth in (1, 4, 16)),
        ),
        growth,
    ),
}
