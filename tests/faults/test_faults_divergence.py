"""Numbers that are not finite, own code that fails, memory that runs out: the bad update is never kept, and can be replayed."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netwright as nw
from netwright.checkpoint import store, trees
from netwright.errors import CheckpointError, ConfigError, DivergedError, ResourceError
from netwright.pipeline.telling import Told

ROWS = 200


def rows(bad: int | None = None, value: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(ROWS, 4)).astype(np.float32)
    y = (X.sum(axis=1, keepdims=True) * 0.5).astype(np.float32)
    if bad is not None:
        X[bad, 1] = value
    return X, y


def finite_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, each of which must verify and hold finite numbers only."""
    found = store.checkpoints(folder / "checkpoints")
    assert found
    for path in found:
        parts = store.read_parts(path)
        assert trees.first_not_finite({name: parts[name] for name in ("model", "optimizer", "best")}) is None
    return found


class Root(nn.Module):
    """A layer whose gradient is infinite where its input is 0, though its output is finite."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.last = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one number per row."""
        hidden = self.first(x)
        special = x[:, 1] == 77  # the row that spoils the gradient
        root = torch.sqrt(torch.where(special.unsqueeze(1), hidden * 0, hidden.abs() + 1))
        return self.last(root)


class Dividing(nn.Module):
    """A layer that gives no number for one row."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.last = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one number per row."""
        hidden = torch.relu(self.first(x))
        return self.last(torch.where((x[:, 1] == 77).unsqueeze(1), torch.log(hidden - hidden - 1), hidden))


class Failing(nn.Module):
    """A network that cannot read one row."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one number per row."""
        if self.training and bool((x[:, 1] == 77).any()):
            raise KeyError("row 77 is strange")
        return self.last(x)


KEYWORDS: dict[str, Any] = {
    "epochs": 3, "batch_size": 16, "split": {"test": 0.1, "valid": 0.1}, "preparation": None, "every_steps": 4, "threads": 1,
    "optimizer": "Adam(lr=0.01)",
}  # fmt: skip


def diverged(tmp_path: Path, model: nn.Module | None = None, **keywords: Any) -> tuple[str, Path]:
    """Train until it diverges, and return what is said and where the run is."""
    data = keywords.pop("data", rows(150, 77.0))
    given = {"model": model} if model is not None else {}
    with pytest.raises(DivergedError) as problem:
        nw.train(data=data, run_dir=tmp_path / "run", **{**KEYWORDS, **keywords}, **given)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "diverged"
    finite_checkpoints(tmp_path / "run")
    return str(problem.value), tmp_path / "run"


def test_an_infinite_gradient_of_a_finite_loss_is_never_applied(tmp_path: Path) -> None:
    said, folder = diverged(tmp_path, Root(), loss=nn.MSELoss())
    step = int(said.partition(" at step ")[2].split()[0])
    row = nw.load(folder, model=Root()).config  # the folder can be loaded
    assert row is not None
    assert "is not finite" in said
    assert "it begins with the gradient of layer first Linear" in said
    assert "row(s) 150 of the batch of 16" in said
    assert "the bad update was not applied" in said
    newest = finite_checkpoints(folder)[0]
    assert store.step_of(newest) == step - 1
    assert f"last good checkpoint: {newest.name}; nw.replay({str(folder)!r}, model=..., loss=...) shows the step" in said


def test_the_row_and_the_layer_that_give_no_number_are_named(tmp_path: Path) -> None:
    said, folder = diverged(tmp_path, Dividing(), loss=nn.MSELoss())
    assert "the loss is nan at step" in said
    assert "row(s) 150 of the batch of 16" in said
    assert "it begins with the output of layer last Linear" in said
    found = nw.replay(folder, model=Dividing(), loss=nn.MSELoss())
    assert found.reproduced
    assert 150 in found.rows
    assert found.diagnosis.rows == (150,)
    assert [layer.finite for layer in found.diagnosis.layers] == [True, False]


def test_the_state_kept_is_that_of_a_run_that_stopped_before_the_bad_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Dividing()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    said, folder = diverged(tmp_path, model, loss=nn.MSELoss())
    step = int(said.partition(" at step ")[2].split()[0])
    assert step > 2
    torch.manual_seed(0)
    again = Dividing()
    again.load_state_dict(start)
    run = nw.train(
        model=again, loss=nn.MSELoss(), data=rows(150, 77.0), run_dir=tmp_path / "again", **{**KEYWORDS, "steps": step - 1},
        test=False,
    )  # fmt: skip
    one, other = harness.last_parts(folder), harness.last_parts(run.folder)
    assert trees.first_difference(one["model"], other["model"]) is None
    assert trees.first_difference(one["optimizer"], other["optimizer"]) is None


