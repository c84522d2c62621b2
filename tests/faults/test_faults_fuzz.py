"""Thousands of mutated files: never a traceback, a signal, a hang or a write; the exit code is one of the design's."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from PIL import Image

CODES = (0, 2, 3, 4, 5, 6, 8)
SECONDS = 20  # for one file; a good one is trained on in well under one
ALL, FEW = 2000, 60
TOKENS = (
    b"nan", b"inf", b"-1", b"1e39", b"\0", b"\xff\xfe", b"\r\n", b'"', b",,,,", b"[" * 50, b"{}", b"null", b"0" * 400, b"../../x",
    b"os.system", b"9" * 30, b"=1+1", "ü".encode("latin-1"), b"\x80\x04\x95",
)  # fmt: skip
SETTINGS = ["--set", "training.epochs=1", "--set", "training.threads=1", "--no-test"]


def table() -> pa.Table:
    generator = np.random.default_rng(0)
    a, kinds = generator.normal(size=40).round(3), ["red", "blue", None, "green"]
    return pa.table(
        {"a": a, "b": range(1, 41), "c": [kinds[row % 4] for row in range(40)], "y": [row % 2 for row in range(40)]}
    )


def written(write: Callable[[io.BytesIO], Any]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def image(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (6, 6), dtype=np.uint8)
    return written(lambda stream: Image.fromarray(pixels).save(stream, "PNG"))


def images(stream: io.BytesIO) -> None:
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(12):
            archive.writestr(f"{'ab'[number % 2]}/{number}.png", image(number))


def hdf5(stream: io.BytesIO) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(stream, "w") as file:
        file["X"] = np.random.default_rng(0).normal(size=(40, 3))
        file["y"] = np.arange(40) % 2


def excel(stream: io.BytesIO) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [table().column_names, *zip(*table().to_pydict().values(), strict=True)]:
        book.active.append(row)
    book.save(stream)


def series() -> bytes:
    lines = ["@problemName x", "@timeStamps false", "@univariate true", "@classLabel true a b", "@data"]
    return "\n".join([*lines, *(f"{row},{row + 1},{row % 3},{row % 5}:{'ab'[row % 2]}" for row in range(20))]).encode()


def lines() -> bytes:
    return "\n".join(json.dumps(row) for row in table().to_pylist()).encode()


CONFIG = b"""
[data]
source = "t.csv"
target = "y"
batch_size = 8
split = { test = 0.2, valid = 0.2 }
[model]
layers = ["Linear(4)", "ReLU()", "Dropout(0.1)", "Linear()"]
[training]
epochs = 1
optimizer = "Adam(lr=0.01)"
loss = "BCEWithLogitsLoss()"
[checkpoint]
every_steps = 2
"""
Y = ["--target", "y"]
TABS = pa.csv.WriteOptions(delimiter="\t")
KINDS: dict[str, tuple[str, Callable[[], bytes], list[str]]] = {
    "csv": ("x.csv", lambda: written(lambda stream: pa.csv.write_csv(table(), stream)), ["train", "x.csv", *Y]),
    "tsv": ("x.tsv", lambda: written(lambda s: pa.csv.write_csv(table(), s, TABS)), ["train", "x.tsv", *Y]),
    "jsonl": ("x.jsonl", lines, ["train", "x.jsonl", *Y]),
    "parquet": ("x.parquet", lambda: written(lambda stream: pa.parquet.write_table(table(), stream)), ["train", "x.parquet", *Y]),
    "feather": ("x.feather", lambda: written(lambda stream: pa.feather.write_feather(table(), stream)), ["train", "x.feather", *Y]),
    "excel": ("x.xlsx", lambda: written(excel), ["train", "x.xlsx", *Y]),
    "npz": ("x.npz", lambda: written(lambda s: np.savez(s, X=np.random.rand(40, 3), y=np.arange(40) % 2)), ["train", "x.npz"]),
    "hdf5": ("x.h5", lambda: written(hdf5), ["train", "x.h5", *Y]),
    "images": ("x.zip", lambda: written(images), ["train", "x.zip"]),
    "series": ("x.ts", series, ["train", "x.ts"]),
    "config": ("x.toml", lambda: CONFIG, ["train", "x.toml"]),
    "new rows": ("x.csv", lambda: written(lambda stream: pa.csv.write_csv(table(), stream)), ["predict", "run", "x.csv"]),
    "weights": ("run/model/best.safetensors", lambda: b"", ["predict", "run", "t.csv"]),
    "preparation": ("run/preparation.json", lambda: b"", ["predict", "run", "t.csv"]),
    "record": ("run/run.json", lambda: b"", ["predict", "run", "t.csv"]),
    "resolved": ("run/config.toml", lambda: b"", ["resume", "run"]),
    "split": ("run/split.npz", lambda: b"", ["test", "run"]),
}  # fmt: skip


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Change a file once or a few times."""
    for _ in range(draw.choice((1, 1, 2, 5))):
        place, size = draw.randrange(len(content) + 1), draw.randrange(1, 40)
        way = draw.randrange(7)
        if way == 0 and place < len(content):
            content = content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]
        elif way == 1:
            content = content[:place]
        elif way == 2:
            content = content[:place] + draw.randbytes(size) + content[place:]
        elif way == 3:
            content = content[:place] + content[place : place + size] * 3 + content[place + size :]
        elif way == 4:
            content = content[:place] + bytes(min(size, len(content) - place)) + content[place + size :]
        elif way == 5:
            other = draw.randrange(len(content) + 1)
            content = content[:place] + content[other : other + size] + content[place + size :]
        else:
            content = content[:place] + draw.choice(TOKENS) + content[place:]
    return content


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a run of it that was stopped."""
    folder = tmp_path_factory.mktemp("good")
    pa.csv.write_csv(table(), folder / "t.csv")
    words = ["train", str(folder / "t.csv"), *Y, "--run-dir", str(folder / "run"), "--set", 'model.layers=["Linear()"]']
    assert harness.run([*words, "--set", "training.epochs=1"], folder.parent / "log").code == 0
    return folder


def stand_in(folder: str) -> None:
    """Work in a folder, for a bounded time."""
    os.chdir(folder)
    signal.alarm(SECONDS)


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fuzzed(number: int, good: Path, place: Path) -> int:
    draw = random.Random(number)
    kind = list(KINDS)[number % len(KINDS)]
    name, make, words = KINDS[kind]
    folder = place / str(number)
    shutil.copytree(good, folder)
    content = make() or (folder / name).read_bytes()
    (folder / name).write_bytes(mutated(content, draw))
    before = content_of(folder)
    if words[0] == "train":
        words = [*words, "--run-dir", "new", *SETTINGS]
    found = harness.run(words, place / f"log{number}", stand_in, str(folder))
    label = f"{number} {kind}: exit {found.code}: {found.stderr[-300:]}"
    assert found.code != -signal.SIGALRM, f"{label} hangs"
    assert found.code in CODES, label
    assert "Traceback" not in found.stderr, label
    if found.code:
        errors = [line for line in found.stderr.splitlines() if line.startswith("netwright: error: ")]
        assert len(errors) == 1, label
        assert found.code in (4, 5) or content_of(folder) == before, f"{label} wrote"
    shutil.rmtree(folder)
    return found.code


def fuzz(count: int, good: Path, place: Path) -> dict[int, int]:
    codes: dict[int, int] = {}
    problems: list[str] = []

    def once(number: int) -> None:
        try:
            code = fuzzed(number, good, place)
            codes[code] = codes.get(code, 0) + 1
        except AssertionError as error:
            problems.append(str(error).splitlines()[0][:300])

    harness.in_parallel({str(number): lambda number=number: once(number) for number in range(count)})
    assert problems == []
    return codes


def test_a_few_mutated_files_end_in_one_line(good: Path, tmp_path: Path) -> None:
    codes = fuzz(FEW, good, tmp_path)
    assert codes[3] >= FEW // 6
    assert 0 in codes


@pytest.mark.faults
def test_thousands_of_mutated_files_end_in_one_line(good: Path, tmp_path: Path) -> None:
    codes = fuzz(ALL, good, tmp_path)
    assert sum(codes.values()) == ALL
    assert codes[3] >= ALL // 6
