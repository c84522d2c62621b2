"""Engines from the outside: which one a run gets and why, the same bits in each, precision and memory format."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import netwright as nw
from netwright.distributed.world import World
from netwright.engine.dense_layers import unknown_of
from netwright.errors import CheckpointError, ConfigError
from netwright.pipeline.bench import gather, prepare
from netwright.pipeline.telling import Told, by_torch, faster_compiled
from netwright.recording import building

NET = ["Linear(32)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear()"]


class Straight(nn.Module):
    """Code of one's own that only computes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(13, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        output: Tensor = self.last(torch.relu(self.first(x)))
        return output


class Counting(Straight):
    """Code of one's own that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Return logits and count."""
        self.calls += 1
        return super().forward(x)


def trained(folder: Path, source: Any = "sklearn:wine", **settings: Any) -> tuple[nw.Run, list[str]]:
    lines: list[str] = []
    given = {"layers": NET, "epochs": 6, "batch_size": 20, **settings}
    run = nw.train(
        source,
        run_dir=folder,
        observers=[lambda record: lines.append(str(record)) if isinstance(record, Told) else None],
        **given,
    )
    return run, lines


def weights(run: nw.Run) -> bytes:
    return (run.folder / "model" / "last.safetensors").read_bytes()


def losses(run: nw.Run) -> list[tuple[float, float]]:
    return [(row["train_loss"], row["valid_loss"]) for row in run.history]


def test_captured_is_the_default_and_gives_the_bits_of_eager(tmp_path: Path) -> None:
    captured, lines = trained(tmp_path / "captured")
    eager, _ = trained(tmp_path / "eager", engine="eager")
    assert (captured.config.training.engine, eager.config.training.engine) == ("captured", "eager")
    assert captured.record["played"].startswith(("natively", "from Python"))
    assert eager.record["played"] == "as written"
    assert weights(captured) == weights(eager)
    assert losses(captured) == losses(eager)
    assert captured.record["best"] == eager.record["best"]
    assert (captured.folder / "steps.jsonl").read_text() == (eager.folder / "steps.jsonl").read_text()
    assert [line for line in lines if line.startswith("time: ") and "of it waiting for rows" in line]


def test_the_resolved_config_gives_the_run_again(tmp_path: Path) -> None:
    run, _ = trained(tmp_path / "run")
    again = nw.train(tmp_path / "run" / "config.toml", run_dir=tmp_path / "again")
    assert weights(run) == weights(again)
    assert again.config == run.config


def test_a_run_of_one_engine_goes_on_in_the_other_with_the_same_bits(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole", epochs=8)
    first, _ = trained(tmp_path / "run", epochs=4)
    run = nw.resume(first.folder, settings=["training.engine=eager", "training.epochs=8"], require_exact=True)
    assert run.config.training.engine == "eager"
    assert weights(run) == weights(whole)
    assert losses(run) == losses(whole)


def test_own_code_that_only_computes_is_captured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Straight()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    run, _ = trained(tmp_path / "run", layers=None, model=model)
    again = Straight()
    again.load_state_dict(state)
    eager, _ = trained(tmp_path / "eager", layers=None, model=again, engine="eager")
    assert run.config.training.engine == "captured"
    assert weights(run) == weights(eager)


def test_own_code_that_remembers_runs_as_it_is_written_and_that_is_said(tmp_path: Path) -> None:
    model = Counting()
    run, lines = trained(tmp_path / "run", layers=None, model=model)
    assert run.config.training.engine == "eager"
    assert run.record["why_engine"] == "Counting.forward changes self.calls, so that steps have to run as they are written"
    assert [
        line
        for line in lines
        if "eager engine (Counting.forward changes self.calls, so that steps have to run as they are written) on cpu" in line
    ]
    assert model.calls >= run.record["steps"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (
            {"layers": None, "model": Counting()},
            "Counting.forward changes self.calls, so that steps have to run as they are written",
        ),
        ({"micro_batch": 5, "layers": ["Linear(8)", "ReLU()", "Linear()"]}, "a batch in parts is several pieces of work"),
        ({"optimizer": "LBFGS()"}, "LBFGS evaluates the loss several times a step"),
        ({"optimizer": "NAdam()"}, r"a number is read in the middle of the step \(aten._local_scalar_dense.default\)"),
    ],
)
def test_captured_by_name_is_refused_where_it_cannot_run(settings: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=rf"training.engine: captured came; it cannot run here: {why}; expected another engine; write auto"
    ):
        trained(tmp_path / "run", engine="captured", **settings)
    assert not (tmp_path / "run").exists()
    run, _ = trained(tmp_path / "run", **{**settings, "epochs": 1})
    assert run.config.training.engine == "eager"