@pytest.mark.parametrize("every", [1, 4, 1000])
def test_a_learning_rate_that_is_far_too_large_ends_with_five_wherever_the_last_checkpoint_lies(
    every: int, tmp_path: Path
) -> None:
    said, folder = diverged(
        tmp_path, None, layers=["Linear(64)", "ReLU()", "Linear(64)", "ReLU()", "Linear()"], data=rows(), every_steps=every,
        optimizer="SGD(lr=1e6)", split={"test": 0.1, "valid": 0},
    )  # fmt: skip
    assert "lower the learning rate (training.optimizer.lr)" in said
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in steps] == list(range(1, len(steps) + 1))
    assert all(np.isfinite(entry["loss"]) for entry in steps)
    assert len(steps) == store.step_of(finite_checkpoints(folder)[0])


def test_a_moment_of_the_optimizer_that_overflows_is_found(tmp_path: Path) -> None:
    X, y = rows()
    said, folder = diverged(tmp_path, None, layers=["Linear()"], data=(X * 1e21, y), loss="L1Loss()")
    assert "after the update the optimizer's exp_avg_sq of 0.weight is not finite" in said
    assert store.step_of(finite_checkpoints(folder)[0]) == 0


def test_a_step_that_fails_in_own_code_is_told_kept_and_replayed(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"training: KeyError: 'row 77 is strange' at step \d+ .*mend the network or the loss"
    ):
        nw.train(model=Failing(), loss=nn.MSELoss(), data=rows(150, 77.0), run_dir=tmp_path / "run", **KEYWORDS)
    found = nw.replay(tmp_path / "run", model=Failing(), loss=nn.MSELoss())
    assert found.reproduced
    assert found.now == "KeyError: 'row 77 is strange'"
    assert found.diagnosis.error == found.now
    mended = nn.Module()
    mended = Failing()
    mended.forward = lambda x: mended.last(x)  # type: ignore[method-assign]
    assert not nw.replay(tmp_path / "run", model=mended, loss=nn.MSELoss()).reproduced


