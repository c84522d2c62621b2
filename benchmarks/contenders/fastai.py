"""fastai: Learner over the same network with torch's Adam at a constant rate; bars and logs off.

Only fastai.basics is imported, which needs no torchvision.
"""

from __future__ import annotations

import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from fastai.basics import Callback, DataLoader, DataLoaders, Learner, OptimWrapper
from fastai.callback.progress import ProgressCallback
from torch.utils.data import TensorDataset

from contenders.child import Predictor, Trained
from contenders.networks import loss_of, network


class Clock(Callback):
    """Takes the seconds of the training part of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_train(self) -> None:
        """Begin."""
        self.started = time.perf_counter()

    def after_train(self) -> None:
        """End."""
        self.seconds.append(time.perf_counter() - self.started)


def fit(task: SimpleNamespace, tensors: list[Any], loss: str) -> tuple[Learner, Clock]:
    """Train and time each epoch; fastai validates each epoch, here on one batch, which is not timed."""
    torch.manual_seed(task.seed)
    loaders = DataLoaders(
        DataLoader(TensorDataset(*tensors), bs=task.batch, shuffle=True, num_workers=0),
        DataLoader(TensorDataset(*(one[: task.batch] for one in tensors)), bs=task.batch, num_workers=0),
    )
    clock = Clock()
    adam = partial(OptimWrapper, opt=torch.optim.Adam)
    learner = Learner(loaders, network(task), loss_func=loss_of(loss), opt_func=adam, cbs=[clock])
    learner.remove_cb(ProgressCallback)
    with learner.no_logging():
        learner.fit(task.epochs, task.rate)
    learner.model.eval()
    return learner, clock


def train(task: SimpleNamespace, data: Any) -> Trained:
    """Train and time each epoch."""
    learner, clock = fit(task, [torch.from_numpy(one) for one in (*data.inputs, data.target)], data.loss)

    def outputs(inputs: list[Any]) -> Any:
        with torch.no_grad():
            return learner.model(*(torch.from_numpy(one) for one in inputs)).numpy()

    return Trained(clock.seconds, outputs)


mlp = cnn = cnn_norm = lstm = lstm2 = gru = conv1d = table = train


def prediction(task: SimpleNamespace, data: Any) -> Predictor:
    """Predict by ``Learner.get_preds``; one row by the model itself."""
    learner, _ = fit(task, [torch.from_numpy(one) for one in (*data.inputs, data.target)], data.loss)

    def many(rows: Any) -> Any:
        tensor = torch.from_numpy(rows)
        dataset = TensorDataset(tensor, torch.zeros(len(tensor), dtype=torch.int64))
        return learner.get_preds(dl=DataLoader(dataset, bs=task.batch, num_workers=0))[0].argmax(dim=1).numpy()

    def one(rows: Any) -> Any:
        with torch.no_grad():
            return learner.model(torch.from_numpy(rows)).argmax(dim=1).numpy()

    return Predictor(many, one)


def tutorial(task: SimpleNamespace) -> float:
    """Run the tutorial from random rows to the test loss."""
    torch.manual_seed(task.seed)
    inputs, target = torch.rand(task.rows, 10), torch.rand(task.rows, 1)
    cut = task.rows * 4 // 5
    learner, _ = fit(task, [inputs[:cut], target[:cut]], "values")
    test = DataLoader(TensorDataset(inputs[cut:], target[cut:]), bs=task.batch, num_workers=0)
    with learner.no_logging():
        return float(learner.validate(dl=test)[0])