@pytest.mark.parametrize("engine", ["eager", "captured"])
def test_bfloat16_learns_and_keeps_weights_in_float32(engine: str, tmp_path: Path) -> None:
    run, _ = trained(tmp_path / engine, precision="bfloat16", engine=engine, epochs=15)
    tensors = safetensors.torch.load_file(run.folder / "model" / "best.safetensors")
    assert all(value.dtype == torch.float32 for name, value in tensors.items() if not name.endswith("num_batches_tracked"))
    assert run.test()["metrics"]["accuracy"]["value"] > 0.8
    assert run.program.how.update.autocast == torch.bfloat16


def test_encoder_layers_are_validated_and_predict_in_bfloat16_and_the_fused_ones_stay_on(tmp_path: Path) -> None:
    layers = ["Linear(8)", "TransformerEncoderLayer(nhead=2, dim_feedforward=16)", "MeanOverTime()", "Linear()"]
    X, y = torch.randn(60, 5, 3), torch.arange(60) % 2
    run = nw.train(data=(X, y), layers=layers, precision="bfloat16", epochs=1, test=False, run_dir=tmp_path / "run")
    assert run.predict(X).shape == (60,)
    assert torch.backends.mha.get_fastpath_enabled()


def test_bfloat16_gives_the_same_bits_in_both_engines(tmp_path: Path) -> None:
    runs = [trained(tmp_path / engine, precision="bfloat16", engine=engine)[0] for engine in ("eager", "captured")]
    assert weights(runs[0]) == weights(runs[1])
    assert losses(runs[0]) == losses(runs[1])
    whole = trained(tmp_path / "float32")[0]
    assert weights(whole) != weights(runs[0])
    np.testing.assert_allclose(losses(whole), losses(runs[0]), rtol=0.1)


@pytest.mark.parametrize("engine", ["eager", "captured"])
def test_channels_last_learns_the_same(engine: str, tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(90, 3, 8, 8)).astype(np.float32)
    y = (X.mean(axis=(1, 2, 3)) > 0).astype(int)
    found = []
    for memory_format in ("contiguous", "channels_last"):
        run = nw.train(
            data=(X, y), layers=["Conv2d(8, 3)", "ReLU()", "Flatten()", "Linear()"], epochs=3, batch_size=16, layout="NCHW",
            engine=engine, memory_format=memory_format, run_dir=tmp_path / memory_format,
        )  # fmt: skip
        found.append(run)
    first = next(found[1].model.parameters())
    assert first.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(losses(found[0]), losses(found[1]), rtol=1e-4)


