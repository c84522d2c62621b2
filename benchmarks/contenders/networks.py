"""The networks of the workloads in torch, shared by every contender that trains an ``nn.Module``."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import workloads
from torch import Tensor, nn


class LastStep(nn.Module):
    """A recurrent layer whose last step is read by a linear layer."""

    def __init__(self, recurrent: nn.RNNBase) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.linear = nn.Linear(64, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.linear(self.recurrent(x)[0][:, -1])


class TableNetwork(nn.Module):
    """Categories through embeddings beside the numbers, then an MLP."""

    def __init__(self) -> None:
        super().__init__()
        sizes = zip(workloads.LEVELS, workloads.DIMENSIONS, strict=True)
        self.embeddings = nn.ModuleList(nn.Embedding(levels + 1, length) for levels, length in sizes)
        width = 8 + sum(workloads.DIMENSIONS)
        self.layers = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """Return logits ``(rows, 1)``."""
        vectors = [embedding(codes[:, column]) for column, embedding in enumerate(self.embeddings)]
        return self.layers(torch.cat([numbers, *vectors], dim=1))


def network(task: SimpleNamespace) -> nn.Module:
    """Return the untrained network of a workload."""
    name = task.workload
    if name in ("mlp", "prediction"):
        return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    if name == "tutorial":
        return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    if name == "cnn":
        first = (nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2))
        return nn.Sequential(*first, nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(800, 10))
    if name == "cnn_norm":
        first = (nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        second = (nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2))
        return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(800, 10))
    if name == "conv1d":
        first = (nn.Conv1d(3, 16, 5), nn.ReLU(), nn.MaxPool1d(2))
        return nn.Sequential(*first, nn.Conv1d(16, 32, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(928, 6))
    if name == "lstm":
        return LastStep(nn.LSTM(9, 64, batch_first=True))
    if name == "lstm2":
        return LastStep(nn.LSTM(9, 64, num_layers=2, batch_first=True))
    if name == "gru":
        return LastStep(nn.GRU(9, 64, batch_first=True))
    if name == "table":
        return TableNetwork()
    widths = [workloads.COLUMNS, *[task.width] * task.depth]
    hidden = [layer for ends in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(*ends), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(task.width, 1))


def loss_of(kind: str) -> nn.Module:
    """Return the loss of a kind of target."""
    return {"classes": nn.CrossEntropyLoss, "binary": nn.BCEWithLogitsLoss, "values": nn.MSELoss}[kind]()
