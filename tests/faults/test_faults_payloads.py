"""Hostile files: nothing of them runs, nothing is imported, written or connected to; each ends in one line.

Every payload would leave a canary; an audit hook of Python in the process notes what it opens, starts and imports.
"""

from __future__ import annotations

import base64
import hashlib
import html.parser
import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tomli_w
import torch

CODES = (2, 3, 4, 8)
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
)
CANARY = "canary"
MODULE = f"import os\nos.mkdir({CANARY!r})\ndef run(*a, **k):\n    os.mkdir({CANARY!r})\n"


class Bomb:
    """Makes the canary when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CANARY

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


def watch(folder: str, log: str) -> None:
    """Stand in the folder, let its modules be found, and note what should not happen."""
    os.chdir(folder)
    sys.path.insert(0, folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    flags = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        told = None
        if event in FORBIDDEN and not _usual(event, arguments):
            told = f"{event} {arguments!r:.200}"
        elif event == "import" and arguments[0] in ("evil", "antigravity", "this"):
            told = f"import {arguments[0]}"
        elif event == "os.mkdir" and str(arguments[0]).endswith(CANARY):
            told = "canary"
        elif event == "open" and isinstance(arguments[0], str) and isinstance(arguments[2], int) and arguments[2] & flags:
            path = os.path.abspath(arguments[0])
            if not path.startswith((folder, "/dev/", log)) and "matplotlib" not in path:
                told = f"open {path}"
        if told is not None:
            os.write(descriptor, f"{told}\n".encode())

    sys.addaudithook(hook)


def _usual(event: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether a process is one of two that no run decides on: joblib counts cores, the native replay is compiled."""
    words = [str(word) for word in arguments[1]] if event == "subprocess.Popen" else []
    return words == ["lscpu", "--parse=core"] or "netwright.recording.building" in words[:4]


def attacked(words: list[str], folder: Path, codes: tuple[int, ...] = CODES, writes: bool = False) -> harness.Ended:
    """Run a command on hostile files and return how it ended, after all that must not happen did not."""
    (folder / "evil.py").write_text(MODULE)
    before = snapshot(folder)
    log = folder.parent / f"{folder.name}.log"
    found = harness.run(words, log, watch, str(folder), f"{log}.audit")
    assert found.code in codes, f"{words}: {found.code}: {found.stderr}"
    assert "Traceback" not in found.stderr
    if found.code:
        lines = [line for line in found.stderr.splitlines() if line.startswith("netwright: error: ")]
        assert len(lines) == 1, found.stderr
    assert not (folder / CANARY).exists()
    audit = Path(f"{log}.audit")
    assert audit.read_text() == "", audit.read_text()
    if not writes:
        assert snapshot(folder) == before
    return found


