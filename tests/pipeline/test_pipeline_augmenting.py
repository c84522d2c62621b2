"""Augmented runs repeat bit for bit, change train rows only, and refuse what does not fit; Datasets train as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import netwright as nw
from netwright.data.batches import epoch_order
from netwright.errors import ConfigError
from netwright.seeding import torch_seed

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 255, (120, 8, 8), dtype=np.uint8)
SERIES = GENERATOR.normal(size=(120, 9, 2))
CLASSES = np.arange(120) % 3
NUMBERS = GENERATOR.normal(size=120)
CNN = ["Conv2d(4, 3, padding=1)", "ReLU()", "Flatten()", "Linear()"]
GRU = ["GRU(6)", "LastStep()", "Linear()"]
PIXELS = ["RandomHorizontalFlip(p=0.5)", "RandomCrop(8, padding=2)", "RandomRotation(15)", "ColorJitter(0.4, 0.4)"]


def weights(run: nw.Run) -> list[float]:
    return [float(value) for tensor in run.model.state_dict().values() for value in tensor.flatten()]


def short(data: Any, folder: Path, **settings: Any) -> nw.Run:
    return nw.train(data=data, run_dir=folder, **{"epochs": 2, "batch_size": 16, **settings})


def test_sequences_with_noise_give_the_weights_of_a_loop_by_hand(tmp_path: Path) -> None:
    run = short((SERIES, CLASSES), tmp_path / "run", layers=GRU, augmentation=["Noise(0.2)"], seed=3, preparation=None)
    assert run.inputs is not None
    torch.manual_seed(torch_seed(3, "initialisation"))
    gru, last = nn.GRU(2, 6, batch_first=True), nn.Linear(6, 3)
    optimizer = torch.optim.Adam([*gru.parameters(), *last.parameters()], lr=0.001, fused=True)
    x, y, best = torch.from_numpy(SERIES).float(), torch.from_numpy(CLASSES), (float("inf"), [])
    valid = torch.from_numpy(run.inputs.split.valid)
    for epoch in (1, 2):
        for rows in torch.from_numpy(epoch_order(run.inputs.split.train, 3, epoch)).split(16):
            changed = []
            for row in rows.tolist():
                torch.manual_seed(torch_seed(3, "augmentation", epoch, 1, row))
                changed.append(x[row] + 0.2 * torch.randn(9, 2))
            loss = nn.functional.cross_entropy(last(gru(torch.stack(changed))[0][:, -1]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            figure = float(nn.functional.cross_entropy(last(gru(x[valid])[0][:, -1]), y[valid]))
        state = [
            float(value) for module in (gru, last) for tensor in module.state_dict().values() for value in tensor.flatten()
        ]
        best = min(best, (figure, state))
    assert run.history[-1]["valid_loss"] == pytest.approx(figure)
    assert weights(run) == best[1]


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sequences": (
        (SERIES, CLASSES),
        {"layers": GRU, "augmentation": ["Noise(0.2)", "Scale(0.1)", "TimeShift(2)", "TimeMask(3)"]},
    ),
    "mixed": ((IMAGES, CLASSES), {"layers": CNN, "layout": "NHW", "augmentation": ["MixUp(alpha=0.4)", "CutMix()"]}),
    "mixed, yes or no": ((SERIES, CLASSES == 1), {"layers": GRU, "augmentation": ["MixUp(0.4)"]}),
    "mixed numbers": ((SERIES, NUMBERS), {"layers": GRU, "augmentation": ["MixUp(0.4)"]}),
    "different length": (
        ([SERIES[row, : 4 + row % 5] for row in range(120)], CLASSES),
        {"layers": GRU, "augmentation": ["TimeShift(1)", "Noise(0.1)"]},
    ),
    "windows": (
        (SERIES[:, 0], SERIES[:, 0, 0]),
        {"layers": GRU, "augmentation": ["Noise(0.1)"], "window": 5, "task": "regression"},
    ),
    "images": ((IMAGES, CLASSES), {"layers": CNN, "layout": "NHW", "augmentation": [*PIXELS, "Noise(0.1)"]}),
}


@pytest.mark.parametrize("name", CASES)
def test_an_augmented_run_repeats_and_differs_from_a_plain_one(name: str, tmp_path: Path) -> None:
    if name == "images":
        pytest.importorskip("torchvision")
    data, settings = CASES[name]
    told: list[str] = []
    run = short(data, tmp_path / "a", **settings, observers=[lambda record: told.append(str(record))])
    again = short(data, tmp_path / "b", **settings)
    plain = short(data, tmp_path / "c", **{**settings, "augmentation": []})
    resolved = run.config.data.augmentation
    assert any(line == f"augmentation of the train rows: {', '.join(resolved)}" for line in told)
    assert all("=" in text or text.endswith("()") for text in resolved)
    tree = run.config.model_dump(exclude_none=True)
    tree["data"].pop("source")
    from_config = nw.train(tree, data=data, run_dir=tmp_path / "d")
    assert weights(run) == weights(again) == weights(from_config)
    assert weights(run) != weights(plain)
    state = {"train_seconds", "valid_seconds"}
    assert [{k: v for k, v in row.items() if k not in state} for row in run.history] == [
        {k: v for k, v in row.items() if k not in state} for row in again.history
    ]


def test_images_augmented_in_processes_give_the_same_weights(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    runs = [
        short((IMAGES, CLASSES), tmp_path / str(workers), layers=CNN, layout="NHW", augmentation=PIXELS, workers=workers)
        for workers in (0, 2)
    ]
    assert weights(runs[0]) == weights(runs[1])


def test_valid_and_test_rows_are_never_changed(tmp_path: Path) -> None:
    settings = {"layers": CNN, "layout": "NHW", "optimizer": "SGD(lr=0.0)"}
    plain = short((IMAGES, CLASSES), tmp_path / "a", **settings)
    changed = short((IMAGES, CLASSES), tmp_path / "b", **settings, augmentation=["Noise(5.0)", "MixUp()"])
    assert plain.history[0]["valid_loss"] == changed.history[0]["valid_loss"]
    assert plain.history[0]["train_loss"] != changed.history[0]["train_loss"]
    assert plain.tested is not None
    assert changed.tested is not None
    assert plain.tested["metrics"]["loss"] == changed.tested["metrics"]["loss"]


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a table": (
        "sklearn:iris",
        {"augmentation": ["Noise(0.1)"]},
        "Noise(0.1) came, and the rows are those of a table; expected images or sequences",
    ),
    "codes": (
        (np.arange(360).reshape(120, 3) % 7, CLASSES),
        {"layers": ["Embedding(4)", "Flatten()", "Linear()"], "augmentation": ["Noise(0.1)"]},
        "the rows are codes",
    ),
    "time of images": (
        (IMAGES, CLASSES),
        {"layers": CNN, "layout": "NHW", "augmentation": ["TimeShift(2)"]},
        "TimeShift came, a transform of sequences; the rows are NCHW; expected NTC or NCT",
    ),
    "areas of sequences": (
        (SERIES, CLASSES),
        {"layers": GRU, "augmentation": ["CutMix()"]},
        "CutMix came; the rows are NTC and the task is multiclass; expected images (NCHW) with classes; write MixUp",
    ),
    "areas and numbers": (
        (IMAGES, NUMBERS),
        {"layers": CNN, "layout": "NHW", "augmentation": ["CutMix()"]},
        "the task is regression; expected images (NCHW) with classes",
    ),
    "a loss of one class": (
        (SERIES, CLASSES),
        {"layers": GRU, "augmentation": ["MixUp()"], "loss": "MultiMarginLoss()"},
        "MixUp came with MultiMarginLoss(); it gives each row shares of two classes",
    ),
    "an ignored class": (
        (SERIES, CLASSES),
        {"layers": GRU, "augmentation": ["MixUp()"], "loss": "CrossEntropyLoss(ignore_index=1)"},
        "MixUp came with CrossEntropyLoss(ignore_index=1)",
    ),
    "mixed lengths": (
        ([SERIES[row, : 4 + row % 5] for row in range(120)], CLASSES),
        {"layers": GRU, "augmentation": ["MixUp()"]},
        "MixUp came, and rows differ in length",
    ),
    "shifted targets": (
        ([SERIES[row, : 4 + row % 5] for row in range(120)], [np.arange(4 + row % 5) % 2 for row in range(120)]),
        {"layers": ["GRU(4)", "Linear()"], "augmentation": ["TimeShift(2)"], "task": "binary"},
        "TimeShift came",
    ),
    "bad number": ((SERIES, CLASSES), {"layers": GRU, "augmentation": ["Noise(-1)"]}, "Noise(std=-1) came"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_written(name: str, tmp_path: Path) -> None:
    data, settings, words = REFUSED[name]
    with pytest.raises(ConfigError) as problem:
        nw.train(data, run_dir=tmp_path / "run", **settings)
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)
    assert list(tmp_path.iterdir()) == []


# what torchvision would misread or make of another size
IMAGES_REFUSED: dict[str, tuple[Any, list[str], str]] = {
    "a smaller crop": (IMAGES, ["RandomCrop(6)"], "RandomCrop made (1, 6, 6) of uint8 out of (1, 8, 8) of uint8"),
    "colours of any range": (IMAGES / 10.0 - 3, PIXELS, "ColorJitter came; the images are float64 from -3 to 22.4"),
    "sequences": (SERIES, PIXELS, "RandomHorizontalFlip came, a transform of images; the rows are"),
    "a transform that fails": (IMAGES, ["RandomCrop('a')"], "RandomCrop fails on an image (1, 8, 8) of uint8: "),
}


@pytest.mark.parametrize("name", IMAGES_REFUSED)
def test_images_that_torchvision_would_misread_are_refused(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    values, augmentation, words = IMAGES_REFUSED[name]
    layout = "NHW" if values.ndim == 3 and values.shape[2] == 8 else "NTC"
    with pytest.raises(ConfigError) as problem:
        short((values, CLASSES), tmp_path / "run", layout=layout, augmentation=augmentation)
    assert words in str(problem.value)
    assert list(tmp_path.iterdir()) == []


class Jittered(Dataset[Any]):
    """Items that change at random, as with transforms of torchvision."""

    def __init__(self, rows: slice, std: float) -> None:
        self.x, self.y, self.std = torch.from_numpy(SERIES[rows]).float(), CLASSES[rows], std

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        noise = self.std * torch.randn(9, 2) if self.std else 0.0
        return self.x[row] + noise, int(self.y[row])


def test_a_dataset_gives_the_weights_of_its_arrays(tmp_path: Path) -> None:
    x, y = torch.from_numpy(SERIES).float(), torch.from_numpy(CLASSES)
    arrays = short((x, y), tmp_path / "a", layers=GRU, preparation=None)
    dataset = short(TensorDataset(x, y), tmp_path / "b", layers=GRU)
    assert weights(arrays) == weights(dataset)
    assert dataset.config.data.preparation == "none"
    assert any("taken as they are (preparation = none)" in note for note in dataset.record["notes"])
    scaled = short(TensorDataset(x, y), tmp_path / "c", layers=GRU, preparation={"numbers": "standardize"})
    assert weights(scaled) == weights(short((x, y), tmp_path / "d", layers=GRU))
    assert (dataset.predict(TensorDataset(x, y)) == arrays.predict(x)).all()
    assert (dataset.predict(list(x)) == arrays.predict(x)).all()
    assert dataset.test(TensorDataset(x[:50] + 1, y[:50]))["n"] == 50


def test_a_dataset_that_changes_at_random_is_read_anew_each_epoch_and_repeats(tmp_path: Path) -> None:
    def parts(std: float) -> dict[str, Any]:
        return {
            "test": Jittered(slice(100, 120), 0),
            "train": Jittered(slice(0, 80), std),
            "valid": Jittered(slice(80, 100), 0),
        }

    runs = [short(parts(std), tmp_path / str(place), layers=GRU) for place, std in enumerate((0.5, 0.5, 0.0))]
    assert weights(runs[0]) == weights(runs[1])
    assert weights(runs[0]) != weights(runs[2])
    shared = short(parts(0.5), tmp_path / "workers", layers=GRU, workers=2)
    assert weights(runs[0]) == weights(shared)
    seeded = short(parts(0.5), tmp_path / "seed", layers=GRU, seed=1)
    assert seeded.record["data"]["digest"] == runs[0].record["data"]["digest"]
    frozen = short(parts(0.5), tmp_path / "frozen", layers=GRU, optimizer="SGD(lr=0.0)", epochs=3)
    assert len({row["train_loss"] for row in frozen.history}) == 3
    assert len({row["valid_loss"] for row in frozen.history}) == 1


def test_a_split_of_ones_own_is_kept(tmp_path: Path) -> None:
    x, y = SERIES.astype(np.float32), CLASSES
    data = {"train": (x[:70], y[:70]), "valid": (x[70:90], y[70:90]), "test": (x[90:], y[90:])}
    run = short(data, tmp_path / "run", layers=GRU)
    assert run.inputs is not None
    split = run.inputs.split
    assert [part.tolist() for part in (split.train, split.valid, split.test)] == [
        list(range(70)), list(range(70, 90)), list(range(90, 120))
    ]  # fmt: skip
