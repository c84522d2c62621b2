"""Ejected scripts end with the bits of their runs: tables, arrays, sequences, own modules, every way to learn."""

from __future__ import annotations

import ast
import contextlib
import datetime
import gzip
import io
import json
import os
import runpy
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import netwright as nw
from netwright.cli import main
from netwright.errors import ConfigError, SafetyError
from netwright.proofs.explaining import explain
from netwright.proofs.rerunning import DECODED, FOUND, SCRIPT, difference, verify_eject

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
RNG = np.random.default_rng(5)
ROWS = 90


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def rerun(run: Any, place: Path) -> str:
    """Run the script of a run in this process, and leave beside it what verify eject compares; return the script."""
    place.mkdir()
    text = nw.eject(run, place / SCRIPT)
    threads, fused, here = torch.get_num_threads(), torch.backends.mha.get_fastpath_enabled(), Path.cwd()
    try:
        os.chdir(place)
        with contextlib.redirect_stdout(io.StringIO()):
            names = runpy.run_path(SCRIPT, run_name="__main__")
    finally:
        os.chdir(here)
        torch.set_num_threads(threads)
        torch.backends.mha.set_fastpath_enabled(fused)
    if "decoded" in names:
        np.save(place / DECODED, names["decoded"])
    (place / FOUND).write_text(json.dumps({"test": names.get("test"), "netwright": False}))
    return text


def assert_exact(folder: Path, **settings: Any) -> str:
    run = nw.train(
        run_dir=folder / "run",
        **{"epochs": 3, "batch_size": 16, "threads": 1, "baselines": [], "importance": False, **settings},
    )
    text = rerun(run, folder / "script")
    assert difference(run.folder, folder / "script", json.loads((folder / "script" / FOUND).read_text())) is None
    assert "netwright" not in text
    return text


def column(name: str, values: list[Any]) -> dict[str, list[str]]:
    return {name: ["" if value is None else str(value) for value in values]}


def gaps(values: list[Any], every: int) -> list[Any]:
    return [None if place % every == 3 else value for place, value in enumerate(values)]