def test_channels_last_is_tested_and_predicted_with_the_same_bits_from_its_folder(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(90, 3, 9, 9)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", X=X, y=(X.mean(axis=(1, 2, 3)) > 0).astype(int))
    run = nw.train(
        tmp_path / "rows.npz", layers=["Conv2d(16, 3)", "ReLU()", "Conv2d(16, 3)", "ReLU()", "Flatten()", "Linear()"],
        epochs=2, layout="NCHW", memory_format="channels_last", run_dir=tmp_path / "run",
    )  # fmt: skip
    for again in (nw.load(run.folder), nw.load(nw.export(run, output=tmp_path / "bundle"))):
        assert next(again.model.parameters()).is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_array_equal(again.predict_proba(X), run.predict_proba(X))


def test_tf32_is_put_back(tmp_path: Path) -> None:
    before = torch.get_float32_matmul_precision()
    trained(tmp_path / "run", precision="tf32", epochs=1)
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
def test_compiled_learns_the_same_within_a_tolerance(tmp_path: Path) -> None:
    if not any(shutil.which(name) for name in building.COMPILERS):
        with pytest.raises(ConfigError, match="training.engine: compiled came; it cannot run here: no C"):
            trained(tmp_path / "none", engine="compiled")
        return
    layers = ["Linear(16)", "ELU()", "Linear()"]  # ELU: no kernel of dense layers
    compiled, _ = trained(tmp_path / "compiled", engine="compiled", epochs=3, layers=layers)
    eager, _ = trained(tmp_path / "eager", engine="eager", epochs=3, layers=layers)
    assert compiled.record["played"] == "by torch.compile"
    np.testing.assert_allclose(losses(compiled), losses(eager), rtol=1e-5)
    for one, other in zip(compiled.model.parameters(), eager.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_resumed_captured_run_records_again(tmp_path: Path) -> None:
    """The optimizer's tensors are others after a checkpoint was read."""
    part, _ = trained(tmp_path / "epochs", epochs=2)
    run = nw.resume(part.folder, settings=["training.epochs=6"], require_exact=True)
    again, _ = trained(tmp_path / "again", epochs=6)
    assert weights(run) == weights(again)
    assert losses(run) == losses(again)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, True),
        ({"layers": ["Linear(32)", "ReLU()", "Dropout(0.2)", "Linear()"]}, True),
        ({"batch_size": 2, "layers": NET}, False),
        ({"engine": "eager"}, False),
        ({"clip_grad_norm": 1.0}, False),
        ({"loss": "FocalLoss(gamma=2.0)"}, False),
        ({"layers": ["Linear(32)", "BatchNorm1d()", "ReLU()", "Linear()"]}, False),
        ({"clip_grad_value": 1.0}, False),
    ],
)
def test_steps_that_would_be_faster_compiled_on_a_gpu_are_told(settings: dict[str, Any], told: bool) -> None:
    given = {"layers": ["Linear(32)", "Tanh()", "Linear()"], "epochs": 1, **settings}
    bench = prepare(*gather("sklearn:wine", (), given))
    assert faster_compiled(bench) == []
    bench = replace(bench, device=torch.device("cuda"))
    assert ["training.engine=compiled" in note for note in faster_compiled(bench)] == [True] * told
    assert faster_compiled(replace(bench, world=World(0, 2))) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, True),
        ({"epochs": 10}, False),
        ({"batch_size": 64, "layers": ["Linear(1_000)", "Linear(1_000)", "Linear()"]}, False),
        ({"average": "EMA(decay=0.9)"}, False),
        ({"layers": ["Linear(32)", "BatchNorm1d()", "ReLU()", "Linear()"]}, True),
        ({"layers": ["Linear(32)", "LayerNorm()", "ReLU()", "Linear()"]}, True),
        ({"layers": ["Linear(32)", "ReLU()", "LayerNorm()", "Linear()"]}, False),
        ({"clip_grad_norm": 1.0}, True),
        ({"l1": 0.1}, False),
    ],
)
def test_steps_that_would_be_faster_compiled_on_the_cpu_are_told(settings: dict[str, Any], told: bool) -> None:
    given = {"layers": ["Linear(32)", "Tanh()", "Linear()"], "epochs": 10_000_000, "device": "cpu", **settings}
    bench = prepare(*gather("sklearn:wine", (), given))
    assert ["training.engine=compiled" in note for note in faster_compiled(bench)] == [True] * told


