"""netwright through its public calls; the seconds of an epoch are ``train_seconds`` of history.csv."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import workloads

import netwright as nw
from contenders.child import Predictor, Trained

LAYERS = {
    "mlp": ["Linear(128)", "ReLU()", "Linear(64)", "ReLU()", "Linear()"],
    "cnn": ["Conv2d(16, 3)", "ReLU()", "MaxPool2d(2)", "Conv2d(32, 3)", "ReLU()", "MaxPool2d(2)", "Flatten()", "Linear()"],
    "cnn_norm": [
        *("Conv2d(16, 3)", "BatchNorm2d()", "ReLU()", "MaxPool2d(2)"),
        *("Conv2d(32, 3)", "BatchNorm2d()", "ReLU()", "MaxPool2d(2)", "Flatten()", "Linear()"),
    ],
    "conv1d": [
        "Conv1d(16, 5)",
        "ReLU()",
        "MaxPool1d(2)",
        "Conv1d(32, 5)",
        "ReLU()",
        "MaxPool1d(2)",
        "Flatten()",
        "Linear()",
    ],
    "lstm": ["LSTM(64)", "LastStep()", "Linear()"],
    "lstm2": ["LSTM(64, num_layers=2)", "LastStep()", "Linear()"],
    "gru": ["GRU(64)", "LastStep()", "Linear()"],
    "table": [
        f"EmbedColumns(dimensions={list(workloads.DIMENSIONS)})",
        *("Linear(128)", "ReLU()", "Linear(64)", "ReLU()", "Linear()"),
    ],
}
LAYOUTS = {"cnn": "NCHW", "cnn_norm": "NCHW", "conv1d": "NCT", "lstm": "NTC", "lstm2": "NTC", "gru": "NTC"}


def fit(task: SimpleNamespace, folder: Path, layers: list[str], **settings: Any) -> Any:
    """Train on every row, without validation and test."""
    return nw.train(
        layers=layers,
        epochs=task.epochs,
        batch_size=task.batch,
        optimizer=f"Adam(lr={task.rate})",
        split={"test": 0, "valid": 0},
        seed=task.seed,
        test=False,
        run_dir=folder / "run",
        settings=task.settings,
        **settings,
    )


def train(task: SimpleNamespace, data: Any) -> Trained:
    """Train on arrays as they are."""
    settings = {"layout": LAYOUTS[task.workload]} if task.workload in LAYOUTS else {}
    with tempfile.TemporaryDirectory() as folder:
        pair = (data.inputs[0], data.target)
        run = fit(task, Path(folder), LAYERS[task.workload], data=pair, preparation=None, **settings)
        seconds = [epoch["train_seconds"] for epoch in run.history]
    return Trained(seconds, lambda inputs: run.predict_proba(inputs[0]), chances=True)


mlp = cnn = cnn_norm = lstm = lstm2 = gru = conv1d = train


def frame(inputs: list[Any], target: Any = None) -> Any:
    """Return a table as a user has it: numbers, and categories as texts."""
    import pyarrow as pa

    numbers, codes = inputs
    columns = {f"number{at}": pa.array(column) for at, column in enumerate(numbers.T)}
    for at, column in enumerate(codes.T):
        columns[f"category{at}"] = pa.array([f"level {code}" for code in column.tolist()])
    if target is not None:
        columns["target"] = pa.array(target[:, 0].astype(int))
    return pa.table(columns)


def table(task: SimpleNamespace, data: Any) -> Trained:
    """Train on a table with its usual preparation."""
    rows = frame(data.inputs, data.target)
    with tempfile.TemporaryDirectory() as folder:
        run = fit(task, Path(folder), LAYERS["table"], data=rows, target="target")
        seconds = [epoch["train_seconds"] for epoch in run.history]
    return Trained(seconds, lambda inputs: run.predict_proba(frame(inputs)), chances=True)


def growth(task: SimpleNamespace, data: Any) -> Trained:
    """Train an MLP of some width and depth on a table of numbers."""
    layers = [text for _ in range(task.depth) for text in (f"Linear({task.width})", "ReLU()")] + ["Linear()"]
    with tempfile.TemporaryDirectory() as folder:
        run = fit(task, Path(folder), layers, data=(data.inputs[0], data.target), preparation=None)
        seconds = [epoch["train_seconds"] for epoch in run.history]
    return Trained(seconds, lambda inputs: run.predict(inputs[0]))


def prediction(task: SimpleNamespace, data: Any) -> Predictor:
    """Predict by ``run.predict``."""
    with tempfile.TemporaryDirectory() as folder:
        run = fit(task, Path(folder), LAYERS["mlp"], data=(data.inputs[0], data.target))
    return Predictor(run.predict, run.predict)


def tutorial(task: SimpleNamespace) -> float:
    """Run the tutorial from random rows to the test loss, with everything a run leaves behind."""
    import torch
    from torch import nn

    torch.manual_seed(task.seed)
    data = torch.rand(task.rows, 10), torch.rand(task.rows, 1)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    with tempfile.TemporaryDirectory() as folder:
        run = nw.train(
            model=model,
            data=data,
            loss=nn.MSELoss(),
            epochs=task.epochs,
            batch_size=task.batch,
            optimizer=f"Adam(lr={task.rate})",
            split={"test": 0.2, "valid": 0},
            preparation=None,
            run_dir=Path(folder) / "run",
            settings=task.settings,
        )
        return float(run.tested["metrics"]["rmse"]["value"]) ** 2
