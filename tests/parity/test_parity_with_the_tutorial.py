"""netwright against the tutorial's loop written by hand in plain PyTorch: equal weights, bit for bit.

Both sides start from the same seeds and train on the same order of rows; the hand-written side uses DataLoader,
validates every epoch, and makes its optimizer from the same text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import netwright as nw
from netwright.data.batches import epoch_order
from netwright.seeding import torch_seed

ROWS, TRAIN, VALID = 150, 101, 29
EPOCHS, BATCH, SEED = 4, 16, 7


class LastStepOfLSTM(nn.Module):
    """What a PyTorch user writes around nn.LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 12, num_layers=2, dropout=0.2, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(24)
        self.last = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        sequence, _ = self.lstm(x)
        return self.last(self.norm(sequence[:, -1]))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 4)
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout2d(0.2),
        nn.Conv2d(8, 12, kernel_size=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 4),
    )


MLP = ["Linear(32)", "BatchNorm1d()", "ReLU()", "Dropout(0.3)", "Linear(16)", "Tanh()", "Linear()"]
CNN = [
    "Conv2d(8, kernel_size=3, padding=1)",
    "BatchNorm2d()",
    "ReLU()",
    "MaxPool2d(2)",
    "Dropout2d(0.2)",
    "Conv2d(12, kernel_size=3)",
    "ReLU()",
    "Flatten()",
    "Linear()",
]
LSTM = ["LSTM(12, num_layers=2, dropout=0.2, bidirectional=True)", "LastStep()", "LayerNorm()", "Linear()"]
CASES: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module], list[str], str | None]] = {
    "mlp": ((20,), mlp, MLP, None),
    "cnn": ((1, 8, 8), cnn, CNN, "NCHW"),
    "lstm": ((9, 3), LastStepOfLSTM, LSTM, "NTC"),
}


def rows_of(shape: tuple[int, ...], classes: int | None) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    generator = np.random.default_rng(3)
    X = generator.normal(size=(ROWS, *shape)).astype(np.float32)
    first = X.reshape(ROWS, -1)
    if classes is None:
        return X, (first[:, :1] * 2 + first[:, 1:2]).astype(np.float32)
    return X, (np.arange(ROWS) % classes).astype(np.int64)


def tutorial_loop(
    make: Callable[[], nn.Module],
    X: Tensor,
    y: Tensor,
    loss_fn: nn.Module,
    optimizer_of: Callable[..., Any],
    threads: int,
    before_step: Callable[[nn.Module], Any] = lambda model: None,
) -> nn.Module:
    """The tutorial's training loop with its validation, its slips mended."""
    train_set = TensorDataset(X[:TRAIN], y[:TRAIN])
    valid_loader = DataLoader(TensorDataset(X[TRAIN : TRAIN + VALID], y[TRAIN : TRAIN + VALID]), batch_size=BATCH)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(torch_seed(SEED, "initialisation"))
    model = make()
    torch.manual_seed(torch_seed(SEED, "training"))
    optimizer = optimizer_of(model.parameters())
    for epoch in range(1, EPOCHS + 1):
        order = epoch_order(np.arange(TRAIN), SEED, epoch).tolist()
        trainloader = DataLoader(train_set, batch_size=BATCH, sampler=order, generator=torch.Generator())
        model.train()
        for x_train, y_train in trainloader:
            predicted = model(x_train)
            optimizer.zero_grad()
            loss = loss_fn(predicted, y_train)
            loss.backward()
            before_step(model)
            optimizer.step()
        model.eval()
        generator = torch.random.get_rng_state()  # DataLoader draws a seed each time it is iterated
        with torch.no_grad():
            for x_valid, y_valid in valid_loader:
                loss_fn(model(x_valid), y_valid)
        torch.random.set_rng_state(generator)
    torch.set_num_threads(before)
    return model


def assert_equal_bits(run: nw.Run, model: nn.Module) -> None:
    saved = safetensors.torch.load_file(run.folder / "model" / "last.safetensors")
    by_hand = list(model.state_dict().values())
    assert len(saved) == len(by_hand)
    # the layers have other names in the hand-written class; the order of a state_dict is the order of construction
    ours = [saved[name] for name in run.model.state_dict()]
    for one, other in zip(ours, by_hand, strict=True):
        assert torch.equal(one, other)


def netwright_run(layers: list[str], layout: str | None, data: Any, tmp_path: Path, **keywords: Any) -> nw.Run:
    return nw.train(
        layers=layers,
        data=data,
        layout=layout,
        split={
            "train": list(range(TRAIN)),
            "valid": list(range(TRAIN, TRAIN + VALID)),
            "test": list(range(TRAIN + VALID, ROWS)),
        },
        preparation="none",
        batch_size=BATCH,
        epochs=EPOCHS,
        seed=SEED,
        run_dir=tmp_path / "run",
        test=False,
        **keywords,
    )


