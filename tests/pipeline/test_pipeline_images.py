"""Images and volumes without a network of their own: what is filled in, what is left alone, and that the promises hold for them."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import netwright as nw
from netwright.checkpoint import store
from netwright.checks.overfit import without_dropout
from netwright.config.read import to_toml
from netwright.model.modules import RandomMirror, RandomShift, RandomStretch, RandomTurn
from netwright.pipeline.bench import Bench, gather, prepare
from netwright.proofs.explaining import explain
from netwright.proofs.rerunning import verify_eject

RNG = np.random.default_rng(0)
FIRST = "Conv2d(in_channels=3, out_channels=32, kernel_size=3, padding=1, bias=False)"


def prepared(shape: tuple[int, ...], objects: dict[str, Any] | None = None, rows: int = 40, **settings: Any) -> Bench:
    """Return a bench of random rows of two classes."""
    data = RNG.normal(size=(rows, *shape)).astype(np.float32), np.arange(rows) % 2
    return prepare(*gather(None, [], settings), data=data, **(objects or {}))


def chosen(bench: Bench) -> tuple[int, str, str | None, int, bool]:
    """Return what a recipe fills: batch, optimizer, schedule, epochs, and whether a run may end early."""
    training = bench.config.training
    optimizer, schedule = training.optimizer.partition("(")[0], (training.schedule or "").partition("(")[0]
    return bench.config.data.batch_size, optimizer, schedule, training.epochs or 0, training.early_stopping != "none"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour images of 16 x 16 in which one of two corners is bright."""
    path = tmp_path_factory.mktemp("data") / "corners.npz"
    rows, y = RNG.integers(0, 100, size=(60, 16, 16, 3), dtype=np.uint8), np.arange(60) % 2
    rows[y == 0, :6, :6] += 150
    rows[y == 1, -6:, -6:] += 150
    np.savez(path, X=rows, y=y)
    return path


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> nw.Run:
    folder = tmp_path_factory.mktemp("runs") / "run"
    keep = {"every_steps": 2, "keep": 99}
    plain = {"baselines": "none"}
    return nw.train(images, target="y", layout="NHWC", epochs=4, evaluation=plain, checkpoint=keep, run_dir=folder)


def same_weights(one: nw.Run, other: nw.Run) -> bool:
    names = ("model/last.safetensors", "model/best.safetensors")
    return all((one.folder / name).read_bytes() == (other.folder / name).read_bytes() for name in names)


def test_images_without_a_network_get_the_recipe_and_the_resolved_config_says_so(run: nw.Run) -> None:
    training = run.config.training
    assert run.config.model.layers is not None
    assert run.config.model.layers[:2] == ["RandomShift(most=2)", FIRST]
    assert training.schedule == "WarmupCosine(warmup=2, total_steps=12, final=0.0)"
    text = to_toml(run.config)
    for told in ("batch_size = 16", 'early_stopping = "none"', "WarmupCosine(", "RandomShift(most=2)", "weight_decay=0.05"):
        assert told in text
    assert run.tested is not None
    assert run.tested["metrics"]["accuracy"]["value"] > 0.9


def test_without_epochs_the_plan_is_the_recipes() -> None:
    recipe = (16, "AdamW", "WarmupCosine", 60, False)
    assert chosen(prepared((3, 8, 8))) == recipe
    assert chosen(prepared((1, 4, 4, 4))) == recipe
    assert chosen(prepared((8, 8), layout="NHW", split={"valid": 0})) == recipe


def test_what_the_user_has_written_stays() -> None:
    assert chosen(prepared((1, 8, 8), batch_size=8, epochs=3)) == (8, "AdamW", "WarmupCosine", 3, False)
    assert chosen(prepared((1, 8, 8), schedule="StepLR(step_size=5)")) == (16, "AdamW", "StepLR", 60, False)
    assert chosen(prepared((1, 8, 8), schedule="none")) == (16, "AdamW", "", 60, False)
    assert chosen(prepared((1, 8, 8), optimizer="SGD(lr=0.1)")) == (16, "SGD", "", 60, False)  # nothing turns a written rate
    assert chosen(prepared((1, 8, 8), early_stopping={"patience": 3})) == (16, "AdamW", "WarmupCosine", 60, True)