@pytest.mark.parametrize(
    ("began", "goes_on", "exact", "taken"),
    [
        ("captured", "eager", True, "eager"),
        ("captured", "auto", True, "captured"),
        ("captured", "compiled", False, "compiled"),
        ("compiled", "captured", False, "captured"),
        ("compiled", "auto", False, "captured"),
        ("compiled", "compiled", True, "compiled"),
    ],
)
def test_a_run_that_goes_on_by_an_engine_of_other_bits_is_not_exact(
    began: str, goes_on: str, exact: bool, taken: str, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"layers": ["Linear(8)", "ReLU()", "Linear()"], "early_stopping": "none", "baselines": "none"}
    run = nw.train("sklearn:iris", run_dir=tmp_path / "run", engine=began, epochs=2, test=False, **how)
    settings, told = ["training.epochs=3", f"training.engine={goes_on}"], []
    if not exact:
        with pytest.raises(CheckpointError, match=f"not exact .engine {began} -> {taken}."):
            nw.resume(run.folder, settings=settings, require_exact=True)
    again = nw.resume(run.folder, settings=settings, observers=[told.append])
    assert again.config.training.engine == taken
    assert ("resume: exact" in map(str, told)) == exact


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"layers": ["Flatten()", "Linear(8)", "ReLU()", "Linear()"]}, None),
        ({"layers": ["Conv2d(8, 3)", "BatchNorm2d()", "ReLU()", "AdaptiveAvgPool2d(1)", "Flatten()", "Linear()"]}, None),
        (
            {"layers": ["Conv2d(8, 3)", "ReLU()", "AdaptiveAvgPool2d(2)", "Flatten()", "Linear()"]},
            "AdaptiveAvgPool2d(output_size=2)",
        ),
        (
            {"layers": ["Conv2d(8, 3, stride=2)", "ReLU()", "Flatten()", "Linear()"]},
            "Conv2d(1, 8, kernel_size=(3, 3), stride=(2, 2))",
        ),
        ({"layers": ["Flatten()", "Linear(8)", "ELU()", "Linear()"]}, "ELU(alpha=1.0)"),
        (
            {"layers": ["Conv2d(8, 3)", "Dropout(0.1)", "Flatten()", "Dropout(0.1)", "Linear()"]},
            "Dropout(p=0.1, inplace=False)",
        ),
        ({"layers": ["Flatten()", "Residual(Linear(64), ReLU())", "Linear()"]}, "Residual"),
        ({"layers": ["Flatten()", "Linear()"], "average": "EMA(decay=0.9)"}, "average = EMA(decay=0.9)"),
        ({"layers": ["Flatten()", "Linear()"], "l1": 0.1}, "what a step does beside"),
        ({"layers": ["Flatten()", "Linear()"], "loss": "FocalLoss()"}, "FocalLoss(), or the sizes of the network"),
        ({"layers": ["Flatten()", "Linear(8)", "ELU()", "Linear()"], "engine": "captured"}, None),
    ],
)
def test_compiled_steps_that_torch_compiles_are_told_with_what_the_kernels_do_not_know(
    settings: dict[str, Any], told: str | None
) -> None:
    given = {"engine": "compiled", "epochs": 1, "device": "cpu", **settings}
    found = by_torch(prepare(*gather("sklearn:digits", (), given)))
    assert len(found) == (told is not None)
    for line in found:
        assert f"do not know {told} there: it compiles for some 10 to 30 s" in line


@pytest.mark.parametrize(
    "layers",
    [
        ["LSTM(8, bidirectional=True)", "LastStep()", "Linear()"],
        ["LSTM(8)", "MeanOverTime()", "Linear()"],
        ["LSTM(8)", "GRU(4)", "LastStep()", "Linear()"],
    ],
)
def test_what_the_kernels_do_not_know_of_recurrent_layers_is_named(layers: list[str]) -> None:
    rows = (np.random.default_rng(0).normal(size=(40, 6, 3)), np.arange(40) % 2)
    given = {"data": rows, "engine": "compiled", "epochs": 1, "device": "cpu", "layers": layers, "layout": "NTC"}
    bench = prepare(*gather(None, (), {name: value for name, value in given.items() if name != "data"}), data=rows)
    part = unknown_of(bench.network.module)
    assert (None if part is None else type(part).__name__) == {"M": "MeanOverTime", "G": None}.get(layers[1][0], "LSTM")