@pytest.mark.parametrize("step", [1, 2, 10, 11, 12, 20, 21])
def test_after_a_step_that_failed_anywhere_in_an_epoch_a_mended_run_goes_on_with_the_same_bits(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from netwright.engine import eager

    keywords = {**KEYWORDS, "layers": ["Linear(8)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear()"], "data": rows()}
    keywords["engine"] = "eager"  # the step that is broken here
    whole = nw.train(run_dir=tmp_path / "whole", **keywords)
    assert whole.record["steps"] == 30
    original = eager.train_step

    def failing(model: nn.Module, loss: Any, optimizer: torch.optim.Optimizer, *rest: Any) -> Tensor:
        done = next((int(state["step"]) for state in optimizer.state.values()), 0)
        if done == step - 1:
            raise KeyError("mine")
        return original(model, loss, optimizer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("netwright.pipeline.bench.try_step", lambda *arguments: None)
        patch.setattr(eager, "train_step", failing)
        with pytest.raises(RuntimeError, match=rf"KeyError: 'mine' at step {step} \(epoch {(step - 1) // 10 + 1}\)"):
            nw.train(run_dir=tmp_path / "run", **keywords)
    run = nw.resume(tmp_path / "run", data=rows(), require_exact=True)
    assert [row["train_loss"] for row in run.history] == [row["train_loss"] for row in whole.history]
    assert harness.digest(run.folder) == harness.digest(whole.folder)


def test_a_failure_that_does_not_come_again_says_so(tmp_path: Path) -> None:
    calls = itertools.count()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        value = nn.functional.mse_loss(output, target)
        return value * float("nan") if next(calls) == 9 else value

    said, _ = diverged(tmp_path, None, layers=["Linear()"], data=rows(), loss=loss, split={"test": 0.1, "valid": 0})
    assert "it did not happen again when the steps were repeated" in said
    assert "look for state outside the network, or for a faulty machine" in said


def test_a_run_without_a_failed_step_has_nothing_to_replay(tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", layers=["Linear()"], epochs=1, run_dir=tmp_path / "run")
    with pytest.raises(CheckpointError, match="no capsule; expected a run in which a step failed, this one is done"):
        nw.replay(run.folder)


def test_the_command_shows_the_step_layer_by_layer(tmp_path: Path) -> None:
    X, y = rows()
    X[150, 1] = 1e30
    np.savez(tmp_path / "t.npz", X=X, y=y)
    layers = json.dumps(["Linear(8)", "ReLU()", "Linear()"])
    words = ["train", str(tmp_path / "t.npz"), "--run-dir", str(tmp_path / "run"), "--set", f"model.layers={layers}"]
    words += ["--set", 'data.preparation="none"', "--set", "training.threads=1", "--set", "training.epochs=3"]
    found = harness.run(words, tmp_path / "log")
    assert found.code == 5, found.stderr
    assert found.line.startswith("netwright: error: training: ")
    assert "netwright replay" in found.line
    found = harness.run(["replay", str(tmp_path / "run")], tmp_path / "log")
    assert found.code == 0, found.stderr
    assert "largest output" in found.stdout
    assert "again: DivergedError" in found.stdout
    shown = harness.run(["replay", str(tmp_path / "run"), "--json"], tmp_path / "log")
    assert json.loads(shown.stdout)["reproduced"] is True


# ---- memory ----------------------------------------------------------------------------------------------------------


def little_memory(most: int, monkeypatch: pytest.MonkeyPatch, where: str) -> list[int]:
    """Let a step run out of memory where more rows than so many go forward at a time."""
    from netwright.engine import eager

    seen: list[int] = []
    original = eager.call_model

    def greedy(model: nn.Module, inputs: dict[str, Tensor], lengths: Tensor | None = None) -> Any:
        count = len(next(iter(inputs.values())))
        seen.append(count)
        if model.training and count > most:
            if where == "forward":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            output = original(model, inputs, lengths)
            output.register_hook(_no_memory)
            return output
        return original(model, inputs, lengths)

    monkeypatch.setattr(eager, "call_model", greedy)
    monkeypatch.setattr("netwright.pipeline.bench.try_step", lambda *arguments: None)
    return seen


def _no_memory(gradient: Tensor) -> Tensor:
    raise RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    )


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_halved_micro_batches_give_the_same_losses(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = ["Linear(8)", "ReLU()", "Linear()"]
    whole = nw.train(data=rows(), layers=layers, run_dir=tmp_path / "whole", engine="eager", **KEYWORDS)
    lines: list[str] = []
    seen = little_memory(5, monkeypatch, where)
    run = nw.train(
        data=rows(), layers=layers, run_dir=tmp_path / "run", auto_micro_batch=True, engine="eager",
        observers=[lambda record: lines.append(str(record)) if isinstance(record, Told) else None], **KEYWORDS,
    )  # fmt: skip
    assert run.config.training.micro_batch == 4
    assert seen[0] == 16
    assert [line for line in lines if "going on from the last checkpoint with 8 at a time, the batch stays" in line]
    losses = [[row["train_loss"] for row in found.history] for found in (whole, run)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    assert [row["step"] for row in whole.history] == [row["step"] for row in run.history]
    assert nw.load(run.folder).config.training.micro_batch == 4


def test_out_of_memory_ends_with_six_and_the_option_that_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    little_memory(5, monkeypatch, "forward")
    with pytest.raises(
        ResourceError, match=r"out of memory at step 1 with 16 rows at a time.*--auto-micro-batch"
    ) as problem:
        nw.train(data=rows(), layers=["Linear()"], run_dir=tmp_path / "run", **KEYWORDS)
    assert problem.value.exit_code == 6
    monkeypatch.undo()
    assert nw.resume(tmp_path / "run", data=rows()).record["status"] == "done"


def test_one_row_that_is_too_much_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    little_memory(0, monkeypatch, "forward")
    with pytest.raises(ResourceError, match="with 1 row at a time.*expected room for one row"):
        nw.train(data=rows(), layers=["Linear()"], run_dir=tmp_path / "run", auto_micro_batch=True, **KEYWORDS)


@pytest.mark.parametrize(
    ("loss", "layers", "classes"),
    [
        ("CrossEntropyLoss(weight=[1.0, 3.0, 0.5])", ["Linear()"], 3),
        ("MSELoss()", ["Linear()"], 0),
        ("BCEWithLogitsLoss()", ["Linear()"], 2),
        ("PoissonNLLLoss()", ["Linear()"], -1),
    ],
)
def test_the_gradient_of_parts_is_that_of_the_batch(loss: str, layers: list[str], classes: int, tmp_path: Path) -> None:
    X, y = rows()
    target: Any = np.arange(ROWS) % classes if classes > 0 else (np.arange(ROWS) % 7).reshape(-1, 1) if classes else y
    runs = [
        nw.train(
            data=(X, target), layers=layers, loss=loss, run_dir=tmp_path / str(part),
            **{**KEYWORDS, "optimizer": "SGD(lr=0.1)", "micro_batch": part},
        )
        for part in (None, 5)
    ]  # fmt: skip
    for one, other in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def resident() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


@pytest.mark.faults
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
@pytest.mark.parametrize("every", [1, 50])
def test_memory_and_files_stay_as_they_are_over_two_thousand_steps(every: int, tmp_path: Path) -> None:
    program = [sys.executable, str(Path(__file__).parent / "steady.py"), str(tmp_path / "run"), str(every)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    figures = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(figures) == 200
    warm, last = figures[20], figures[-1]
    assert last[0] - warm[0] <= 5 << 20
    assert last[1] <= warm[1]


def test_predicting_again_and_again_takes_no_more_memory(tmp_path: Path) -> None:
    run = nw.train("sklearn:wine", layers=["Linear()"], epochs=1, run_dir=tmp_path / "run")
    X = np.random.default_rng(0).normal(size=(50, 13))
    import pyarrow as pa
    from sklearn.datasets import load_wine

    table = pa.table({name: X[:, place] for place, name in enumerate(load_wine().feature_names)})
    for _ in range(20):
        run.predict(table)
    before = resident()
    for _ in range(100):
        run.predict(table)
    assert resident() - before <= 5 << 20