def test_a_written_network_or_a_module_brings_nothing_of_the_recipe() -> None:
    before = (64, "Adam", "", 200, True)
    assert chosen(prepared((1, 4, 4), layers=["Flatten()", "Linear()"])) == before
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1))
    assert chosen(prepared((1, 4, 4), {"module": module})) == before


def test_the_resolved_config_gives_the_same_bits_in_both_engines(run: nw.Run, tmp_path: Path) -> None:
    for engine in ("captured", "eager"):
        again = nw.train(run.folder / "config.toml", engine=engine, run_dir=tmp_path / engine, test=False)
        assert again.record["engine"] == engine
        assert same_weights(run, again), engine


def test_a_run_that_was_killed_inside_an_epoch_ends_with_the_same_bits(run: nw.Run, tmp_path: Path) -> None:
    copy = tmp_path / "killed"
    shutil.copytree(run.folder, copy)
    names = sorted(path.name for path in (copy / "checkpoints").iterdir())
    inside = [name for name in names if "epoch" not in name][1]
    for name in names:
        if name > inside:
            shutil.rmtree(copy / "checkpoints" / name)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"status": "running"}))
    again = nw.resume(copy, require_exact=True)
    assert again.record["resumed"][0]["step"] == store.step_of(Path(inside))
    assert same_weights(run, again)


def test_the_default_ejects_to_a_script_with_the_same_bits(run: nw.Run) -> None:
    text = nw.eject(run)
    assert "class RandomShift(nn.Module):" in text
    assert verify_eject(run.folder).held


def test_explain_tells_that_rows_are_moved_in_training_only(run: nw.Run) -> None:
    text = "\n".join(line.comment for line in explain(run.folder))
    assert "RandomShift moves every row by some places at random" in text
    assert "RandomShift moves nothing" in text


def test_a_drafted_config_is_short_and_stands_for_the_same_run(run: nw.Run, images: Path, tmp_path: Path) -> None:
    text = nw.draft(str(images), output=tmp_path / "draft.toml", target="y", layout="NHWC", epochs=4).text
    assert 'schedule = "WarmupCosine(warmup=0.1)"' in text  # no number of steps: it fits other epochs too
    assert "in_channels" not in text
    assert "num_features" not in text
    (tmp_path / "draft.toml").write_text(text)
    again = prepare(*gather(tmp_path / "draft.toml", [], {})).config
    assert again.model == run.config.model
    for name in ("epochs", "optimizer", "schedule", "early_stopping"):
        assert getattr(again.training, name) == getattr(run.config.training, name), name
    longer = prepare(*gather(tmp_path / "draft.toml", [], {"epochs": 8})).config
    assert longer.training.schedule == "WarmupCosine(warmup=3, total_steps=24, final=0.0)"


def test_a_volume_is_learned(tmp_path: Path) -> None:
    y = np.arange(40) % 2
    rows = RNG.normal(size=(40, 6, 6, 6)).astype(np.float32) + 2 * y[:, None, None, None].astype(np.float32)
    run = nw.train((rows, y), layout="NDHW", epochs=4, run_dir=tmp_path / "run")
    assert (run.config.model.layers or [""])[0].startswith("Conv3d(in_channels=1, out_channels=16")
    larger = np.zeros((40, 16, 16, 16), dtype=np.float32)
    layers = prepare(*gather(None, [], {"layout": "NDHW"}), data=(larger, y)).config.model.layers or []
    assert layers[:2] == ["RandomShift(most=1)", "RandomStretch(factor=1.2)"]
    assert run.tested is not None
    assert run.tested["metrics"]["accuracy"]["value"] == 1.0


