"""Keras on the backend that ``KERAS_BACKEND`` names: ``compile`` and ``fit``."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import workloads
from keras import layers

from contenders.child import Predictor, Trained

CHANNELS_FIRST = keras.backend.backend() == "torch"  # the faster layout on the CPU for each backend
LAYOUT = "channels_first" if CHANNELS_FIRST else "channels_last"


def network(task: SimpleNamespace) -> keras.Model:
    """Return the untrained network of a workload."""
    name = task.workload
    if name in ("mlp", "prediction"):
        stack = [layers.Input((784,)), layers.Dense(128, "relu"), layers.Dense(64, "relu"), layers.Dense(10)]
    elif name == "tutorial":
        stack = [layers.Input((10,)), layers.Dense(32, "relu"), layers.Dense(1)]
    elif name in ("cnn", "cnn_norm"):
        stack = [layers.Input((1, 28, 28) if CHANNELS_FIRST else (28, 28, 1))]
        for width in (16, 32):
            stack += [layers.Conv2D(width, 3, data_format=LAYOUT)]
            stack += [layers.BatchNormalization(axis=1 if CHANNELS_FIRST else -1)] if name == "cnn_norm" else []
            stack += [layers.ReLU(), layers.MaxPool2D(2, data_format=LAYOUT)]
        stack += [layers.Flatten(), layers.Dense(10)]
    elif name == "conv1d":
        stack = [layers.Input((3, 128) if CHANNELS_FIRST else (128, 3))]
        for width in (16, 32):
            stack += [
                layers.Conv1D(width, 5, activation="relu", data_format=LAYOUT),
                layers.MaxPool1D(2, data_format=LAYOUT),
            ]
        stack += [layers.Flatten(), layers.Dense(6)]
    elif name == "lstm":
        stack = [layers.Input((100, 9)), layers.LSTM(64), layers.Dense(6)]
    elif name == "lstm2":
        stack = [layers.Input((100, 9)), layers.LSTM(64, return_sequences=True), layers.LSTM(64), layers.Dense(6)]
    elif name == "gru":
        stack = [layers.Input((100, 9)), layers.GRU(64), layers.Dense(6)]
    else:
        return _table()
    return keras.Sequential(stack)


def _table() -> keras.Model:
    numbers, codes = layers.Input((8,)), layers.Input((6,), dtype="int64")
    sizes = zip(workloads.LEVELS, workloads.DIMENSIONS, strict=True)
    vectors = [layers.Embedding(levels + 1, length)(codes[:, column]) for column, (levels, length) in enumerate(sizes)]
    hidden = layers.Dense(64, "relu")(layers.Dense(128, "relu")(layers.Concatenate()([numbers, *vectors])))
    return keras.Model([numbers, codes], layers.Dense(1)(hidden))


def compiled(model: keras.Model, task: SimpleNamespace, loss: str) -> keras.Model:
    """Return a model with Adam and the loss of a kind of target, and so many steps per call as the task says."""
    losses = {
        "classes": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "binary": keras.losses.BinaryCrossentropy(from_logits=True),
        "values": "mse",
    }
    settings = {name: int(value) for name, value in (text.split("=") for text in task.settings)}
    model.compile(optimizer=keras.optimizers.Adam(task.rate), loss=losses[loss], **settings)
    return model


def together(inputs: list[Any]) -> Any:
    """Return inputs as the network reads them."""
    if len(inputs) > 1:
        return inputs
    rows = inputs[0]
    if not CHANNELS_FIRST and rows.ndim > 2 and rows.shape[1] < 9:  # (rows, channels, ...)
        return np.ascontiguousarray(np.moveaxis(rows, 1, -1))
    return rows


class Clock(keras.callbacks.Callback):
    """Takes the seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """End."""
        self.seconds.append(time.perf_counter() - self.started)


def train(task: SimpleNamespace, data: Any) -> Trained:
    """Train and time each epoch."""
    keras.utils.set_random_seed(task.seed)
    model, clock = compiled(network(task), task, data.loss), Clock()
    model.fit(together(data.inputs), data.target, batch_size=task.batch, epochs=task.epochs, verbose=0, callbacks=[clock])
    return Trained(clock.seconds, lambda inputs: model.predict(together(inputs), verbose=0))


mlp = cnn = cnn_norm = lstm = lstm2 = gru = conv1d = table = train


def prediction(task: SimpleNamespace, data: Any) -> Predictor:
    """Predict by ``predict``; one row by ``predict_on_batch``, which is the faster for few rows."""
    model = compiled(network(task), task, data.loss)
    model.fit(data.inputs[0], data.target, batch_size=task.batch, epochs=task.epochs, verbose=0)
    return Predictor(
        lambda rows: model.predict(rows, batch_size=task.batch, verbose=0).argmax(axis=1),
        lambda rows: np.asarray(model.predict_on_batch(rows)).argmax(axis=1),
    )


def tutorial(task: SimpleNamespace) -> float:
    """Run the tutorial from random rows to the test loss."""
    keras.utils.set_random_seed(task.seed)
    generator = np.random.default_rng(task.seed)
    inputs, target = generator.random((task.rows, 10), np.float32), generator.random((task.rows, 1), np.float32)
    cut = task.rows * 4 // 5
    model = compiled(network(task), task, "values")
    model.fit(inputs[:cut], target[:cut], batch_size=task.batch, epochs=task.epochs, verbose=0)
    return float(model.evaluate(inputs[cut:], target[cut:], batch_size=task.batch, verbose=0))


def job(task: SimpleNamespace) -> float:
    """Read a CSV file with pandas, prepare it by hand, return the test accuracy."""
    import pandas as pd

    keras.utils.set_random_seed(task.seed)
    frame = pd.read_csv(task.path)
    target = (frame.pop(task.target) == ">50K").to_numpy(np.float32)[:, None]
    order = np.random.default_rng(task.seed).permutation(len(frame))
    test, fit = order[: len(frame) // 5], order[len(frame) // 5 :]
    numbers = frame.select_dtypes("number")
    scaled = (numbers - numbers.iloc[fit].mean()) / numbers.iloc[fit].std()
    dummies = pd.get_dummies(frame.drop(columns=numbers.columns), dtype="float32")
    inputs = pd.concat([scaled, dummies], axis=1).to_numpy(np.float32)
    stack = [layers.Input((inputs.shape[1],)), layers.Dense(64, "relu"), layers.Dense(32, "relu"), layers.Dense(1)]
    model = compiled(keras.Sequential(stack), task, "binary")
    model.fit(inputs[fit], target[fit], batch_size=task.batch, epochs=task.epochs, verbose=0)
    found = model.predict(inputs[test], batch_size=task.batch, verbose=0)
    return float(((found > 0) == (target[test] > 0.5)).mean())
