"""The verb resume: what may change and what that does, what must not, and what is said; compare, verify and folds."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netwright as nw
from netwright import files
from netwright.checkpoint import store, trees
from netwright.cli import main
from netwright.config.calls import parse_call
from netwright.errors import (
    CheckpointError,
    ConfigError,
    DivergedError,
    FolderInUseError,
    NetwrightError,
    ResourceError,
    SafetyError,
)
from netwright.pipeline.telling import Told
from netwright.tracking.records import Begun, Ended
from netwright.training.journal import EpochRecord

NET = ["Linear(16)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear()"]


def write_table(path: Path, rows: int = 150, factor: float = 1.0) -> Path:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(rows, 3))
    lines = ["a,b,c,y", *(f"{a:.5f},{b:.5f},{c:.5f},{factor * a + b * c:.5f}" for a, b, c in X)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run of four epochs that was stopped in its third."""
    return stop_in(tmp_path, write_table(tmp_path / "t.csv"), epochs=4)


def stop_in(place: Path, source: Any, epoch: int = 2, **keywords: Any) -> Path:
    """Train and stop by SIGTERM after an epoch."""

    def interrupt(record: Told | EpochRecord) -> None:
        if isinstance(record, EpochRecord) and record.epoch == epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    given = {"layers": NET, "batch_size": 16, "threads": 1, **keywords}
    config = {} if not isinstance(source, Path) else {"config": str(source), "target": "y"}
    data = {} if isinstance(source, Path) else {"data": source}
    run = nw.train(**config, **data, run_dir=place / "run", observers=[interrupt], **given)
    assert run.record["status"] == "stopped"
    return run.folder


def resumed(folder: Path, *settings: str, **keywords: Any) -> tuple[nw.Run, list[str]]:
    lines: list[str] = []
    run = nw.resume(folder, settings=settings, observers=[lambda record: lines.append(str(record))], **keywords)
    return run, lines


def same(one: Path, other: Path) -> bool:
    parts = [store.newest(path / "checkpoints", pytest.fail).parts for path in (one, other)]
    kept = [{name: value[name] for name in ("model", "optimizer", "generators", "progress", "best")} for value in parts]
    return trees.first_difference(*kept) is None


