"""skorch: NeuralNet over the same network, without its validation split."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

from contenders.child import Predictor, Trained
from contenders.networks import loss_of, network


class Clock(Callback):
    """Takes the seconds of each epoch."""

    def initialize(self) -> Any:
        """Begin anew."""
        self.seconds: list[float] = []
        return self

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        """Begin."""
        self.started = time.perf_counter()

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        """End."""
        self.seconds.append(time.perf_counter() - self.started)


def fit(task: SimpleNamespace, inputs: list[Any], target: Any, loss: str) -> tuple[NeuralNet, Clock]:
    """Train and time each epoch."""
    torch.manual_seed(task.seed)
    clock = Clock()
    net = NeuralNet(
        network(task),
        criterion=type(loss_of(loss)),
        optimizer=torch.optim.Adam,
        lr=task.rate,
        max_epochs=task.epochs,
        batch_size=task.batch,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        callbacks=[("clock", clock)],
    )
    net.fit(together(inputs), target)
    return net, dict(net.callbacks_)["clock"]


def together(inputs: list[Any]) -> Any:
    """Return inputs as skorch takes them: one array, or several by name."""
    return inputs[0] if len(inputs) == 1 else dict(zip(("numbers", "codes"), inputs, strict=True))


def train(task: SimpleNamespace, data: Any) -> Trained:
    """Train and time each epoch."""
    net, clock = fit(task, data.inputs, data.target, data.loss)
    return Trained(clock.seconds, lambda inputs: net.forward(together(inputs)).numpy())


mlp = cnn = cnn_norm = lstm = lstm2 = gru = conv1d = table = train


def prediction(task: SimpleNamespace, data: Any) -> Predictor:
    """Predict by ``NeuralNet.predict_proba``."""
    net, _ = fit(task, data.inputs, data.target, data.loss)
    return Predictor(*[lambda rows: net.predict_proba(rows).argmax(axis=1)] * 2)


def tutorial(task: SimpleNamespace) -> float:
    """Run the tutorial from random rows to the test loss."""
    generator = np.random.default_rng(task.seed)
    inputs, target = generator.random((task.rows, 10), np.float32), generator.random((task.rows, 1), np.float32)
    cut = task.rows * 4 // 5
    net, _ = fit(task, [inputs[:cut]], target[:cut], "values")
    return float(np.mean((net.predict(inputs[cut:]) - target[cut:]) ** 2))
