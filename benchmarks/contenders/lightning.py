"""Lightning: a LightningModule over the same network and DataLoader, loggers, bars and checkpoints off."""

from __future__ import annotations

import logging
import time
import warnings
from types import SimpleNamespace
from typing import Any

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from contenders.child import Predictor, Trained
from contenders.networks import loss_of, network

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class Module(lightning.LightningModule):
    """The network with its loss and optimizer."""

    def __init__(self, model: nn.Module, loss_function: nn.Module, rate: float) -> None:
        super().__init__()
        self.model, self.loss_function, self.rate = model, loss_function, rate

    def training_step(self, batch: Any, _: int) -> Any:
        """Return the loss of a batch."""
        *inputs, target = batch
        return self.loss_function(self.model(*inputs), target)

    def test_step(self, batch: Any, number: int) -> None:
        """Log the loss of a batch."""
        self.log("test_loss", self.training_step(batch, number))

    def predict_step(self, batch: Any, _: int) -> Any:
        """Return the classes of a batch."""
        return self.model(*batch).argmax(dim=1)

    def configure_optimizers(self) -> Any:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.rate)


class Clock(lightning.Callback):
    """Takes the seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.started = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Begin."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """End."""
        self.seconds.append(time.perf_counter() - self.started)


def trainer(epochs: int, device: str, *callbacks: lightning.Callback) -> lightning.Trainer:
    """Return a trainer that trains only."""
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator=device,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )


def fit(task: SimpleNamespace, data: Any) -> tuple[list[float], Module]:
    """Train and time each epoch."""
    torch.manual_seed(task.seed)
    dataset = TensorDataset(*(torch.from_numpy(one) for one in (*data.inputs, data.target)))
    module, clock = Module(network(task), loss_of(data.loss), task.rate), Clock()
    trainer(task.epochs, task.device, clock).fit(module, DataLoader(dataset, batch_size=task.batch, shuffle=True))
    return clock.seconds, module.cpu().eval()


def train(task: SimpleNamespace, data: Any) -> Trained:
    """Train and time each epoch."""
    seconds, module = fit(task, data)

    def outputs(inputs: list[Any]) -> Any:
        with torch.no_grad():
            return module.model(*(torch.from_numpy(one) for one in inputs)).numpy()

    return Trained(seconds, outputs)


mlp = cnn = cnn_norm = lstm = lstm2 = gru = conv1d = table = train


def prediction(task: SimpleNamespace, data: Any) -> Predictor:
    """Predict by ``Trainer.predict``; one row by the module itself, as its users do."""
    _, module = fit(task, data)
    predictor = trainer(1, task.device)

    def many(rows: Any) -> Any:
        loader = DataLoader(TensorDataset(torch.from_numpy(rows)), batch_size=task.batch)
        return torch.cat(predictor.predict(module, loader)).numpy()

    def one(rows: Any) -> Any:
        with torch.no_grad():
            return module.predict_step([torch.from_numpy(rows)], 0).numpy()

    return Predictor(many, one)


def tutorial(task: SimpleNamespace) -> float:
    """Run the tutorial from random rows to the test loss."""
    torch.manual_seed(task.seed)
    dataset = TensorDataset(torch.rand(task.rows, 10), torch.rand(task.rows, 1))
    train_rows, test_rows = torch.utils.data.random_split(dataset, [0.8, 0.2])
    module, used = Module(network(task), nn.MSELoss(), task.rate), trainer(task.epochs, task.device)
    used.fit(module, DataLoader(train_rows, batch_size=task.batch, shuffle=True))
    return used.test(module, DataLoader(test_rows, batch_size=task.batch), verbose=False)[0]["test_loss"]