def test_a_test_made_while_a_run_trains_is_not_told_of_the_weights_it_ends_with(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def look_and_interrupt(record: Any) -> None:
        if isinstance(record, EpochRecord) and record.epoch == 2:
            nw.load(folder).test()  # as another process may: of the checkpoint of step 0
            assert (folder / "predictions.csv").is_file()
            os.kill(os.getpid(), signal.SIGTERM)

    source = str(write_table(tmp_path / "t.csv"))
    run = nw.train(source, target="y", layers=NET, epochs=4, run_dir=folder, observers=[look_and_interrupt])
    assert run.record["status"] == "stopped"
    assert run.tested is None
    assert not (folder / "predictions.csv").exists()
    assert (folder / "report.html").is_file()  # of the weights it ended with


class Ends:
    """A tracker that keeps how runs ended."""

    name = "ends"

    def __init__(self) -> None:
        self.told: list[Ended] = []

    def begin(self, run: Begun) -> None:
        """Nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Nothing."""

    def end(self, run: Ended) -> None:
        """Keep it."""
        self.told.append(run)


@pytest.mark.parametrize(("problem", "status"), [(KeyError("k"), "failed"), (DivergedError("nan"), "diverged")])
def test_a_test_made_while_a_run_trains_is_not_told_of_a_run_that_fails(
    problem: Exception, status: str, tmp_path: Path
) -> None:
    folder, ends = tmp_path / "run", Ends()

    def look_and_fail(record: Any) -> None:
        if isinstance(record, EpochRecord) and record.epoch == 2:
            nw.load(folder).test()
            assert (folder / "predictions.csv").is_file()
            raise problem

    source = str(write_table(tmp_path / "t.csv"))
    with pytest.raises(type(problem)):
        nw.train(source, target="y", layers=NET, epochs=4, run_dir=folder, observers=[look_and_fail, ends])
    assert [(end.status, end.figures) for end in ends.told] == [(status, {})]
    assert not [name for name in ("test.json", "predictions.csv", "report.html") if (folder / name).exists()]


def test_a_stopped_run_ends_as_if_it_had_not_been_stopped(stopped: Path, tmp_path: Path) -> None:
    whole = nw.train(stopped / "config.toml", run_dir=tmp_path / "whole")
    run, lines = resumed(stopped, require_exact=True)
    assert lines[0] == "from step-000000013 (step 13, epoch 3, 1 of its steps done)"
    assert lines[1] == "resume: exact"
    assert same(stopped, whole.folder)
    assert [row["train_loss"] for row in run.history] == [row["train_loss"] for row in whole.history]
    assert run.record["status"] == "done"
    assert run.record["signal"] is None
    assert [entry["step"] for entry in run.record["resumed"]] == [13]
    assert (stopped / "test.json").exists()


def test_more_epochs_give_the_bits_of_a_run_that_was_longer_from_the_start(stopped: Path, tmp_path: Path) -> None:
    whole = nw.train(stopped / "config.toml", run_dir=tmp_path / "whole", settings=["training.epochs=7"])
    resumed(stopped)
    run, lines = resumed(stopped, "training.epochs=7")
    assert "changed on purpose: training.epochs 4 -> 7: the run ends after 7 epochs" in lines
    assert "resume: exact" in lines
    assert same(stopped, whole.folder)
    assert run.config.training.epochs == 7
    assert resumed(stopped)[1] == ["finished already: 7 epochs done; nothing is left to do"]


def test_a_finished_run_that_lacks_nothing_is_returned_where_no_lock_can_be_written(stopped: Path) -> None:
    resumed(stopped)
    (stopped / "run.lock").write_text(json.dumps({"host": "another-machine", "pid": 77}))
    with pytest.raises(FolderInUseError, match="in use by another-machine, process 77"):
        resumed(stopped)
    (stopped / "run.lock").unlink()
    (stopped / "run.lock").mkdir()
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    run, lines = resumed(stopped)
    assert (run.record["status"], lines) == ("done", ["finished already: 4 epochs done; nothing is left to do"])
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before
    with pytest.raises(ResourceError, match=r"run\.lock: cannot be written"):
        resumed(stopped, "training.epochs=5")
    for name in ("report.html", "test.json"):
        (stopped / name).unlink()
        with pytest.raises(ResourceError, match=r"run\.lock: cannot be written"):
            resumed(stopped)


def test_another_learning_rate_is_used_from_now_on_and_said_to_be_not_exact(stopped: Path) -> None:
    run, lines = resumed(stopped, "training.optimizer.lr=0.5")
    assert "note: resume: not exact (learning rate 0.001 -> 0.5)" in lines
    assert any("training.optimizer Adam(lr=0.001, fused=True) -> Adam(lr=0.5, fused=True)" in line for line in lines)
    assert [row["learning_rate"] for row in run.history] == [0.001, 0.001, 0.5, 0.5]


@pytest.mark.parametrize("text", ["Adam(lr=0.5)", "Adam(0.5)", "Adam(fused=True, lr=0.5)"])
def test_an_optimizer_is_written_anew_with_another_rate_and_keeps_its_kernel(text: str, stopped: Path) -> None:
    run, lines = resumed(stopped, f"training.optimizer={text}")
    assert any("training.optimizer Adam(lr=0.001, fused=True) -> Adam(" in line for line in lines)
    assert parse_call(run.config.training.optimizer, "").keywords == {"lr": 0.5, "fused": True}


def test_another_number_of_threads_is_said_to_be_not_exact_and_refused_where_exactness_is_required(stopped: Path) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"resume: not exact \(threads 1 -> 2\); --require-exact came"):
        resumed(stopped, "training.threads=2", require_exact=True)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before
    assert "note: resume: not exact (threads 1 -> 2)" in resumed(stopped, "training.threads=2")[1]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.seed=1", "training.seed 0 -> 1 came"),
        ("data.batch_size=8", "data.batch_size 16 -> 8 came"),
        ("model.layers.0.out_features=8", "model.layers"),
        ("training.optimizer=SGD(lr=0.1)", "training.optimizer .* came; expected its lr only"),
        ("training.optimizer.amsgrad=true", "training.optimizer .* came"),
        ("data.split.seed=3", "data.split"),
        ("training.loss=L1Loss()", r"training.loss MSELoss\(\) -> L1Loss\(\) came"),
    ],
)
def test_a_setting_that_must_stay_is_named_and_nothing_is_written(setting: str, words: str, stopped: Path) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=words) as problem:
        resumed(stopped, setting)
    assert problem.value.exit_code == 4
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("change", ["a value", "a row", "a column", "gone"])
def test_changed_data_are_named(change: str, stopped: Path) -> None:
    source = stopped.parent / "t.csv"
    if change == "gone":
        source.unlink()
    elif change == "a column":
        source.write_text(source.read_text().replace("a,b,c,y", "a,b,c,z"))
    else:
        write_table(source, 151 if change == "a row" else 150, 1.5 if change == "a value" else 1.0)
    with pytest.raises(CheckpointError) as problem:
        resumed(stopped)
    assert "t.csv" in str(problem.value)
    assert ("which is not there" if change == "gone" else "the data") in str(problem.value)