def snapshot(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a finished run of it."""
    folder = tmp_path_factory.mktemp("trained")
    lines = ["a,b,c,y", *(f"{row % 5},{row * 0.1},{'uvw'[row % 3]},{('no', 'yes')[row % 2]}" for row in range(60))]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    words = ["train", str(folder / "t.csv"), "--target", "y", "--run-dir", str(folder / "run")]
    settings = ["--set", "training.epochs=2", "--set", 'model.layers=["Linear()"]']
    assert harness.run([*words, *settings], folder.parent / "log").code == 0
    return folder


def copied(trained: Path, folder: Path) -> Path:
    shutil.copytree(trained, folder)
    return folder


# ---- G1: pickles -------------------------------------------------------------------------------------------------------


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def torched(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def parquet(folder: Path) -> bytes:
    table = pa.table({"a": list(range(30)), "y": [float(row) for row in range(30)]})
    stream = io.BytesIO()
    metadata = {b"pandas": pickle.dumps(Bomb(folder)), b"ARROW:extension:name": b"evil.run"}
    pa.parquet.write_table(table.replace_schema_metadata(metadata), stream)
    return stream.getvalue()


def pickles(folder: Path) -> dict[str, tuple[str, bytes, list[str]]]:
    """Return what stands where, and the command that meets it."""
    bomb = Bomb(folder)
    plain, in_torch = pickle.dumps(bomb), torched({"0.weight": torch.zeros(2, 2), "x": bomb})
    newest = sorted(path.name for path in (folder / "run" / "checkpoints").iterdir())[-1]
    predict, resume = ["predict", "run", "t.csv"], ["resume", "run", "--set", "training.epochs=9"]
    return {
        "as .pkl": ("x.pkl", plain, ["train", "x.pkl"]),
        "as .pt": ("x.pt", in_torch, ["train", "x.pt"]),
        "as .csv": ("x.csv", plain, ["train", "x.csv", "--target", "y"]),
        "as .npz": ("x.npz", npz(X=np.zeros((9, 2)), y=np.array([bomb] * 9)), ["train", "x.npz"]),
        "as .npy": ("x.npy", npy(np.array([bomb] * 9)), ["train", "x.npy"]),
        "in the metadata of Parquet": ("x.parquet", parquet(folder), ["split", "x.parquet", "--target", "y"]),
        "as the best weights": ("run/model/best.safetensors", in_torch, predict),
        "as the preparation": ("run/preparation.safetensors", plain, predict),
        "as the description": ("run/preparation.json", plain, predict),
        "as the split": ("run/split.npz", npz(train=np.array([bomb]), valid=np.zeros(1), test=np.zeros(1)), ["test", "run"]),
        "as the optimizer of the newest checkpoint": (f"run/checkpoints/{newest}/optimizer.safetensors", in_torch, resume),
        "as the state of the newest checkpoint": (f"run/checkpoints/{newest}/state.json", plain, resume),
        "as the record": ("run/run.json", plain, predict),
        "as foreign weights": ("x.bin", in_torch, ["import-weights", "x.bin"]),
    }


PICKLES = ("as .pkl", "as .pt", "as .csv", "as .npz", "as .npy", "in the metadata of Parquet", "as the best weights")
PICKLES += ("as the preparation", "as the description", "as the split", "as the optimizer of the newest checkpoint")
PICKLES += ("as the state of the newest checkpoint", "as the record", "as foreign weights")


@pytest.mark.parametrize("name", harness.some(PICKLES, PICKLES[3::4]))
def test_no_pickle_is_ever_unpickled(name: str, trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path / "here")
    path, content, words = pickles(folder)[name]
    (folder / path).write_bytes(content)
    if words[0] == "import-weights":
        done = subprocess.run([sys.executable, "-m", "netwright", *words], cwd=folder, capture_output=True, check=False)
        assert done.returncode == 8
        assert not (folder / CANARY).exists()
        return
    known = (0,) if name in ("in the metadata of Parquet", "as the optimizer of the newest checkpoint") else CODES
    known = (*known, 0) if name == "as the state of the newest checkpoint" else known
    attacked(words, folder, known, writes=words[0] == "resume")


# ---- G2: texts that are names of code --------------------------------------------------------------------------------

SHAPES = (
    "os.system", "builtins.eval", "netwright.cli.entry.os.system", "__import__('os').system('mkdir canary')", "torch.hub.load",
    "evil:run", "evil.run", "__class__.__mro__",
)  # fmt: skip


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every text in nested values."""
    if isinstance(value, str):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))


def with_text(value: Any, path: tuple[Any, ...], text: str) -> Any:
    changed = json.loads(json.dumps(value))
    where = changed
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = text
    return changed


def told(path: Path) -> Any:
    return tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_text())


def places(run: Path) -> list[tuple[str, tuple[Any, ...]]]:
    names = ("run.json", "preparation.json", "config.toml", "test.json")
    return [(name, path) for name in names for path in leaves(told(run / name))]


def named_as_code(trained: Path, place: Path, every: int) -> int:
    found = [(where, shape) for where in places(trained / "run") for shape in SHAPES]

    def once(number: int) -> None:
        (name, path), shape = found[number]
        folder = copied(trained, place / str(number))
        changed = with_text(told(folder / "run" / name), path, shape)
        text = tomli_w.dumps(changed) if name.endswith(".toml") else json.dumps(changed)
        (folder / "run" / name).write_text(text)
        verb = (["predict", "run", "t.csv"], ["report", "run"], ["runs", "."], ["test", "run"])[number % 4]
        attacked(verb, folder, (0, *CODES), writes=verb[0] in ("report", "test"))
        shutil.rmtree(folder)

    chosen = range(0, len(found), every)
    harness.in_parallel({str(number): lambda number=number: once(number) for number in chosen})
    return len(chosen)


