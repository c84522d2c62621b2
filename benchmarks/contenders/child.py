"""One measurement in a process of its own: ``python -m contenders.child CONTENDER TASK`` prints one JSON line.

A contender's file has a function per workload. What they return:

- training: the seconds of each epoch, and a function from inputs to outputs, which is told ``logits``, ``chances`` or
  ``values`` by its name in `Trained`;
- prediction: functions from rows to classes, for many rows and for one;
- a whole job: the test figure, and nothing is measured here.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

SAMPLE = 2_000  # train rows whose loss is compared


@dataclass
class Trained:
    """A trained network: seconds of each epoch, and ``outputs`` of inputs as logits (or chances, or values)."""

    seconds: list[float]
    outputs: Callable[[list[Any]], Any]
    chances: bool = False


@dataclass
class Predictor:
    """A network ready to predict: from NumPy rows to NumPy classes."""

    many: Callable[[Any], Any]
    one: Callable[[Any], Any]


def train_loss(trained: Trained, data: Any) -> float:
    """Return the mean loss over the first train rows, the same function for every contender."""
    import numpy as np

    target = data.target[:SAMPLE]
    found = np.asarray(trained.outputs([one[:SAMPLE] for one in data.inputs]), np.float64).reshape(len(target), -1)
    if data.loss == "values":
        return float(np.mean((found - target) ** 2))
    if data.loss == "binary":
        chance = (found if trained.chances else 1 / (1 + np.exp(-found)))[:, -1]
        right = np.where(target[:, 0] > 0.5, chance, 1 - chance)
    else:
        if not trained.chances:
            found = np.exp(found - found.max(axis=1, keepdims=True))
        right = (found / found.sum(axis=1, keepdims=True))[np.arange(len(target)), target]
    return float(-np.mean(np.log(np.maximum(right, 1e-12))))


def timed(call: Callable[[Any], Any], rows: list[Any], least: int) -> list[float]:
    """Return the seconds of each call after a few that do not count."""
    for one in rows[: max(1, least // 10)]:
        call(one)
    seconds = []
    for one in rows[:least]:
        started = time.perf_counter()
        call(one)
        seconds.append(time.perf_counter() - started)
    return seconds


def measure(name: str, task: SimpleNamespace) -> dict[str, Any]:
    """Run a task of a contender and return what was found."""
    try:
        module = importlib.import_module(f"contenders.{name}")
    except ModuleNotFoundError as error:
        return {"missing": error.name}
    function = getattr(module, task.workload, None)
    if function is None:
        return {"absent": True}
    if task.kind == "whole":
        return {"figure": float(function(task))}
    import workloads

    data = workloads.WORKLOADS[task.workload].make(**vars(task))
    held = sum(one.nbytes for one in (*data.inputs, data.target)) / 1e6
    found = function(task, data)
    if task.kind == "predict":
        import numpy as np

        rows = data.inputs[0]
        many = timed(found.many, [rows] * 5, 5)
        one = timed(found.one, [rows[place : place + 1] for place in range(min(500, len(rows)))], 500)
        right = np.asarray(found.many(rows[:SAMPLE])).reshape(-1).astype(int) == data.target[:SAMPLE]
        return {"many": len(rows) / float(np.median(many)), "one": float(np.median(one)), "accuracy": float(right.mean())}
    return {"seconds": found.seconds, "held": held, "loss": train_loss(found, data)}


def main() -> None:
    """Measure and print; libraries print what they like before."""
    name, text = sys.argv[1:]
    found = measure(name, SimpleNamespace(**json.loads(text)))
    print("\n" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