def test_a_history_that_was_changed_is_not_gone_on_with(stopped: Path) -> None:
    path = stopped / "history.csv"
    path.write_text(path.read_text().replace("1,6,", "1,7,", 1))
    with pytest.raises(CheckpointError, match=r"history\.csv: changed since the checkpoint"):
        resumed(stopped)


def test_lines_written_after_the_last_checkpoint_are_cut(stopped: Path, tmp_path: Path) -> None:
    whole = nw.train(stopped / "config.toml", run_dir=tmp_path / "whole")
    with (stopped / "steps.jsonl").open("a") as stream:
        stream.write('{"step": 14, "epoch": 3, "loss": 0.')
    run, _ = resumed(stopped)
    assert (run.folder / "steps.jsonl").read_bytes() == (whole.folder / "steps.jsonl").read_bytes()


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(stopped: Path, tmp_path: Path) -> None:
    whole = nw.train(stopped / "config.toml", run_dir=tmp_path / "whole")
    newest = store.checkpoints(stopped / "checkpoints")[0]
    (newest / "optimizer.safetensors").write_bytes(b"")
    _, lines = resumed(stopped)
    assert lines[0].startswith(f"warning: {newest}/optimizer.safetensors: 0 bytes came; expected ")
    assert lines[0].endswith("going back to step-000000000-epoch-000000")
    assert same(stopped, whole.folder)


def test_a_run_of_python_objects_gets_them_again(tmp_path: Path) -> None:
    X, y = np.random.default_rng(0).normal(size=(2, 120, 4))
    y = y[:, :1]

    def module() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output - target).abs().mean()

    keywords: dict[str, Any] = {"model": module(), "loss": loss, "epochs": 5, "layers": None}
    folder = stop_in(tmp_path, (X, y), **keywords)
    whole = nw.train(data=(X, y), model=module(), loss=loss, epochs=5, batch_size=16, threads=1, run_dir=tmp_path / "whole")
    with pytest.raises(CheckpointError, match="Python object"):
        nw.resume(folder)
    with pytest.raises(CheckpointError, match="the data changed since the run began"):
        nw.resume(folder, model=module(), data=(X + 1, y), loss=loss)
    run = nw.resume(folder, model=module(), data=(X, y), loss=loss)
    assert same(run.folder, whole.folder)


CODE = (
    "from torch import nn\n\nclass Net(nn.Sequential):\n    def __init__(self):\n        super().__init__(nn.Linear(3, 1))\n"
)


def test_own_code_is_named_again_and_must_be_the_same(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CODE)
    keywords = {"layers": None, "module": f"{tmp_path / 'net.py'}:Net", "code": [tmp_path / "net.py"], "epochs": 4}
    folder = stop_in(tmp_path, write_table(tmp_path / "t.csv"), **keywords)
    with pytest.raises(SafetyError, match=r"if you trust it, type: netwright resume .* --code"):
        nw.resume(folder)
    (tmp_path / "net.py").write_text(CODE + "# changed\n")
    with pytest.raises(CheckpointError, match=r"net\.py: changed since the run began .* its copy is .*model/source/net\.py"):
        nw.resume(folder, code=[tmp_path / "net.py"])
    run = nw.resume(folder, code=[folder / "model" / "source" / "net.py"])
    assert run.record["status"] == "done"
    assert run.config.model.module == f"{tmp_path / 'net.py'}:Net"