def test_a_few_texts_of_a_run_that_name_code_import_and_call_nothing(trained: Path, tmp_path: Path) -> None:
    assert named_as_code(trained, tmp_path, 101) >= 3


@pytest.mark.faults
def test_no_text_of_a_run_that_names_code_imports_or_calls_anything(trained: Path, tmp_path: Path) -> None:
    assert named_as_code(trained, tmp_path, 1) > 300


@pytest.mark.parametrize("shape", harness.some(SHAPES, SHAPES[:2]))
def test_layers_losses_optimizers_and_modules_are_no_names_of_code(shape: str, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "t.csv").write_text("a,y\n" + "\n".join(f"{row},{row * 2.5}" for row in range(40)))
    for setting in (
        "model.layers=[{}]",
        "training.loss={}",
        "training.optimizer={}",
        "model.module={}",
        "data.augmentation=[{}]",
    ):
        words = ["train", "t.csv", "--target", "y", "--set", setting.format(json.dumps(shape))]
        attacked(words, folder, (2, 8))


# ---- G3: archives and paths --------------------------------------------------------------------------------------------

TABLE = b"a,y\n" + b"\n".join(b"%d,%f" % (row % 7, row * 2.5) for row in range(40)) + b"\n"


def zipped(*members: tuple[str, bytes], packed: bool = False, link: str | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in members:
            archive.writestr(name, content)
        if link is not None:
            entry = zipfile.ZipInfo("link.csv")
            entry.external_attr = 0o120777 << 16
            archive.writestr(entry, link)
    return stream.getvalue()


ARCHIVES: dict[str, tuple[Callable[[], bytes], tuple[int, ...]]] = {
    "a member above": (lambda: zipped(("../t.csv", TABLE)), (3, 8)),
    "a member from the root": (lambda: zipped(("/tmp/t.csv", TABLE)), (3, 8)),
    "a member above, in backslashes": (lambda: zipped(("..\\t.csv", TABLE)), (3, 8)),
    "a member of a drive": (lambda: zipped(("C:\\t.csv", TABLE)), (0, 3, 8)),
    "a link": (lambda: zipped(link="/etc/passwd"), (3, 8)),
    "a link, then a file": (lambda: zipped(("t.csv", TABLE), link="../../x"), (3, 8)),
    "two of a name": (lambda: zipped(("t.csv", TABLE), ("t.csv", TABLE)), (3, 8)),
    "two names that differ in case": (lambda: zipped(("t.csv", TABLE), ("T.CSV", TABLE)), (0, 3, 8)),
    "a bomb": (lambda: zipped(("t.csv", b"a,y\n" + b"0,0\n" * 40_000_000), packed=True), (3, 8)),
    "very many members": (lambda: zipped(*((f"{number}.csv", b"") for number in range(100_000))), (3, 8)),
    "a bomb of a name": (lambda: zipped(("x" * 60_000 + ".csv", TABLE)), (0, 3, 8)),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.faults] if name in ("a bomb", "very many members") else []) for name in ARCHIVES]
)  # fmt: skip
def test_archives_lead_nowhere(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    make, codes = ARCHIVES[name]
    (folder / "z.zip").write_bytes(make())
    attacked(["split", "z.zip", "--target", "y"], folder, codes)


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a loop of links", "a folder", "a link to a folder above"])
def test_paths_that_are_no_files_end_at_once(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    path = folder / "t.csv"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a loop of links":
        path.symlink_to(folder / "u.csv")
        (folder / "u.csv").symlink_to(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("..")
    attacked(["split", "t.csv", "--target", "y"], folder)


# ---- G4: safetensors ---------------------------------------------------------------------------------------------------


def safetensors_of(header: dict[str, Any] | bytes, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HEADERS: dict[str, bytes] = {
    "a header of 101 MB": safetensors_of(b" ", b"", 101 << 20),
    "a header longer than the file": safetensors_of(b"{}", b"", 2**62),
    "a name twice": safetensors_of(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "tensors that overlap": safetensors_of({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)),
    "a hole": safetensors_of({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12)),
    "a negative place": safetensors_of({"a": tensor([1], -4, 0)}, bytes(4)),
    "a place past the end": safetensors_of({"a": tensor([2**40], 0, 2**42)}, bytes(4)),
    "a shape that overflows": safetensors_of({"a": tensor([2**40, 2**40], 0, 4)}, bytes(4)),
    "an unknown kind of number": safetensors_of({"a": tensor([1], 0, 4, "PICKLE")}, bytes(4)),
    "very many tensors": b"",  # made by the test: it is long
}


@pytest.mark.parametrize("name", harness.some(HEADERS, list(HEADERS)[::3]))
def test_weights_that_lie_about_themselves_are_refused(name: str, trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path / "here")
    many = safetensors_of({f"t{number}": tensor([0], 0, 0) for number in range(100_000)}, b"")
    (folder / "run" / "model" / "best.safetensors").write_bytes(HEADERS[name] or many)
    found = attacked(["predict", "run", "t.csv"], folder, (4, 8))
    assert "best.safetensors" in found.line


PIPED = ("run.json", "config.toml", "preparation.json", "preparation.safetensors", "model/best.safetensors", "split.npz")


@pytest.mark.parametrize("name", PIPED)
def test_a_pipe_in_a_run_is_refused_and_not_waited_for(name: str, trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path / "here")
    (folder / "run" / name).unlink()
    os.mkfifo(folder / "run" / name)
    assert "no plain file" in attacked(["test", "run"], folder, (4,)).line


def test_weights_that_are_not_finite_are_refused_even_where_no_digest_tells(trained: Path, tmp_path: Path) -> None:
    import safetensors.torch

    folder = copied(trained, tmp_path / "here")
    path = folder / "run" / "model" / "best.safetensors"
    weights = safetensors.torch.load_file(path)
    path.write_bytes(safetensors.torch.save({name: value * float("nan") for name, value in weights.items()}))
    record = json.loads((folder / "run" / "run.json").read_text())
    del record["weights"]
    (folder / "run" / "run.json").write_text(json.dumps(record))
    assert "is not finite; expected trained weights" in attacked(["predict", "run", "t.csv"], folder, (4,)).line


@pytest.mark.parametrize("line", [b"[" * 100_000, b"\xff\xfe"])
def test_a_ledger_that_was_spoiled_ends_no_test(line: bytes, trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path / "here")
    (folder / "looks.jsonl").write_bytes(line + b"\n")
    attacked(["test", "run"], folder, (0,), writes=True)


# ---- G5: reports and tables ------------------------------------------------------------------------------------------

TRIGGERS = ("=cmd|'/C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\tx", "=HYPERLINK(1)")
MARKUP = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "</style><svg onload=alert(1)>",
)


class Page(html.parser.HTMLParser):
    """Collects what a page must not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = dict(attributes)
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form") or any(
            name.startswith("on") for name in told
        ):
            self.bad.append(f"{tag} {told}")
        for name in ("href", "src", "xlink:href", "action"):
            value = (told.get(name) or "").strip().lower()
            if value and not value.startswith(("#", "data:image/")):
                self.bad.append(f"{name}={value}")
        if tag == "meta" and told.get("http-equiv") == "Content-Security-Policy":
            self.policy = told.get("content") or ""


def test_a_report_holds_no_markup_of_the_data(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    names = [*MARKUP, "<b>target</b>"]
    table = pa.table(
        {
            **{name: [f"{MARKUP[(row + place) % 4]}" for row in range(80)] for place, name in enumerate(names[:-1])},
            "n": [float(row % 9) for row in range(80)],
            names[-1]: [MARKUP[row % 2] for row in range(80)],
        }
    )
    pa.parquet.write_table(table, folder / "<img src=x onerror=alert(1)>.parquet")
    words = ["train", "<img src=x onerror=alert(1)>.parquet", "--target", names[-1], "--run-dir", "run"]
    attacked([*words, "--set", "training.epochs=1"], folder, (0,), writes=True)
    page = Page()
    text = (folder / "run" / "report.html").read_text()
    own = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)  # its policy lets this one run, by its digest
    assert len(own) == 1
    assert base64.b64encode(hashlib.sha256(own[0].encode()).digest()).decode() in text.split("<style>")[0]
    text = text.replace(f"<script>{own[0]}</script>", "")
    page.feed(text)
    assert page.bad == []
    assert page.policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert not re.search(r"<script|onerror=alert|onload=alert", re.sub(r"&lt;.*?&gt;|&#34;|&quot;", "", text))
    svg = Page()
    svg.feed((folder / "run" / "network.svg").read_text())
    assert [entry for entry in svg.bad if "xmlns" not in entry] == []


def test_texts_a_spreadsheet_would_run_are_quoted_and_classes_and_numbers_are_not(tmp_path: Path) -> None:
    from netwright.evaluation.prediction import table_bytes

    columns = {
        "file": list(TRIGGERS), "=group": np.array(TRIGGERS, dtype=object), "site": pa.array(TRIGGERS),
        "target": list(TRIGGERS), "prediction": list(TRIGGERS), "probability_=a": np.array([-1.5, 0.25, 1e-9, 2, -0.0, 3]),
        "number": [-1, -2, -3, -4, -5, -6],
    }  # fmt: skip
    import csv

    rows = list(csv.reader(io.StringIO(table_bytes(columns, ".csv").decode(), newline="")))
    assert rows[0] == ["file", "'=group", "site", "target", "prediction", "probability_=a", "number"]
    for row, text in zip(rows[1:], TRIGGERS, strict=True):
        assert row[:3] == [f"'{text}"] * 3
        assert row[3:5] == [text, text]
    assert [float(row[5]) for row in rows[1:]] == [-1.5, 0.25, 1e-9, 2, 0.0, 3]
    assert [row[6] for row in rows[1:]] == ["-1", "-2", "-3", "-4", "-5", "-6"]
    table = pa.parquet.read_table(io.BytesIO(table_bytes(columns, ".parquet")))
    assert table.column("file").to_pylist() == list(TRIGGERS)


# ---- G7, G8: the environment, the start ------------------------------------------------------------------------------

SECRETS = {"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG", "HF_TOKEN": "hf_abcdefghijklmnop", "PASSWORD": "hunter2hunter2"}


def with_secrets(folder: str, log: str) -> None:
    """Put secrets into the environment."""
    os.environ.update(SECRETS)
    watch(folder, log)


def test_no_secret_of_the_environment_stands_in_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "t.csv").write_bytes(TABLE)
    words = ["train", "t.csv", "--target", "y", "--run-dir", "run", "--set", "training.epochs=1"]
    log = tmp_path / "log"
    found = harness.run(words, log, with_secrets, str(folder), f"{log}.audit")
    assert found.code == 0, found.stderr
    everything = b"".join(path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file())
    everything += found.stdout.encode() + found.stderr.encode()
    assert [name for name, value in SECRETS.items() if value.encode() in everything or name.encode() in everything] == []


@pytest.mark.parametrize("address", ["ftp://somebody:hunter2hunter2@127.0.0.1:9/t.csv", "https://hunter2@127.0.0.1:9/t.csv"])
def test_a_password_in_an_address_is_not_told(address: str, tmp_path: Path) -> None:
    found = harness.run(["train", address, "--target", "y"], tmp_path / "log")
    assert found.code == 8
    assert "hunter2" not in found.stderr + found.stdout


START = """
import sys
seen = []
def hook(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")):
        seen.append(event)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & 3:
        seen.append(f"open {arguments[0]}")
sys.addaudithook(hook)
sys.dont_write_bytecode = True
import netwright
from netwright.cli import main
for words in (["--help"], ["train", "--help"], ["schema"], ["--version"]):
    try:
        main(words)
    except SystemExit as stop:
        assert stop.code == 0, words
before = list(seen)
import torch  # a build for GPUs looks for its libraries
del seen[:]
netwright.train
sys.stderr.write(repr(before + seen))
"""


def test_importing_and_asking_for_help_opens_writes_and_starts_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", START], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]"
    assert list(tmp_path.iterdir()) == []
