"""Eager PyTorch tuned by hand: tensors shuffled once an epoch and cut, fused Adam, no DataLoader, no ``loss.item()``."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import torch

from contenders.child import Predictor, Trained
from contenders.networks import loss_of, network


def train(task: SimpleNamespace, data: Any) -> Trained:
    """Train and time each epoch."""
    torch.manual_seed(task.seed)
    tensors = [torch.from_numpy(one).to(task.device) for one in (*data.inputs, data.target)]
    model, loss_function = network(task).to(task.device), loss_of(data.loss)
    optimizer = torch.optim.Adam(model.parameters(), lr=task.rate, fused=True)
    seconds = []
    model.train()
    for _ in range(task.epochs):
        started = time.perf_counter()
        order = torch.randperm(len(tensors[-1]), device=task.device)
        total = torch.zeros((), device=task.device)
        for rows in order.split(task.batch):
            *inputs, target = (one[rows] for one in tensors)
            loss = loss_function(model(*inputs), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
        total.item()
        seconds.append(time.perf_counter() - started)
    model.eval()

    def outputs(inputs: list[Any]) -> Any:
        with torch.inference_mode():
            return model(*(torch.from_numpy(one).to(task.device) for one in inputs)).cpu().numpy()

    return Trained(seconds, outputs)


mlp = cnn = cnn_norm = lstm = lstm2 = gru = conv1d = table = growth = train


def prediction(task: SimpleNamespace, data: Any) -> Predictor:
    """Predict slices of one tensor under ``inference_mode``."""
    outputs = train(task, data).outputs

    def many(rows: Any) -> Any:
        parts = torch.from_numpy(rows).split(task.batch)
        return torch.cat([torch.from_numpy(outputs([part.numpy()])).argmax(dim=1) for part in parts]).numpy()

    return Predictor(many, lambda rows: outputs([rows]).argmax(axis=1))


def tutorial(task: SimpleNamespace) -> float:
    """Run the tutorial from random rows to the test loss."""
    torch.manual_seed(task.seed)
    inputs, target = torch.rand(task.rows, 10), torch.rand(task.rows, 1)
    cut = task.rows * 4 // 5
    model, loss_function = network(task), torch.nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=task.rate, fused=True)
    for _ in range(task.epochs):
        for rows in torch.randperm(cut).split(task.batch):
            loss_function(model(inputs[rows]), target[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.inference_mode():
        return loss_function(model(inputs[cut:]), target[cut:]).item()