def test_a_cross_validation_goes_on_with_the_fold_that_was_stopped(tmp_path: Path) -> None:
    source = write_table(tmp_path / "t.csv")
    keywords = {"target": "y", "layers": ["Linear()"], "epochs": 3, "threads": 1}
    whole = nw.cross_validate(str(source), folds=3, run_dir=tmp_path / "whole", **keywords)
    nw.cross_validate(str(source), folds=3, run_dir=tmp_path / "cv", **keywords)
    import shutil

    shutil.rmtree(tmp_path / "cv" / "fold-02")
    broken = tmp_path / "cv" / "fold-01"
    record = json.loads((broken / "run.json").read_text())
    (broken / "run.json").write_text(json.dumps({**record, "status": "running"}))
    (broken / "test.json").unlink()
    again = nw.cross_validate(str(source), folds=3, run_dir=tmp_path / "cv", **keywords)
    assert again.figures == whole.figures


def test_two_runs_are_compared_setting_by_setting_and_step_by_step(tmp_path: Path) -> None:
    source = write_table(tmp_path / "t.csv")
    keywords = {"target": "y", "layers": NET, "epochs": 2, "threads": 1}
    one = nw.train(str(source), run_dir=tmp_path / "one", **keywords)
    same_again = nw.train(str(source), run_dir=tmp_path / "again", **keywords)
    other = nw.train(str(source), run_dir=tmp_path / "other", seed=5, optimizer="Adam(lr=0.01)", **keywords)
    found = nw.compare(one.folder, same_again.folder, steps=True)
    assert str(found).splitlines()[0] == "the same settings"
    assert found.steps == "steps: the same losses in all 4 steps"
    assert found.first is None
    found = nw.compare(one.folder, other.folder, steps=True)
    assert {path for path, _, _ in found.settings} == {"training.seed", "training.optimizer.lr"}
    assert found.first == 1
    assert "the rows differ" in str(found)
    assert set(found.figures) >= {"rmse", "loss"}
    faster = nw.train(str(source), run_dir=tmp_path / "faster", optimizer="Adam(lr=0.01)", **keywords)
    found = nw.compare(one.folder, faster.folder, steps=True)
    assert found.first == 2
    assert "both had the same 26 rows" in str(found) or "both had the same 64 rows" in str(found)


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run a command in this process (its trainings have processes of their own); return exit code, stdout and stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_a_user_can_kill_and_resume_a_copy_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_table(tmp_path / "t.csv")
    run = nw.train(str(source), target="y", layers=NET, epochs=40, threads=1, run_dir=tmp_path / "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, out, err = command(capsys, "verify", "resume", str(run.folder), "--kills", "1")
    assert code == 0, err
    assert "resume: exact; killed 1 times, after steps " in out
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


RANDOM = """
import os
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 4), nn.Linear(4, 1))
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        noise = int.from_bytes(os.urandom(2), "big") / 65536 if self.calls > 6 and self.training else 0.0
        return super().forward(x + noise)
"""


@pytest.mark.usefixtures("here")
def test_what_is_not_deterministic_is_found_with_its_step_and_tensor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, code = write_table(tmp_path / "t.csv"), tmp_path / "net.py"
    code.write_text(RANDOM)
    keywords: dict[str, Any] = {"target": "y", "epochs": 6, "batch_size": 30, "threads": 1}
    nw.train(str(source), module=f"{code}:Net", code=[code], run_dir=tmp_path / "run", **keywords)
    status, out, err = command(capsys, "verify", "determinism", str(tmp_path / "run"), "--code", str(code), "--json")
    assert status == 4
    assert json.loads(out)["held"] is False
    assert "not deterministic: after step 7 model.state.0.weight differs in " in err


@pytest.mark.faults
def test_a_deterministic_run_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_table(tmp_path / "t.csv")
    run = nw.train(str(source), target="y", layers=NET, epochs=3, threads=1, run_dir=tmp_path / "run")
    code, out, err = command(capsys, "verify", "determinism", str(run.folder))
    assert code == 0, err
    assert "deterministic: two trainings of 6 steps gave the same bits" in out


def test_what_cannot_be_verified_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    nw.train(data=(X, X[:, :1]), layers=["Linear()"], epochs=1, run_dir=tmp_path / "run")
    code, _, err = command(capsys, "verify", "resume", str(tmp_path / "run"))
    assert code == 4
    assert "made from Python objects, which a new process does not have" in err


def test_a_run_whose_process_is_gone_is_listed_as_interrupted(stopped: Path) -> None:
    record = json.loads((stopped / "run.json").read_text())
    (stopped / "run.json").write_text(json.dumps({**record, "status": "running"}))
    assert [entry["status"] for entry in nw.runs(stopped.parent)] == ["interrupted"]
    lock = files.Lock(stopped)
    assert [entry["status"] for entry in nw.runs(stopped.parent)] == ["running"]
    lock.release()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for verb in (nw.resume, nw.replay):
        with pytest.raises(NetwrightError, match="no run"):
            verb(tmp_path)
    with pytest.raises(ConfigError, match="no section"):
        nw.resume(
            nw.train("sklearn:iris", layers=["Linear()"], epochs=1, run_dir=tmp_path / "run").folder, settings=["x.y=1"]
        )


AGAIN = r"\(netwright train .*run/config.toml --set"


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ({"seconds": 0.01, "epochs": 100_000}, rf"a new run with more seconds {AGAIN} training.seconds=N\)"),
        ({"steps": 3}, rf"a new run of more steps {AGAIN} training.steps=N\)"),
        ({"epochs": 2, "stop": lambda record: "enough"}, "a new run whose own stop condition lets it go on"),
        (
            {"epochs": 200, "optimizer": "SGD(lr=0.0)", "early_stopping": {"patience": 1}},
            r"more patience with it \(--set training.early_stopping.patience=N\), or a new run",
        ),
        ({"epochs": 1}, r"more epochs with it \(--set training.epochs=N\), or a new run"),
    ],
)
def test_a_finished_run_says_what_would_make_it_last_longer(ends: dict[str, Any], told: str, tmp_path: Path) -> None:
    source = write_table(tmp_path / "t.csv", 40)
    run = nw.train(str(source), target="y", layers=["Linear()"], run_dir=tmp_path / "run", **ends)
    changed = "training.optimizer.lr=0.5" if ends == {"epochs": 1} else "training.epochs=200000"
    stop = {"stop": ends["stop"]} if "stop" in ends else {}
    with pytest.raises(ConfigError, match=f"would change nothing; expected {told}") as refused:
        nw.resume(run.folder, settings=[changed], **stop)
    assert f"finished ({run.record['why']})" in str(refused.value)
    if "patience" in told:  # and so it does
        more = nw.resume(run.folder, settings=["training.early_stopping.patience=3"])
        assert more.record["epochs"] > run.record["epochs"]


def test_what_changes_may_be_keywords(tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", epochs=2, run_dir=tmp_path / "run")
    assert len(nw.resume(run.folder, epochs=4).history) == 4
    changed = nw.resume(run.folder, epochs=5, optimizer="AdamW(lr=0.1)")
    assert changed.config.training.optimizer.startswith("AdamW(lr=0.1")
    assert len(changed.history) == 5
    patient = nw.resume(run.folder, epochs=6, early_stopping={"patience": 50})
    assert patient.config.training.early_stopping is not None
    assert (patient.config.training.early_stopping.mode, len(patient.history)) == ("min", 6)
    with pytest.raises(nw.NetwrightError, match=r"training\.loss .* -> MSELoss\(\) came; expected a change of"):
        nw.resume(run.folder, epochs=7, loss="MSELoss()")
    with pytest.raises(nw.NetwrightError, match="epoch=5: no known setting; did you mean epochs"):
        nw.resume(run.folder, epoch=5)