def table() -> dict[str, list[str]]:
    """Numbers, categories, truth values and dates, each with gaps, and targets of every kind."""
    size = RNG.normal(50, 20, ROWS).round(3).tolist()
    town = RNG.choice(["coast", "inland", "hills"], ROWS).tolist()
    open_ = RNG.choice(["yes", "no"], ROWS).tolist()
    days = [
        f"2023-{1 + place % 12:02d}-{1 + place % 28:02d}" + ("", "T12:30", "T12:30:05Z", "T01:15+05:30")[place % 4]
        for place in range(ROWS)
    ]
    price = [round(3 * value + 10 * (place == "coast"), 2) for value, place in zip(size, town, strict=True)]
    return {
        **column("size", gaps(size, 11)),
        **column("rooms", RNG.integers(1, 7, ROWS).tolist()),
        **column("town", gaps(town, 13)),
        **column("open", gaps(open_, 9)),
        **column("sold", gaps(days, 17)),
        **column("price", price),
        **column("tax", [round(value / 7, 3) for value in price]),
        **column("dear", ["yes" if value > 150 else "no" for value in price]),
        **column("grade", ["abc"[int(value // 80) % 3] for value in price]),
        **column("sunny", RNG.integers(0, 2, ROWS).tolist()),
        **column("quiet", RNG.integers(0, 2, ROWS).tolist()),
    }


TABLE = table()
TARGETS = ("price", "tax", "dear", "grade", "sunny", "quiet")


def write_csv(path: Path, mark: str = ",", columns: Mapping[str, list[str]] = TABLE) -> str:
    lines = [mark.join(columns), *(mark.join(row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def only(*targets: str) -> dict[str, Any]:
    return {"target": list(targets), "ignore": [name for name in TARGETS if name not in targets]}


DENSE = ["Linear(12)", "ReLU()", "Dropout(0.3)", "Linear()"]
LEARNING: dict[str, dict[str, Any]] = {
    "regression, embedded categories, early stopping": {
        **only("price"),
        "epochs": 12,
        "early_stopping": {"patience": 2},
        "optimizer": "SGD(lr=0.3, momentum=0.9)",
    },
    "two outputs, one-hot": {**only("price", "tax"), "layers": DENSE, "optimizer": "AdamW(lr=0.01, weight_decay=0.1)"},
    "binary, pos_weight": {
        **only("dear"),
        "layers": ["Linear(8)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear()"],
        "loss": 'BCEWithLogitsLoss(pos_weight="balanced")',
        "optimizer": "RMSprop(lr=0.01)",
    },
    "classes, weights, parts of batches": {
        **only("grade"),
        "layers": DENSE,
        "loss": 'CrossEntropyLoss(weight="balanced")',
        "micro_batch": 5,
    },
    "labels": {**only("sunny", "quiet"), "layers": DENSE, "early_stopping": {"monitor": "valid_f1_micro", "patience": 2}},
    "quantiles, rare categories, steps": {
        **only("price"),
        "layers": DENSE,
        "preparation": {"numbers": "quantile", "rare": 30},
        "steps": 7,
        "last_batch": "drop",
    },
    "as they are, by MAE": {
        **only("price"),
        "layers": DENSE,
        "preparation": {"numbers": "none", "target_scaling": "none"},
        "loss": "HuberLoss()",
        "early_stopping": {"monitor": "valid_mae", "patience": 3},
    },
    "no valid rows, LBFGS": {
        **only("dear"),
        "layers": ["Linear()"],
        "split": {"valid": 0},
        "optimizer": "LBFGS(max_iter=3)",
    },
    "bfloat16": {**only("grade"), "layers": DENSE, "precision": "bfloat16"},
    "groups, clipped, l1, uphill": {
        **only("dear"),
        "layers": ["Linear(8)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear()"],
        "optimizer": "AdamW(lr=0.01, weight_decay=0.1)",
        "parameter_groups": [
            {"parameters": ["biases", "norms"], "weight_decay": 0.0},
            {"parameters": ["0"], "lr": 0.1, "betas": [0.8, 0.99]},
        ],
        **{"clip_grad_norm": 0.5, "clip_grad_value": 0.05, "l1": 0.002, "sharpness": 0.1},
    },
    "float16, groups of all, parts": {
        **only("grade"),
        "layers": DENSE,
        "optimizer": "SGD(lr=0.05)",
        "parameter_groups": [{"parameters": ["*"], "momentum": 0.9}],
        **{"precision": "float16", "clip_grad_norm": 1.0, "micro_batch": 5},
    },
    "uphill in parts": {**only("price"), "layers": DENSE, "sharpness": 0.05, "micro_batch": 6, "l1": 0.001},
    "LBFGS in parts": {**only("dear"), "layers": ["Linear()"], "optimizer": "LBFGS(max_iter=2)", "micro_batch": 7},
    "warm-up and cosine, exponential average": {
        **only("dear"),
        "layers": ["Linear(8)", "BatchNorm1d()", "ReLU()", "Linear()"],
        "schedule": "WarmupCosine(warmup=0.2)",
        "average": "EMA(decay=0.8)",
    },
    "one cycle that ends early": {**only("price"), "layers": DENSE, "schedule": "OneCycleLR(max_lr=0.05, total_steps=5)"},
    "several schedules, equal average": {
        **only("price"),
        "layers": DENSE,
        "epochs": 4,
        "schedule": "SequentialLR([LinearLR(total_iters=2), SWALR(swa_lr=0.02, anneal_epochs=1)], milestones=[2])",
        "average": "SWA(start_epoch=3)",
    },
    "by its figures": {
        **only("grade"),
        "layers": DENSE,
        "schedule": "ReduceLROnPlateau(patience=0, threshold=0.9)",
        "early_stopping": {"monitor": "valid_accuracy", "patience": 3},
    },
    "with figures of scikit-learn": {**only("dear"), "layers": DENSE, "metrics": ["f1_score", "log_loss"]},
    "chained, averaged without valid rows": {
        **only("price"),
        "layers": DENSE,
        "split": {"valid": 0},
        "schedule": "ChainedScheduler([StepLR(step_size=1), ExponentialLR(gamma=0.9)])",
        "average": "EMA()",
    },
}


@pytest.mark.parametrize("name", list(LEARNING))
def test_a_table_learned_in_every_way_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    assert_exact(tmp_path, config=write_csv(tmp_path / "rows.csv"), **LEARNING[name])


def test_weights_of_elsewhere_and_layers_that_learn_later_end_with_the_same_bits(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "rows.csv")
    layers = ["Linear(8)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear(6)", "Linear()"]
    nw.train(source, **only("price"), layers=layers, epochs=1, run_dir=tmp_path / "first", test=False)
    held = {"freeze": ["0", "1", "4"], "unfreeze": [{"epoch": 3, "parameters": ["4"]}, {"epoch": 4, "parameters": ["1"]}]}
    settings = {**only("grade"), "layers": layers, "weights": tmp_path / "first", **held, "epochs": 5}
    text = assert_exact(tmp_path, config=source, optimizer="AdamW(lr=0.01, weight_decay=0.1)", **settings)
    assert "hold_still(model, *HELD[max(first for first in HELD if first <= epoch)])" in text
    assert "first (a run, best epoch 1); new: layer 5" in text
    nw.eject(tmp_path / "run", tmp_path / "script" / "again.py")  # the same weights lie there already
    np.savez(tmp_path / "script" / "start.npz", other=np.zeros(2))
    with pytest.raises(ConfigError, match=r"start.npz: other weights lie there; expected those that .* started from"):
        nw.eject(tmp_path / "run", tmp_path / "script" / "again.py")


def test_a_table_of_types_ends_with_the_same_bits(tmp_path: Path) -> None:
    rooms = [None if place % 10 == 2 else place % 5 for place in range(ROWS)]
    dates = [
        None if place % 12 == 5 else datetime.datetime(2024, 1, 1, 6) + place * datetime.timedelta(hours=5)
        for place in range(ROWS)
    ]
    columns = {
        "size": pa.array(RNG.normal(size=ROWS).astype(np.float32)),
        "rooms": pa.array(rooms, pa.int64()),
        "open": pa.array([None if place % 7 == 1 else place % 2 == 0 for place in range(ROWS)]),
        "town": pa.array(["ab"[place % 2] + " " for place in range(ROWS)]).dictionary_encode(),
        "when": pa.array(dates, pa.timestamp("ns")),
        "kind": pa.array([place % 3 for place in range(ROWS)]),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    assert_exact(tmp_path, config=str(tmp_path / "rows.parquet"), target="kind", layers=DENSE)


def test_text_of_other_marks_ends_with_the_same_bits(tmp_path: Path) -> None:
    columns = {
        name: [cell.replace(".", ",") for cell in cells] for name, cells in TABLE.items() if name in ("size", "price")
    }
    path = write_csv(tmp_path / "rows.csv", ";", {**columns, "town": TABLE["town"]})
    text = assert_exact(tmp_path, config=path, target="price", decimal=",", layers=DENSE, missing_values=["", "hills"])
    assert "delimiter=';'" in text


@pytest.mark.parametrize(("decimal", "thousands", "spelled"), [(".", ",", ","), (",", " ", "\u00a0"), (".", "'", "\u2019")])
def test_text_with_marks_between_thousands_ends_with_the_same_bits(
    decimal: str, thousands: str, spelled: str, tmp_path: Path
) -> None:
    sizes = [
        f"{value:,.2f}".replace(",", "T").replace(".", decimal).replace("T", spelled)
        for value in RNG.normal(size=ROWS) * 1e4
    ]
    prices = [f"{value:,}".replace(",", spelled) for value in range(900, 900 + ROWS)]
    path = write_csv(tmp_path / "rows.csv", ";", {"size": sizes, "town": TABLE["town"], "price": prices})
    assert_exact(tmp_path, config=path, target="price", decimal=decimal, thousands=thousands, layers=DENSE)


def test_files_without_names_of_columns_end_with_the_same_bits(tmp_path: Path) -> None:
    for part in range(2):
        rows = RNG.normal(size=(50, 4)).round(4)
        content = "\n".join(" ".join(map(str, row)) for row in rows)
        (tmp_path / f"part-{part}.txt").write_text(content + "\n")
    names = ["a", "b", "c", "y"]
    assert_exact(tmp_path, config=str(tmp_path / "part-*.txt"), columns=names, target="y", layers=DENSE)


def images(folder: Path) -> dict[str, Any]:
    values = RNG.integers(0, 255, (ROWS, 8, 8, 3)).astype(np.uint8)
    labels = RNG.choice(["left", "right", "up"], ROWS)
    np.savez(folder / "rows.npz", X_train=values[:60], y_train=labels[:60], X_test=values[60:], y_test=labels[60:])
    layers = [
        "Conv2d(4, 3)",
        "BatchNorm2d()",
        "ReLU()",
        "Residual([Conv2d(4, 3, padding=1), ReLU()])",
        "Flatten()",
        "Linear()",
    ]
    return {"config": str(folder / "rows.npz"), "layout": "NHWC", "layers": layers}


def photos(folder: Path, parts: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """Write class folders of images of several kinds and sizes, one with a folder inside."""
    for number, (part, label) in enumerate((part, label) for part in parts for label in ("cat", "dog")):
        (folder / "photos" / part / label / "inside").mkdir(parents=True)
        for place in range(24):
            values = RNG.integers(0, 256, (10 + place % 3, 11, 4 if place % 2 else 3), dtype=np.uint8)
            name = f"inside/{place}.png" if place == 5 else f"{place}-{number}.png"
            Image.fromarray(values).save(folder / "photos" / part / label / name)
    layers = ["Conv2d(4, 3)", "ReLU()", "Flatten()", "Linear()"]
    return {"config": str(folder / "photos"), "layers": layers}


def photos_in_parts(folder: Path) -> dict[str, Any]:
    return {**photos(folder, ("train", "valid", "test")), "image_mode": "grey", "image_size": [6, 7]}


def vectors(folder: Path) -> dict[str, Any]:
    values = RNG.normal(3, 2, (ROWS, 5))
    values[::7, 2] = np.nan
    np.save(folder / "X.npy", values)
    np.save(folder / "y.npy", RNG.normal(size=(ROWS, 2)))
    return {"config": str(folder / "X.npy"), "target": "y.npy", "layers": DENSE}


def volumes(folder: Path) -> dict[str, Any]:
    for name, values in (("images-idx3", RNG.integers(0, 255, (ROWS, 6, 6))), ("labels-idx1", RNG.integers(0, 4, ROWS))):
        head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        with gzip.open(folder / f"train-{name}-ubyte.gz", "wb") as stream:
            stream.write(head + values.astype(np.uint8).tobytes())
    return {"config": str(folder / "train-images-idx3-ubyte.gz"), "layers": ["Flatten()", "Linear(8)", "ReLU()", "Linear()"]}


def whole_codes(folder: Path) -> dict[str, Any]:
    np.savez(folder / "rows.npz", X=RNG.integers(0, 9, (ROWS, 6)), y=RNG.integers(0, 2, ROWS) == 1)
    return {"config": str(folder / "rows.npz"), "layers": ["Embedding(4)", "GRU(5)", "MeanOverTime()", "Linear()"]}


def signals(folder: Path) -> dict[str, Any]:
    np.savez(folder / "rows.npz", X=RNG.normal(size=(ROWS, 7, 3)).astype(np.float32), y=RNG.integers(0, 3, ROWS))
    layers = ["LSTM(6)", "MultiheadAttention(num_heads=2)", "LastStep()", "Parallel([Linear(4), Linear(2)])", "Linear()"]
    return {"config": str(folder / "rows.npz"), "layers": layers, "memory_format": "channels_last"}


def encoded_in_bfloat16(folder: Path) -> dict[str, Any]:
    layers = ["Linear(8)", "TransformerEncoderLayer(nhead=2, dim_feedforward=16)", "MeanOverTime()", "Linear()"]
    return {**signals(folder), "layers": layers, "memory_format": None, "precision": "bfloat16"}


@pytest.mark.parametrize(
    "make", [images, photos, photos_in_parts, vectors, volumes, whole_codes, signals, encoded_in_bfloat16]
)
def test_arrays_end_with_the_same_bits(make: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    assert_exact(tmp_path, **make(tmp_path))


def write_walks(folder: Path, apart: bool, same: bool = False) -> str:
    """Write sequences of different length, in one table or a file each."""
    lines, about = ["walk,x,y,door,mood"], ["walk,door"]
    for walk in range(60):
        count = 6 if same else int(RNG.integers(3, 12))
        steps = [f"{walk},{a:.4f},{b:.4f},{'lr'[walk % 2]},{'uv'[int(a > b)]}" for a, b in RNG.normal(size=(count, 2))]
        about.append(f"{walk},{'lr'[walk % 2]}")
        lines += steps
        if apart:
            cells = [",".join(step.split(",")[1:3]) for step in steps]
            (folder / "walks").mkdir(exist_ok=True)
            (folder / "walks" / f"{walk}.csv").write_text("x,y\n" + "\n".join(cells) + "\n")
    (folder / "walks.csv").write_text("\n".join(about if apart else lines) + "\n")
    return str(folder / "walks.csv")


WALKS: dict[str, dict[str, Any]] = {
    "default": {"target": "door", "ignore": ["mood"]},
    "both ways": {
        "target": "door",
        "ignore": ["mood"],
        "layers": ["LSTM(5, bidirectional=True)", "MeanOverTime()", "Linear()"],
    },
    "convolutions": {
        "target": "door",
        "ignore": ["mood"],
        "layers": ["Conv1d(6, 3, padding=1)", "ReLU()", "AdaptiveMaxPool1d(1)", "Flatten()", "Linear()"],
    },
    "a class each step": {"target": "mood", "ignore": ["door"], "layers": ["GRU(5)", "Linear()"]},
    "a class each step, weighed": {
        "target": "mood",
        "ignore": ["door"],
        "layers": ["GRU(5)", "Linear()"],
        "loss": "CrossEntropyLoss()",
        "class_weight": "balanced",
    },
    "a value each step": {"target": "y", "ignore": ["door", "mood"], "layers": ["GRU(5)", "Linear()"]},
}


@pytest.mark.parametrize("name", list(WALKS))
def test_sequences_of_different_length_end_with_the_same_bits(name: str, tmp_path: Path) -> None:
    text = assert_exact(tmp_path, config=write_walks(tmp_path, False), sequences="walk", **WALKS[name])
    assert "model = Masked(" in text


@pytest.mark.parametrize("same", [False, True])
def test_sequences_in_files_end_with_the_same_bits(same: bool, tmp_path: Path) -> None:
    path = write_walks(tmp_path, True, same)
    assert_exact(
        tmp_path, config=path, sequences="walks/{walk}.csv", target="door", layers=["GRU(5)", "LastStep()", "Linear()"]
    )


def test_windows_over_a_series_end_with_the_same_bits(tmp_path: Path) -> None:
    degrees = 10 + 5 * np.sin(np.arange(200) / 6) + RNG.normal(size=200)
    (tmp_path / "series.csv").write_text("degrees,rain\n" + "".join(f"{value:.2f},{value > 9}\n" for value in degrees))
    text = assert_exact(tmp_path, config=str(tmp_path / "series.csv"), target="degrees", window=12, horizon=2, stride=3)
    assert "SEGMENTS = [(0, " in text


OWN = '''"""An own network."""
from __future__ import annotations

import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

WIDTH = 6
DROPPED = 0.25


def scaled(x, by=math.sqrt(2)):
    return x / by


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.linear, self.norm = nn.Linear(size, size), nn.BatchNorm1d(size)

    def forward(self, x):
        return x + F.dropout(self.norm(torch.relu(self.linear(x))), DROPPED, self.training)


class Unused(nn.Module):
    pass


class Net(nn.Module):
    def __init__(self, outputs, blocks=1):
        super().__init__()
        self.first, self.by = nn.LazyLinear(WIDTH), np.random.uniform(1, 2) + random.random()
        self.blocks = nn.ModuleList(Block(WIDTH) for _ in range(blocks))
        self.last = nn.Linear(WIDTH, outputs)

    def forward(self, x):
        x = scaled(self.first(x)) / self.by
        if self.training and random.random() < 0.5:
            x = x * 1.5
        for block in self.blocks:
            x = block(x)
        return self.last(x)


if __name__ == "__main__":
    raise SystemExit("not to be run")
'''


def test_an_own_network_is_carried_with_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    model = {"module": str(tmp_path / "own.py") + ":Net", "arguments": {"outputs": 1, "blocks": 2}}
    path = write_csv(tmp_path / "rows.csv")
    text = assert_exact(tmp_path, config=path, model=model, code=[tmp_path / "own.py"], **only("price"))
    assert "model = Net(outputs=1, blocks=2)" in text
    assert "def scaled(x" in text
    assert "Unused" not in text
    assert "not to be run" not in text
    assert "reshape(-1, 1)" not in text


def test_an_own_network_that_gives_one_number_a_row_without_its_axis_is_carried(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("return self.last(x)", "return self.last(x).squeeze(-1)"))
    model = {"module": str(tmp_path / "own.py") + ":Net", "arguments": {"outputs": 1}}
    path, code = write_csv(tmp_path / "rows.csv"), [tmp_path / "own.py"]
    for name, settings in (("whole", {}), ("parts", {"micro_batch": 8})):
        (tmp_path / name).mkdir()
        text = assert_exact(tmp_path / name, config=path, model=model, code=code, **settings, **only("price"))
        assert text.count("reshape(-1, 1)") == 3  # in the step, in evaluate and in predict
    told = "\n".join(line.code for line in explain(tmp_path / "parts" / "run", code))
    assert "output = model(inputs).reshape(-1, 1)" in told


@pytest.mark.parametrize("name", ["diabetes", "digits", "sequence", "tutorial", "own_module"])
def test_every_example_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    code = [EXAMPLES / "own_module.py"] if name == "own_module" else []
    text = assert_exact(tmp_path, config=EXAMPLES / f"{name}.toml", code=code, epochs=2, batch_size=64)
    assert len(text.splitlines()) < 240
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    defined = [item.name for item in ast.parse(text).body if isinstance(item, ast.FunctionDef | ast.ClassDef)]
    for item in ast.parse(text).body:  # no function is hidden by a value
        if not isinstance(item, ast.FunctionDef | ast.ClassDef):
            made = {node.id for node in ast.walk(item) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
            assert made.isdisjoint(defined)


def test_verify_eject_runs_the_script_alone_and_sees_what_differs(tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv")
    run = nw.train(rows, epochs=2, run_dir=tmp_path / "run", layers=DENSE, baselines=[], **only("grade"))
    found = verify_eject(run.folder)
    assert found.held
    assert found.text.startswith(
        "eject: exact; the script alone, without netwright, gave the same 4 tensors, last and best and 5"
    )
    config = run.folder / "config.toml"
    config.write_text(config.read_text().replace('optimizer = "Adam(lr=0.001', 'optimizer = "Adam(lr=0.0010001'))
    found = verify_eject(run.folder)
    assert not found.held
    assert found.text.startswith("eject: not exact: last weights: 0.weight: up to ")


def test_a_script_that_asks_for_netwright_does_not_hold(tmp_path: Path) -> None:
    model = {"module": str(tmp_path / "own.py") + ":Net", "arguments": {"outputs": 1}}
    (tmp_path / "own.py").write_text(OWN)
    path = write_csv(tmp_path / "rows.csv")
    run = nw.train(path, model=model, code=[tmp_path / "own.py"], epochs=1, run_dir=tmp_path / "run", **only("price"))
    copy = run.folder / "model" / "source" / "own.py"
    copy.write_text(copy.read_text().replace("return x / by", '__import__("netwright")\n    return x / by'))
    with pytest.raises(SafetyError, match="if you trust it, type: netwright verify eject .* --code .*own.py"):
        verify_eject(run.folder)
    found = verify_eject(run.folder, [copy])
    assert not found.held
    assert found.text == "eject: the script fails: ImportError: netwright is not here"


def test_the_commands_write_prove_and_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = nw.train("sklearn:digits", epochs=1, run_dir=tmp_path / "run", layers=["Flatten()", "Dropout(0.5)", "Linear()"])
    script = tmp_path / "out" / "train.py"
    script.parent.mkdir()
    assert command("eject", str(run.folder), "-o", str(script)) == 0
    assert (script.parent / "split.npz").read_bytes() == (run.folder / "split.npz").read_bytes()
    assert command("eject", str(run.folder)) == 0
    assert script.read_text() in capsys.readouterr().out
    assert command("explain", str(run.folder)) == 0
    told = capsys.readouterr().out
    assert "inputs (64, 1, 8, 8) torch.float32, target (64,) torch.int64" in told
    assert "2        Linear             (64, 10)" in told
    assert "dropout puts numbers to 0 at random" in told
    first = json.loads((run.folder / "steps.jsonl").read_text().splitlines()[0])["loss"]
    assert f"In the first step of this run: {first:.6g}." in " ".join(told.replace("# ", "").split())
    update = json.loads((run.folder / "run.json").read_text()) | {"status": "stopped"}
    (run.folder / "run.json").write_text(json.dumps(update))
    assert command("verify", "eject", str(run.folder)) == 4
    assert "expected a run that ended by itself" in capsys.readouterr().err


def test_explain_tells_the_first_loss_of_sequences_and_own_networks(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    model = {"module": str(tmp_path / "own.py") + ":Net", "arguments": {"outputs": 1}}
    path, code = write_csv(tmp_path / "rows.csv"), [tmp_path / "own.py"]
    run = nw.train(path, model=model, code=code, epochs=1, run_dir=tmp_path / "own", **only("price"))
    walks = nw.train(
        write_walks(tmp_path, False), sequences="walk", epochs=1, run_dir=tmp_path / "walks", **WALKS["both ways"]
    )
    for one in (run, walks):
        first = json.loads((one.folder / "steps.jsonl").read_text().splitlines()[0])["loss"]
        assert f"{first:.6g}." in " ".join(line.comment for line in explain(one.folder, code))


def test_the_first_tensor_that_differs_is_named(tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", epochs=2, run_dir=tmp_path / "iris", layers=["Linear()"])
    rerun(run, tmp_path / "script")
    with np.load(tmp_path / "script" / "best.npz") as stored:
        weights = dict(stored)
    weights["0.bias"] = np.nextafter(weights["0.bias"], np.float32(9))
    np.savez(tmp_path / "script" / "best.npz", **weights)
    found = json.loads((tmp_path / "script" / FOUND).read_text())
    assert (difference(run.folder, tmp_path / "script", found) or "").startswith("best weights: 0.bias: up to ")


def test_a_figure_that_differs_is_named(tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", epochs=2, run_dir=tmp_path / "iris", layers=["Linear()"])
    rerun(run, tmp_path / "script")
    found = json.loads((tmp_path / "script" / FOUND).read_text())
    told = json.loads((run.folder / "test.json").read_text())
    assert difference(run.folder, tmp_path / "script", found) is None
    for name in ("loss", "roc_auc"):  # one the script gives, one worked out from what it predicts
        value = told["metrics"][name]["value"]
        changed = {**told, "metrics": {**told["metrics"], name: {"value": float(np.nextafter(value, 9))}}}
        (run.folder / "test.json").write_text(json.dumps(changed))
        assert (difference(run.folder, tmp_path / "script", found) or "").startswith(f"test {name}: ")


def test_a_run_from_python_objects_is_refused_in_one_line(tmp_path: Path) -> None:
    run = nw.train(data=(RNG.normal(size=(60, 3)), RNG.normal(size=60)), epochs=1, run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="came from Python, which no file holds; expected a run of files; save the rows"):
        nw.eject(run)


def test_epochs_chosen_by_a_figure_of_scikit_learn_are_refused_in_one_line(tmp_path: Path) -> None:
    watched = {"metrics": ["f1_score"], "early_stopping": {"monitor": "valid_f1_score", "patience": 2}}
    run = nw.train("sklearn:iris", layers=["Linear()"], epochs=1, run_dir=tmp_path / "run", **watched)
    with pytest.raises(
        ConfigError, match="epochs chosen by valid_f1_score came, of which eject writes no script; expected by"
    ):
        nw.eject(run)


def test_amounts_of_images_in_a_table_are_refused_in_one_line(tmp_path: Path) -> None:
    photos(tmp_path)
    paths = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.glob("photos/*/*.png"))]
    (tmp_path / "list.csv").write_text("file,age\n" + "".join(f"{path},{place / 7}\n" for place, path in enumerate(paths)))
    settings = {"images": "file", "target": "age", "layers": ["Flatten()", "Linear()"], "epochs": 1}
    run = nw.train(str(tmp_path / "list.csv"), run_dir=tmp_path / "run", **settings)
    with pytest.raises(ConfigError, match="images of .*list.csv came, of which eject writes no script"):
        nw.eject(run)


def test_another_split_beside_the_script_is_never_overwritten(tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", epochs=1, run_dir=tmp_path / "iris")
    (tmp_path / "split.npz").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="another split lies there"):
        nw.eject(run, tmp_path / "train.py")
    assert (tmp_path / "split.npz").read_bytes() == b"mine"
    assert not (tmp_path / "train.py").exists()


WORDS = np.array([["Yes", "no"], ["f", "TRUE"], ["n", "0"], ["1", "t"]])


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_labels_that_are_words_are_written(kind: str, tmp_path: Path) -> None:
    rows, labels, path = RNG.normal(size=(80, 2)), WORDS[np.arange(80) % 4], tmp_path / f"rows.{kind}"
    if kind == "npz":
        np.savez(path, X=rows, y=labels)
    else:
        pq.write_table(pa.table({"x": rows[:, 0], "y": labels[:, 0], "z": labels[:, 1]}), path)
    target = ["y"] if kind == "npz" else ["y", "z"]
    assert_exact(tmp_path, config=str(path), target=target, task="multilabel", layers=["Linear()"])


MORNING = datetime.datetime(2020, 1, 1, 10, 30)
DAYS = [MORNING.date(), datetime.date(2020, 1, 2)]
MOMENTS: dict[str, pa.Array] = {
    "days": pa.array(DAYS, pa.date32()),
    "midnights": pa.array(DAYS, pa.date32()).cast(pa.timestamp("us")),
    "times": pa.array([MORNING, datetime.datetime(2020, 1, 2)], pa.timestamp("us")),
    "times of a zone": pa.array([MORNING, datetime.datetime(2020, 1, 2)], pa.timestamp("us", "Europe/Berlin")),
}


@pytest.mark.parametrize("kind", MOMENTS)
def test_classes_that_are_dates_or_times_are_written(kind: str, tmp_path: Path) -> None:
    rows = RNG.normal(size=80)
    target = MOMENTS[kind].take(pa.array((rows > 0).astype(np.int8)))
    pq.write_table(pa.table({"x": rows, "y": target}), tmp_path / "rows.parquet")
    text = assert_exact(tmp_path, config=str(tmp_path / "rows.parquet"), target="y", layers=["Linear()"])
    assert "CLASSES = ['2020-01-01" in text or 'CLASSES = ["2020-01-01' in text
