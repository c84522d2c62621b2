"""Trackers: what they write is read back with the libraries' own readers, and none of them can steer or stop a run."""

from __future__ import annotations

import builtins
import random
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import netwright as nw
from netwright.cli import main
from netwright.errors import ConfigError
from netwright.pipeline.telling import Told
from netwright.tracking import choosing
from netwright.tracking.records import Begun, Ended
from netwright.training.journal import EpochRecord

SMALL = {"layers": ["Linear(8)", "ReLU()", "Dropout(0.5)", "Linear()"], "epochs": 3}


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture
def _as_others_warn() -> Iterator[None]:
    """Let the libraries of others warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Noting:
    """A tracker that keeps what it is told, and draws from every generator."""

    name = "noting"

    def __init__(self, fail: str = "") -> None:
        self.told: list[Any] = []
        self._fail = fail

    def begin(self, run: Begun) -> None:
        self._note("begin", run)

    def epoch(self, record: EpochRecord) -> None:
        self._note("epoch", record)

    def end(self, run: Ended) -> None:
        self._note("end", run)

    def _note(self, what: str, record: Any) -> None:
        torch.rand(3), np.random.rand(3), random.random()
        self.told.append(record)
        if what == self._fail:
            raise OSError(f"no room to {what}\nand more")


def weights_of(run: Path) -> bytes:
    return (run / "model" / "last.safetensors").read_bytes()


@pytest.mark.parametrize("fail", ["", "begin", "epoch", "end"])
def test_a_run_has_the_same_bits_with_a_tracker_and_with_one_that_fails(fail: str, tmp_path: Path) -> None:
    plain = nw.train("sklearn:iris", run_dir=tmp_path / "plain", **SMALL)
    tracker, told = Noting(fail), []
    run = nw.train("sklearn:iris", run_dir=tmp_path / "tracked", observers=[tracker, told.append], **SMALL)
    assert weights_of(run.folder) == weights_of(plain.folder)
    assert [row["train_loss"] for row in run.history] == [row["train_loss"] for row in plain.history]
    assert run.record["status"] == "done"
    notes = [str(record) for record in told if str(record).startswith("note: tracker")]
    expected = f"note: tracker noting: OSError: no room to {fail}; it is told nothing more, the run goes on"
    assert notes == ([expected] if fail else [])
    assert len(tracker.told) == {"": 5, "begin": 1, "epoch": 2, "end": 5}[fail]
    assert all(isinstance(record, Told | EpochRecord) for record in told)


class Nameless:
    """A tracker whose name was forgotten."""

    begin = epoch = end = print


OBSERVERS: list[tuple[Any, str]] = [
    ([print, Nameless()], "<Nameless> came without name; expected functions, and trackers, which have .*end; add name"),
    ([3], "3 came; expected functions, and trackers, which have name, begin, epoch, end; leave it out"),
    (["tensorboard"], "'tensorboard' came; expected functions, and trackers"),
    ([nw.tracking.TensorBoard], "the class TensorBoard came; expected a tracker that is made of it; write TensorBoard()"),
    ([Nameless], "the class Nameless came; expected a tracker"),
    (Nameless(), "<Nameless> came; expected a list of functions and trackers"),
]  # fmt: skip


@pytest.mark.parametrize(("observers", "message"), OBSERVERS)
def test_what_can_be_told_nothing_is_named_before_a_run_begins(observers: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^observers: {message}"):
        nw.train("sklearn:iris", run_dir=tmp_path / "run", observers=observers, **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_tracker_is_told_settings_epochs_test_and_report(tmp_path: Path) -> None:
    tracker = Noting()
    run = nw.train("sklearn:iris", run_dir=tmp_path / "run", observers=[tracker], **SMALL)
    begun, *epochs, ended = tracker.told
    assert begun.settings["training.optimizer"] == "Adam(lr=0.001, fused=True)"
    assert begun.settings["model.layers"].startswith("Linear(")
    assert [record.epoch for record in epochs] == [1, 2, 3]
    assert (ended.status, ended.epoch, ended.report) == ("done", 3, run.folder / "report.html")
    assert run.tested is not None
    assert ended.figures["accuracy"] == run.tested["metrics"]["accuracy"]["value"]
    assert {"accuracy_low", "accuracy_high"} <= set(ended.figures)
    again = Noting()
    nw.resume(run.folder, settings=["training.epochs=5"], observers=[again])
    assert (again.told[0].epoch, [record.epoch for record in again.told[1:-1]]) == (3, [4, 5])


def test_a_tracker_follows_each_of_several_runs(tmp_path: Path) -> None:
    tracker = Noting()
    nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "seeds", observers=[tracker], **SMALL)
    nw.cross_validate("sklearn:iris", folds=2, run_dir=tmp_path / "cv", observers=[tracker], **SMALL)
    titles = [record.title for record in tracker.told if isinstance(record, Begun)]
    assert titles == ["seeds-seed-0", "seeds-seed-1", "cv-fold-00", "cv-fold-01"]
    assert sum(isinstance(record, EpochRecord) for record in tracker.told) == 4 * 3
    assert sum(isinstance(record, Ended) for record in tracker.told) == 4


def test_a_tracker_is_told_of_a_run_that_diverges(tmp_path: Path) -> None:
    tracker = Noting()
    with pytest.raises(nw.NetwrightError):
        nw.train("sklearn:diabetes", run_dir=tmp_path / "run", optimizer="SGD(lr=1e9)", observers=[tracker], **SMALL)
    assert tracker.told[-1].status == "diverged"
    assert tracker.told[-1].figures == {}


@needs("tensorboard")
@pytest.mark.usefixtures("_as_others_warn")
def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told: list[Any] = []
    logs = nw.tracking.TensorBoard(tmp_path / "logs")
    run = nw.train("sklearn:iris", run_dir=tmp_path / "run", observers=[logs, told.append], **SMALL)
    assert [str(record) for record in told if "tracker" in str(record)] == []
    events = EventAccumulator(str(tmp_path / "logs" / "run"))
    events.Reload()
    for name in ("train_loss", "valid_loss", "valid_accuracy", "learning_rate"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(row["epoch"], pytest.approx(row[name])) for row in run.history]
    assert run.tested is not None
    assert events.Scalars("test_accuracy")[0].value == pytest.approx(run.tested["metrics"]["accuracy"]["value"])
    text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "training.optimizer = Adam(lr=0.001, fused=True)" in text
    report = events.Tensors("report/text_summary")[0].tensor_proto.string_val[0].decode()
    assert report == str(run.folder / "report.html")
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


@needs("mlflow", "sqlalchemy", "alembic")
@pytest.mark.usefixtures("_as_others_warn")
def test_mlflow_reads_what_was_written_and_a_resumed_run_is_the_same_one(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    told: list[Any] = []
    run = nw.train("sklearn:iris", run_dir=tmp_path / "run", observers=[nw.tracking.MLflow(), told.append], **SMALL)
    nw.resume(run.folder, settings=["training.epochs=5"], observers=[nw.tracking.MLflow(), told.append])
    assert [str(record) for record in told if "tracker" in str(record)] == []
    client = MlflowClient(f"sqlite:///{run.folder / 'tracking' / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("iris")
    [found] = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["training.optimizer"] == "Adam(lr=0.001, fused=True)"
    assert (found.data.params["training.epochs"], found.data.tags["changed.training.epochs"]) == ("3", "5")
    history = nw.load(run.folder).history
    for name in ("train_loss", "valid_loss"):
        values = [(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, name)]
        assert sorted(values) == [(row["epoch"], pytest.approx(row[name])) for row in history]
    assert found.data.metrics["test_accuracy"] == nw.load(run.folder).tested["metrics"]["accuracy"]["value"]  # type: ignore[index]
    assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["report.html"]


def wandb_records(path: Path) -> Iterator[Any]:
    """Yield the records of an offline run: LevelDB's log format after a head of 7 bytes, each a protobuf of wandb's."""
    from wandb.proto import wandb_internal_pb2

    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole = (b"" if kind in (1, 2) else whole) + data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record


@needs("wandb")
@pytest.mark.usefixtures("_as_others_warn")
def test_wandb_writes_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.delenv("WANDB_MODE", raising=False)
    script = (
        "import sys, netwright as nw\n"
        f"run = nw.train('sklearn:iris', run_dir=sys.argv[1], observers=[nw.tracking.WandB(), print], **{SMALL!r})\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tracker" not in done.stdout
    [path] = (tmp_path / "run" / "tracking" / "wandb").glob("wandb/offline-run-*/*.wandb")
    history, summary, settings = [], {}, {}
    for record in wandb_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            history.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            summary |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.summary.update}
        elif kind == "run":
            settings |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    run = nw.load(tmp_path / "run")
    assert [row["valid_loss"] for row in history] == [pytest.approx(row["valid_loss"]) for row in run.history]
    assert run.tested is not None
    assert summary["test_accuracy"] == run.tested["metrics"]["accuracy"]["value"]
    assert summary["report"] == str(tmp_path / "run" / "report.html")
    assert settings["training.epochs"] == 3


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_one_line_and_nothing_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choosing, "find_spec", lambda package: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["train", "sklearn:iris", "--run-dir", "run", "--track", name])
    assert ended.value.code == 2
    assert f"expected the extra {name}; run: pip install 'netwright[{name}]'" in capsys.readouterr().err
    tracker = getattr(nw.tracking, choosing.CLASSES[name])()
    with pytest.raises(ConfigError, match="is not installed"):
        nw.train("sklearn:iris", run_dir=tmp_path / "run", observers=[tracker])
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tracker_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom netwright.cli import main\n"
        "try:\n    main(['train', 'sklearn:iris', '--track', 'mlfow'])\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "2 False\n"
    assert "tracker 'mlfow': no such one; did you mean mlflow?" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_tracking_module_names_what_it_has() -> None:
    assert builtins.sorted(nw.tracking.__all__) == ["MLflow", "TensorBoard", "WandB"]
    with pytest.raises(AttributeError, match="it has MLflow"):
        nw.tracking.Comet  # noqa: B018