@pytest.mark.parametrize("name", list(CASES))
def test_classification_gives_the_weights_of_the_hand_written_loop(name: str, tmp_path: Path) -> None:
    shape, make, layers, layout = CASES[name]
    X, y = rows_of(shape, classes=4)
    run = netwright_run(layers, layout, (X, y), tmp_path, optimizer="Adam(lr=0.01)")
    assert run.config.training.optimizer == "Adam(lr=0.01, fused=True)"
    model = tutorial_loop(
        make,
        torch.from_numpy(X),
        torch.from_numpy(y),
        nn.CrossEntropyLoss(),
        lambda parameters: torch.optim.Adam(parameters, lr=0.01, fused=True),
        run.config.training.threads or 1,
    )
    assert_equal_bits(run, model)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "Adam(lr=0.01, fused=False)": lambda parameters: torch.optim.Adam(parameters, lr=0.01, fused=False),
    "SGD(lr=0.05, momentum=0.9, nesterov=True)": lambda parameters: torch.optim.SGD(
        parameters, lr=0.05, momentum=0.9, nesterov=True, fused=True
    ),
    "AdamW(3e-3, weight_decay=0.1)": lambda parameters: torch.optim.AdamW(parameters, 3e-3, weight_decay=0.1, fused=True),
    "RMSprop(lr=1e-3)": lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3),
}


@pytest.mark.parametrize("text", list(OPTIMIZERS))
def test_regression_gives_the_weights_of_the_hand_written_loop(text: str, tmp_path: Path) -> None:
    X, y = rows_of((20,), classes=None)
    run = netwright_run(["Linear(16)", "ReLU()", "Linear()"], None, (X, y), tmp_path, optimizer=text, loss="MSELoss()")
    model = tutorial_loop(
        lambda: nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 1)),
        torch.from_numpy(X),
        torch.from_numpy(y),
        nn.MSELoss(),
        OPTIMIZERS[text],
        run.config.training.threads or 1,
    )
    assert_equal_bits(run, model)


def penalised(model: nn.Module) -> None:
    """The derivative of l1 times the sum of |weight|, for the matrices of an MLP."""
    for weight in model.parameters():
        if weight.dim() == 2:
            assert weight.grad is not None
            weight.grad += 0.001 * weight.detach().sign()


CHANGES: dict[str, tuple[dict[str, Any], Callable[[nn.Module], Any]]] = {
    "clip_grad_norm_": ({"clip_grad_norm": 0.3}, lambda model: nn.utils.clip_grad_norm_(model.parameters(), 0.3)),
    "clip_grad_value_": ({"clip_grad_value": 0.01}, lambda model: nn.utils.clip_grad_value_(model.parameters(), 0.01)),
    "l1": ({"l1": 0.001}, penalised),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_line_before_the_step_of_the_hand_written_loop_is_a_setting(name: str, tmp_path: Path) -> None:
    """The groups of parameters are those that PyTorch users make by hand: no decay of biases and norms."""
    keywords, before_step = CHANGES[name]
    X, y = rows_of((20,), classes=4)
    run = netwright_run(
        MLP, None, (X, y), tmp_path, optimizer="AdamW(lr=0.01, weight_decay=0.1)", **keywords,
        parameter_groups=[{"parameters": ["biases", "norms"], "weight_decay": 0.0}, {"parameters": ["6"], "lr": 0.002}],
    )  # fmt: skip
    assert run.config.training.engine == "captured"

    def optimizer_of(parameters: Any) -> torch.optim.Optimizer:
        first, bias, scale, shift, middle, middle_bias, last, last_bias = parameters
        groups = [
            {"params": [first, middle]},
            {"params": [bias, scale, shift, middle_bias, last_bias], "weight_decay": 0.0},
            {"params": [last], "lr": 0.002},
        ]
        return torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1, fused=True)

    model = tutorial_loop(
        mlp, torch.from_numpy(X), torch.from_numpy(y), nn.CrossEntropyLoss(), optimizer_of, run.config.training.threads or 1,
        before_step,
    )  # fmt: skip
    assert_equal_bits(run, model)


def test_an_own_module_gives_the_weights_of_the_hand_written_loop(tmp_path: Path) -> None:
    X, y = rows_of((9, 3), classes=4)
    torch.manual_seed(torch_seed(SEED, "initialisation"))
    own = LastStepOfLSTM()
    run = nw.train(
        model=own,
        data=(torch.from_numpy(X), torch.from_numpy(y)),
        loss=nn.CrossEntropyLoss(),
        optimizer="Adam(lr=0.01)",
        split={
            "train": list(range(TRAIN)),
            "valid": list(range(TRAIN, TRAIN + VALID)),
            "test": list(range(TRAIN + VALID, ROWS)),
        },
        preparation=None,
        batch_size=BATCH,
        epochs=EPOCHS,
        seed=SEED,
        run_dir=tmp_path / "run",
    )
    model = tutorial_loop(
        LastStepOfLSTM,
        torch.from_numpy(X),
        torch.from_numpy(y),
        nn.CrossEntropyLoss(),
        lambda parameters: torch.optim.Adam(parameters, lr=0.01, fused=True),
        run.config.training.threads or 1,
    )
    assert_equal_bits(run, model)
    assert run.model is own


def test_validating_never_changes_training(tmp_path: Path) -> None:
    X, y = rows_of((20,), classes=4)
    shared: dict[str, Any] = {
        "data": (X, y), "layers": MLP, "epochs": 3, "batch_size": BATCH, "preparation": "none", "test": False
    }  # fmt: skip
    train, rest = list(range(TRAIN)), list(range(TRAIN, ROWS))
    watched = nw.train(split={"train": train, "valid": rest, "test": []}, run_dir=tmp_path / "a", **shared)
    alone = nw.train(split={"train": train, "valid": [], "test": rest}, run_dir=tmp_path / "b", **shared)
    one, other = (safetensors.torch.load_file(run.folder / "model" / "last.safetensors") for run in (watched, alone))
    assert "valid_loss" in watched.history[0]
    assert "valid_loss" not in alone.history[0]
    assert all(torch.equal(one[name], other[name]) for name in one)