def test_rows_that_are_stretched_mirrored_and_turned_keep_the_promises(tmp_path: Path) -> None:
    y = np.arange(30) % 2
    rows = RNG.normal(size=(30, 6, 6, 6)).astype(np.float32) + y[:, None, None, None].astype(np.float32)
    np.savez(tmp_path / "boxes.npz", X=rows, y=y)
    moves = ["RandomStretch(1.5)", "RandomMirror([2, 3])", "RandomTurn([2, 3])"]
    layers = [*moves, "Conv3d(2, kernel_size=3)", "ReLU()", "Flatten()", "Linear()"]
    fixed = {"target": "y", "layout": "NDHW", "epochs": 2, "layers": layers, "run_dir": tmp_path / "run", "test": False}
    run = nw.train(tmp_path / "boxes.npz", engine="captured", **fixed)
    again = nw.train(run.folder / "config.toml", engine="eager", run_dir=tmp_path / "again", test=False)
    assert same_weights(run, again)
    assert verify_eject(run.folder).held
    text = "\n".join(line.comment for line in explain(run.folder))
    assert "RandomStretch stretches or narrows every row at random and RandomMirror mirrors about half of the rows" in text
    assert "RandomStretch and RandomMirror and RandomTurn move nothing" in text


def test_a_batch_that_is_learned_by_heart_stays_as_it_is() -> None:
    inner = torch.nn.Sequential(RandomMirror([2]), torch.nn.Dropout(0.5))
    model = without_dropout(torch.nn.Sequential(RandomShift(2), RandomStretch(1.5), inner, RandomTurn([2, 3])))
    given = torch.randn(4, 1, 6, 6)
    assert torch.equal(model(given), given)
    twice = RandomShift(2)
    model = without_dropout(torch.nn.Sequential(twice, torch.nn.Identity(), twice))
    assert torch.equal(model(given), given)


@pytest.mark.parametrize("factor", [255.0, 1 / 255])
def test_images_of_another_size_of_numbers_are_told(factor: float, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).random((120, 8, 8)).astype(np.float32)
    run = nw.train((pictures, np.arange(120) % 3), epochs=1, test=False, observers=[], run_dir=tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for some in (pictures[:50], pictures[:1], np.zeros((1, 8, 8), np.float32)):
            run.predict(some)
    with pytest.warns(nw.FindingWarning, match="array 'X': its numbers are of another size than those of training"):
        nw.load(run.folder).predict(pictures[:60] * factor)


@pytest.mark.parametrize(
    ("shape", "hint"), [((1, 8, 6), "without or with an axis of one"), ((6, 8), "whose axes come in that order")]
)
def test_images_with_other_axes_are_refused_with_what_differs(shape: tuple[int, ...], hint: str, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).random((60, 8, 6)).astype(np.float32)
    run = nw.train((pictures, np.arange(60) % 2), epochs=1, test=False, observers=[], run_dir=tmp_path / "run")
    with pytest.raises(nw.errors.DataError, match=rf"trained on \(8, 6\); give rows of that shape, {hint}"):
        run.predict(pictures.reshape(-1, *shape))


def test_arrays_of_nothing_but_gaps_and_few_numbers_far_off_are_told(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = draw.random(size=(300, 4)).astype(np.float32)
    run = nw.train(
        data=(rows, (rows[:, 0] > 0.5).astype(int)), epochs=1, baselines="none", test=False, run_dir=tmp_path / "run"
    )
    with pytest.warns(nw.FindingWarning, match=r"array 'X': 100% of its numbers are missing \(NaN\)"):
        run.predict_proba(np.full((6, 4), np.nan, dtype=np.float32))
    with pytest.warns(nw.FindingWarning, match=r"of another size than those of training \(about 1e\+06 here"):
        run.predict_proba(np.full((5, 4), 1e6, dtype=np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.predict_proba(rows[:3])
        run.predict_proba(rows[:3] * 20)  # of so few chance may be it
        run.predict_proba(np.where(draw.random((7, 4)) < 0.5, np.nan, rows[:7]).astype(np.float32))
