"""Transfer learning from the outside: weights of another run, frozen layers, gradual unfreezing; the same bits everywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import netwright as nw
from netwright.checkpoint import store, trees
from netwright.cli import main
from netwright.errors import CheckpointError, ConfigError, NetwrightError
from netwright.lifecycle.replaying import replay_run
from netwright.pipeline.custom import Custom
from netwright.pipeline.telling import Told
from netwright.proofs.explaining import explain
from netwright.proofs.rerunning import verify_eject

NET = ["Linear(12)", "BatchNorm1d()", "ReLU()", "Dropout(0.2)", "Linear(8)", "BatchNorm1d()", "ReLU()", "Linear()"]
GRADUAL: dict[str, Any] = {
    "freeze": ["0", "1", "4", "5"],
    "unfreeze": [{"epoch": 3, "parameters": ["4", "5"]}, {"epoch": 4, "parameters": ["1"]}],
}
LIGHT: dict[str, Any] = {"batch_size": 20, "threads": 1, "test": False, "skip": "all"}


def write_rows(path: Path, classes: str, rows: int = 100) -> Path:
    """Write a table whose class depends on its five numbers."""
    generator = np.random.default_rng(3)
    X = generator.normal(size=(rows, 5))
    labels = [classes[int(value > 0) + int(value > 1)] for value in X[:, 0] + X[:, 1] * X[:, 2]]
    lines = [
        "a,b,c,d,e,kind",
        *(",".join([*(f"{value:.4f}" for value in row), label]) for row, label in zip(X, labels, strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tables, a run, and its weights in other forms."""
    folder = tmp_path_factory.mktemp("transfer")
    for name in ("abc", "xyz"):
        write_rows(folder / f"{name}.csv", name)
    run = nw.train(str(folder / "abc.csv"), target="kind", layers=NET, epochs=3, run_dir=folder / "first", **LIGHT)
    nw.export(run, "bundle", folder / "bundle")
    shutil.copy(run.folder / "model" / "best.safetensors", folder / "best.safetensors")
    weights = safetensors.torch.load_file(folder / "best.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, folder / "best.pt")
    return folder


def tuned(place: Path, into: Path, data: str = "abc.csv", **settings: Any) -> nw.Run:
    given = {"target": "kind", "layers": NET, "weights": place / "first", "epochs": 4, **LIGHT, **settings}
    return nw.train(str(place / data), run_dir=into, **given)


def tensors(run: nw.Run, name: str = "last") -> dict[str, Tensor]:
    return safetensors.torch.load_file(run.folder / "model" / f"{name}.safetensors")


def unchanged(run: nw.Run, source: dict[str, Tensor]) -> set[str]:
    """Return the layers all of whose weights and statistics are still those of the source, bit for bit."""
    same = {name: torch.equal(value, source[name]) for name, value in tensors(run).items()}
    layers = {name.partition(".")[0] for name in same}
    return {layer for layer in layers if all(value for name, value in same.items() if name.startswith(f"{layer}."))}


def same_run(one: Path, other: Path) -> bool:
    parts = [store.newest(path / "checkpoints", pytest.fail).parts for path in (one, other)]
    kept = [{name: value[name] for name in ("model", "optimizer", "generators", "progress", "best")} for value in parts]
    return trees.first_difference(*kept) is None


def test_frozen_weights_and_statistics_keep_every_bit_under_weight_decay_and_momentum(place: Path, tmp_path: Path) -> None:
    source = tensors(nw.load(place / "first"), "best")
    for number, optimizer in enumerate(("AdamW(lr=0.01, weight_decay=0.5)", "SGD(lr=0.1, momentum=0.9, weight_decay=0.1)")):
        run = tuned(place, tmp_path / f"{number}", freeze=["0", "1"], optimizer=optimizer)
        assert unchanged(run, source) == {"0", "1"}
        eager = tuned(place, tmp_path / f"eager{number}", freeze=["0", "1"], optimizer=optimizer, engine="eager")
        assert run.record["played"].startswith(("natively", "from Python"))
        assert same_run(run.folder, eager.folder)
    assert run.record["model"]["trainable"] == sum(value.numel() for value in run.model.parameters()) - 72 - 24
    plain = tuned(place, tmp_path / "plain")
    assert unchanged(plain, source) == set()


def test_layers_learn_from_their_epoch_on_with_the_bits_of_eager(place: Path, tmp_path: Path) -> None:
    source = tensors(nw.load(place / "first"), "best")
    found = {
        epochs: unchanged(tuned(place, tmp_path / f"{epochs}", epochs=epochs, **GRADUAL), source) for epochs in (2, 3, 4)
    }
    assert found == {2: {"0", "1", "4", "5"}, 3: {"0", "1"}, 4: {"0"}}
    assert same_run(tmp_path / "4", tuned(place, tmp_path / "eager", engine="eager", **GRADUAL).folder)


def test_a_run_that_is_killed_around_an_unfreezing_epoch_ends_with_the_same_bits(place: Path, tmp_path: Path) -> None:
    whole = tuned(place, tmp_path / "whole", every_steps=1, keep=99, **GRADUAL)
    steps = whole.record["steps"] // 4
    for step in (2 * steps - 1, 2 * steps, 2 * steps + 1):
        copy = tmp_path / f"killed{step}"
        shutil.copytree(whole.folder, copy)
        for path in store.checkpoints(copy / "checkpoints"):
            if store.step_of(path) > step:
                shutil.rmtree(path)
        record = json.loads((copy / "run.json").read_text())
        (copy / "run.json").write_text(json.dumps({**record, "status": "running"}))
        nw.resume(copy, require_exact=True)
        assert same_run(copy, whole.folder), step


def test_resume_and_rerun_need_no_source_and_a_rerun_needs_its_own_copy(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "first", tmp_path / "first")
    run = tuned(place, tmp_path / "run", weights=tmp_path / "first", epochs=2, head=["7"], freeze="0")
    shutil.rmtree(tmp_path / "first")
    assert same_run(nw.train(run.folder / "config.toml", run_dir=tmp_path / "again", test=False).folder, run.folder)
    longer = nw.resume(run.folder, settings=["training.epochs=3"])
    assert longer.record["epochs"] == 3
    text = (run.folder / "config.toml").read_text()
    shutil.rmtree(run.folder)
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(CheckpointError, match=r"run/model/start.safetensors: no such file or folder; expected a run"):
        nw.train(tmp_path / "config.toml", run_dir=tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("source", ["first", "bundle", "best.safetensors", "best.pt"])
def test_weights_come_from_runs_bundles_and_files(place: Path, tmp_path: Path, source: str) -> None:
    run = tuned(place, tmp_path / "run", weights=place / source, epochs=0)
    assert unchanged(run, tensors(nw.load(place / "first"), "best")) == {"0", "1", "4", "5", "7"}
    start = run.record["start"]
    assert (start["source"], start["parameters"], start["new"]) == (str(place / source), start["of"], [])
    assert len(start["digest"]) == len("sha256:") + 64


def test_other_classes_let_the_last_layer_begin_new_and_that_is_said(place: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    tell = [lambda record: lines.append(str(record)) if isinstance(record, Told) else None]
    run = tuned(
        place,
        tmp_path / "run",
        "xyz.csv",
        epochs=1,
        observers=tell,
        freeze=["0", "1"],
        **{"unfreeze": GRADUAL["unfreeze"][1:]},
    )
    assert run.record["start"]["new"] == ["7"]
    assert run.config.model.head == ["7"]
    assert (
        f"weights: 216 of 243 parameters from {place / 'first'} (a run, best epoch 3); new: layer 7 (it told other classes apart)"
        in lines
    )
    assert "frozen: 96 of 243 parameters, layer 0, 1; statistics kept in 1" in lines
    assert "frozen from epoch 4 on: 72 of 243 parameters, layer 0" in lines
    assert "note: training.unfreeze: epoch 4 comes after the last, 1; its layers stay frozen" in lines
    page = (run.folder / "report.html").read_text()
    assert "147 trainable in epoch 1, 96 frozen" in page
    assert "new layers: 7" in page
    told = "\n".join(f"{line.code} {line.comment}" for line in explain(run.folder))
    assert "hold_still(model, *HELD[epoch])" in told
    assert "weights of" in told
    settings = nw.load(nw.export(run, output=tmp_path / "bundle")).config.model
    assert (settings.weights, settings.head) == (None, None)


def test_columns_in_another_order_are_noted(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text((place / "abc.csv").read_text().replace("a,b,c,d,e", "b,a,c,d,e"))
    lines: list[str] = []
    nw.train(
        str(other), target="kind", layers=NET, weights=place / "first", epochs=0, run_dir=tmp_path / "run",
        observers=[lambda record: lines.append(str(record))], **LIGHT,
    )  # fmt: skip
    assert any(
        "its columns are others (first a there, b here); the first layer reads them by their place" in line for line in lines
    )


class Encoder(nn.Module):
    """Code of one's own with a part that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        output: Tensor = self.head(self.body(x))
        return output


def test_a_step_that_spoils_numbers_is_found_and_replayed_with_layers_frozen(place: Path, tmp_path: Path) -> None:
    with pytest.raises(NetwrightError, match="not finite|the loss is"):
        tuned(place, tmp_path / "run", optimizer="SGD(lr=1e30)", **GRADUAL)
    assert replay_run(tmp_path / "run").reproduced
    kept = store.newest(tmp_path / "run" / "checkpoints", pytest.fail).parts["model"]["state"]
    source = tensors(nw.load(place / "first"), "best")
    assert all(torch.equal(kept[name], source[name]) for name in source if not name.startswith("7"))


def test_a_module_from_python_and_a_function_for_the_optimizer(place: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Encoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = nw.train(
        str(place / "abc.csv"), target="kind", model=model, freeze="body.*", epochs=2, run_dir=tmp_path / "run",
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.1), **LIGHT,
    )  # fmt: skip
    changed = {name for name, value in tensors(run).items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}
    again = nw.train(
        str(place / "abc.csv"),
        target="kind",
        model=Encoder(),
        weights=run.folder,
        epochs=0,
        run_dir=tmp_path / "again",
        **LIGHT,
    )
    assert all(torch.equal(value, tensors(run, "best")[name]) for name, value in tensors(again).items())
    with pytest.raises(ConfigError, match=r"training.freeze: \['head'\] came with step=; an own step decides that"):
        nw.train(
            str(place / "abc.csv"),
            target="kind",
            model=model,
            freeze="head",
            step=lambda *given: given,
            run_dir=tmp_path / "x",
        )


WRONG = [
    (["training.freeze=['9']"], 2, "training.freeze: '9' matches no parameter"),
    (["training.freeze=['*']"], 2, "training.freeze: ['*'] came; it leaves none of 10 parameters to train"),
    (["training.unfreeze=[{epoch=2,parameters=['0']}]"], 2, "unfreeze came without freeze; expected layers that are frozen"),
    (["training.freeze=0", "training.unfreeze=[{epoch=1,parameters='0'}]"], 2, "unfreeze.0.epoch: 1 came; expected at least"),
    (["model.head=['7']"], 2, "head ['7'] came without weights"),
    (["model.weights=nowhere"], 4, "nowhere: no such file or folder; expected a run"),
    (["model.weights=abc.csv"], 2, "abc.csv came; expected a run folder, a bundle, or a file that ends in .safetensors"),
    (["model.weights=first", "model.head=fc"], 2, "model.head: 'fc' matches no layer of the network or of"),
    (["model.weights=first", "model.layers.4.out_features=9"], 4, "4.weight is (8, 12) there and (9, 12) here"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "code", "told"), WRONG)
def test_what_a_person_gets_wrong_is_one_line_and_nothing_is_written(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    settings: list[str], code: int, told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    (place / "config.toml").write_text(
        f'[data]\nsource = "abc.csv"\ntarget = "kind"\n[model]\nlayers = {NET!r}\n'.replace("'", '"')
    )
    words = ["train", "config.toml", "--run-dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        main([*words, *(word for setting in settings for word in ("--set", setting))])
    said = capsys.readouterr().err.strip().splitlines()
    assert (ended.value.code, len(said)) == (code, 1), said
    assert told in said[0]
    assert not (tmp_path / "run").exists()


def test_show_counts_what_is_frozen(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["show", str(place / "first"), "--set", "training.freeze=['0', 'norms']"])
    assert "131 parameters are trained in epoch 1, 112 are frozen" in capsys.readouterr().out


def test_a_step_that_fails_after_layers_began_to_learn_is_replayed_as_it_was(place: Path, tmp_path: Path) -> None:
    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-3)

    class Failing(nn.Module):
        """Raises in the second step in which its batch norm learns."""

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.last = nn.BatchNorm1d(5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            """Return logits, or raise."""
            if self.norm.training and int(self.norm.num_batches_tracked or 0) > 0:
                raise ValueError("batch norm learns")
            output: Tensor = self.last(self.norm(x))
            return output

    with pytest.raises(NetwrightError, match="batch norm learns"):
        nw.train(
            str(place / "abc.csv"), target="kind", model=Failing(), optimizer=optimizer, freeze="norm", epochs=3, engine="eager",
            unfreeze=[{"epoch": 2, "parameters": ["norm"]}], run_dir=tmp_path / "failed", **LIGHT,
        )  # fmt: skip
    assert replay_run(tmp_path / "failed", model=Failing(), custom=Custom(optimizer=optimizer)).reproduced


def test_batch_norm_that_rests_in_every_epoch_trains_on_single_rows(place: Path, tmp_path: Path) -> None:
    frozen = {"freeze": ["0", "1", "4", "5"], "epochs": 1}
    eager, captured = (
        tuned(place, tmp_path / engine, engine=engine, **{**frozen, "batch_size": 1}) for engine in ("eager", "captured")
    )
    assert eager.config.data.last_batch == "keep"
    assert all(torch.equal(value, tensors(captured)[name]) for name, value in tensors(eager).items())
    assert torch.equal(tensors(eager)["1.running_mean"], tensors(eager, "start")["1.running_mean"])
    assert verify_eject(captured.folder).held
    thawed = {**frozen, "unfreeze": [{"epoch": 2, "parameters": ["5"]}], "epochs": 3}
    with pytest.raises(ConfigError, match="data.batch_size: 1 came; BatchNorm needs two rows"):
        tuned(place, tmp_path / "thawed", **{**thawed, "batch_size": 1})


def test_sgd_with_momentum_is_not_fused_where_layers_begin_to_learn_later(place: Path) -> None:
    """torch's fused kernel fails where some parameters have momentum and others none yet."""
    gradual = {"freeze": ["0"], "unfreeze": [{"epoch": 2, "parameters": ["0"]}], "epochs": 2}
    wanted = {"optimizer": "SGD(lr=0.1, momentum=0.9)", "target": "kind", "layers": ["Linear(4)", "ReLU()", "Linear()"]}
    for more, resolved in (({}, "SGD(lr=0.1, momentum=0.9, fused=True)"), (gradual, "SGD(lr=0.1, momentum=0.9)")):
        run = nw.train(
            str(place / "abc.csv"), run_dir=place / f"momentum-{len(more)}", **{**LIGHT, "epochs": 1, **wanted, **more}
        )
        assert run.config.training.optimizer == resolved
        assert run.record["status"] == "done"
