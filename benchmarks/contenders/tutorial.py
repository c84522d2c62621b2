"""The tutorial's loop in plain PyTorch: DataLoader over TensorDataset, Adam, ``loss.item()`` per batch."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from contenders.child import Predictor, Trained
from contenders.networks import loss_of, network


def train(task: SimpleNamespace, data: Any) -> Trained:
    """Train and time each epoch."""
    torch.manual_seed(task.seed)
    dataset = TensorDataset(*(torch.from_numpy(one) for one in (*data.inputs, data.target)))
    loader = DataLoader(dataset, batch_size=task.batch, shuffle=True)
    model, loss_function = network(task).to(task.device), loss_of(data.loss)
    optimizer = torch.optim.Adam(model.parameters(), lr=task.rate)
    seconds = []
    model.train()
    for _ in range(task.epochs):
        started, total = time.perf_counter(), 0.0
        for batch in loader:
            *inputs, target = (one.to(task.device) for one in batch)
            optimizer.zero_grad()
            loss = loss_function(model(*inputs), target)
            loss.backward()
            optimizer.step()
            total += loss.item()
        seconds.append(time.perf_counter() - started)
    model.eval()

    def outputs(inputs: list[Any]) -> Any:
        with torch.no_grad():
            return model(*(torch.from_numpy(one).to(task.device) for one in inputs)).cpu().numpy()

    return Trained(seconds, outputs)


mlp = cnn = cnn_norm = lstm = lstm2 = gru = conv1d = table = growth = train


def prediction(task: SimpleNamespace, data: Any) -> Predictor:
    """Predict as the tutorial tests: a DataLoader without shuffling under ``no_grad``."""
    outputs = train(task, data).outputs

    def many(rows: Any) -> Any:
        loader = DataLoader(TensorDataset(torch.from_numpy(rows)), batch_size=task.batch)
        return torch.cat([torch.from_numpy(outputs([inputs.numpy()])).argmax(dim=1) for (inputs,) in loader]).numpy()

    return Predictor(many, lambda rows: outputs([rows]).argmax(axis=1))


def tutorial(task: SimpleNamespace) -> float:
    """Run the tutorial from random rows to the test loss."""
    import torch.nn as nn
    from torch.utils.data import random_split

    torch.manual_seed(task.seed)
    inputs, target = torch.rand(task.rows, 10), torch.rand(task.rows, 1)
    train_rows, test_rows = random_split(TensorDataset(inputs, target), [0.8, 0.2])
    model, loss_function = network(task), nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=task.rate)
    model.train()
    for _ in range(task.epochs):
        for x_train, y_train in DataLoader(train_rows, batch_size=task.batch, shuffle=True):
            predicted = model(x_train)
            optimizer.zero_grad()
            loss = loss_function(predicted, y_train)
            loss.backward()
            optimizer.step()
    model.eval()
    loader, total = DataLoader(test_rows, batch_size=task.batch), 0.0
    with torch.no_grad():
        for x_test, y_test in loader:
            total += loss_function(model(x_test), y_test).item()
    return total / len(loader)


def job(task: SimpleNamespace) -> float:
    """Read a CSV file with pandas, prepare it by hand, train the tutorial's way, return the test accuracy."""
    import pandas as pd
    from torch import nn

    torch.manual_seed(task.seed)
    frame = pd.read_csv(task.path)
    target = torch.tensor((frame.pop(task.target) == ">50K").to_numpy(), dtype=torch.float32)[:, None]
    order = torch.randperm(len(frame))
    test, fit = order[: len(frame) // 5], order[len(frame) // 5 :]
    numbers = frame.select_dtypes("number")
    part = numbers.iloc[fit.numpy()]
    scaled = (numbers - part.mean()) / part.std()
    dummies = pd.get_dummies(frame.drop(columns=numbers.columns), dtype="float32")
    inputs = torch.tensor(pd.concat([scaled, dummies], axis=1).to_numpy("float32"))
    model = nn.Sequential(nn.Linear(inputs.shape[1], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer, loss_function = torch.optim.Adam(model.parameters(), lr=task.rate), nn.BCEWithLogitsLoss()
    loader = DataLoader(TensorDataset(inputs[fit], target[fit]), batch_size=task.batch, shuffle=True)
    for _ in range(task.epochs):
        total = 0.0
        for x_train, y_train in loader:
            optimizer.zero_grad()
            loss = loss_function(model(x_train), y_train)
            loss.backward()
            optimizer.step()
            total += loss.item()
    with torch.no_grad():
        return ((model(inputs[test]) > 0) == (target[test] > 0.5)).float().mean().item()
