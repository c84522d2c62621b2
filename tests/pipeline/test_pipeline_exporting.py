"""Exports: what a file predicts is what its run predicts, for every kind of data; what is foreign runs nothing."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import netwright as nw
from netwright.cli import main
from netwright.errors import CheckpointError, ConfigError, DataError, FolderInUseError, SafetyError
from netwright.exporting.programs import RATIO, _normal_quantiles, _places
from netwright.proofs.agreeing import TOLERANCES, difference, verify_export
from netwright.studies.exported import Exported, load_any

ROOT = Path(__file__).parent.parent.parent
MISSING = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
ONNX = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed; pip install 'netwright[onnx]'")
PROGRAMS = ["torch", pytest.param("onnx", marks=ONNX)]
NET = ["Linear(8)", "ReLU()", "Linear()"]
Make = Callable[[Path], tuple[nw.Run, Any]]


def frame(rows: int = 90) -> pd.DataFrame:
    """A table of every kind of column, with missing cells."""
    draw = np.random.default_rng(0)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 900, rows), unit="D")
    found = pd.DataFrame(
        {
            "size": draw.lognormal(size=rows) * 1000,
            "town": draw.choice(["ash", "birch", "ön", "elm, old"], rows),
            "built": days.strftime("%Y-%m-%d"),
            "garden": draw.choice(["yes", "no"], rows),
            "rooms": draw.integers(1, 9, rows).astype(float),
        }
    )
    found.loc[3:9, "size"] = np.nan
    found.loc[5:8, "town"] = None
    found["price"] = found["rooms"] * 30_000 + draw.normal(size=rows)
    found["kind"] = np.where(found["rooms"] > 4, "large", "small")
    found["sold"] = draw.poisson(found["rooms"])
    return found


def table(folder: Path, target: Any, ignore: list[str], **keywords: Any) -> tuple[nw.Run, Any]:
    frame().to_csv(folder / "t.csv", index=False)
    new = frame()
    new.loc[0, "town"] = "never seen"
    new.to_csv(folder / "new.csv", index=False)
    settings = {"target": target, "ignore": ignore, "epochs": 2, "layers": NET, "run_dir": folder / "run"}
    return nw.train(folder / "t.csv", **(settings | keywords)), str(folder / "new.csv")


def embedded(folder: Path) -> tuple[nw.Run, Any]:
    return table(folder, "price", ["kind", "sold"], layers=["EmbedColumns()", *NET])


def hot(folder: Path) -> tuple[nw.Run, Any]:
    return table(folder, "kind", ["price", "sold"], evaluation={"temperature": True})


def ranked(folder: Path) -> tuple[nw.Run, Any]:
    return table(folder, ["price", "rooms"], ["kind", "sold"], preparation={"numbers": "quantile"})


def counts(folder: Path) -> tuple[nw.Run, Any]:
    return table(folder, "sold", ["kind", "price"], loss="PoissonNLLLoss()")


def multilabel(folder: Path) -> tuple[nw.Run, Any]:
    draw = np.random.default_rng(0)
    X = draw.normal(size=(80, 4)).astype(np.float32)
    return nw.train(data=(X, (X[:, :3] > 0).astype(int)), task="multilabel", layers=NET, epochs=1, run_dir=folder / "run"), X


def pictures(folder: Path) -> tuple[nw.Run, Any]:
    draw = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / "photos" / label).mkdir(parents=True)
        for place in range(15):
            Image.fromarray(draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(
                folder / "photos" / label / f"{place}.png"
            )
    return nw.train(folder / "photos", epochs=1, run_dir=folder / "run"), str(folder / "photos")


def ragged_rows() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.normal(size=(int(draw.integers(5, 20)), 2)) for _ in range(60)]


def ragged(folder: Path) -> tuple[nw.Run, Any]:
    rows = ragged_rows()
    labels = np.asarray([float(row[:, 0].mean()) > 0 for row in rows])
    layers = ["Conv1d(8, 3, padding=1)", "ReLU()", "AdaptiveAvgPool1d(1)", "Flatten()", "Linear()"]
    return nw.train(data=(rows, labels), layers=layers, epochs=1, run_dir=folder / "run"), rows


def per_step(folder: Path) -> tuple[nw.Run, Any]:
    rows = ragged_rows()
    labels = [(row[:, 0] > 0).astype(int) for row in rows]
    layers = ["Linear(8)", "MultiheadAttention(num_heads=2)", "Linear()"]
    return nw.train(data=(rows, labels), layers=layers, epochs=1, run_dir=folder / "run"), rows


def series(folder: Path) -> tuple[nw.Run, Any]:
    values = np.sin(np.arange(300) / 7)
    pd.DataFrame({"degrees": values, "wind": values[::-1]}).to_csv(folder / "s.csv", index=False)
    keywords = {"target": "degrees", "window": 12, "horizon": 2, "layers": ["GRU(8)", "LastStep()", "Linear()"]}
    return nw.train(folder / "s.csv", epochs=1, run_dir=folder / "run", **keywords), str(folder / "s.csv")


def words(folder: Path) -> tuple[nw.Run, Any]:
    pd.DataFrame({"review": ["fine day", "bad luck again", "day ø"] * 20, "mood": ["good", "poor", "good"] * 20}).to_csv(
        folder / "r.csv", index=False
    )
    layers = ["Embedding(8)", "MeanOverTime()", "Linear()"]
    return nw.train(folder / "r.csv", target="mood", text="words", layers=layers, epochs=1, run_dir=folder / "run"), str(
        folder / "r.csv"
    )


class TwoInputs(nn.Module):
    """Two inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.left(a) + self.right(b).relu()


def two(folder: Path) -> tuple[nw.Run, Any]:
    draw = np.random.default_rng(0)
    rows = {"a": draw.normal(size=(60, 3)), "b": draw.integers(0, 200, (60, 2)).astype(np.uint8)}
    labels = draw.integers(0, 4, 60)
    return nw.train(model=TwoInputs(), data=(rows, labels), epochs=1, run_dir=folder / "run"), rows


KINDS = [embedded, hot, ranked, counts, multilabel, pictures, ragged, per_step, series, words, two]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Make], tuple[nw.Run, Any]]:
    """Train each kind once."""
    known: dict[str, tuple[nw.Run, Any]] = {}
    threads = torch.get_num_threads()

    def make(kind: Make) -> tuple[nw.Run, Any]:
        if kind.__name__ not in known:
            known[kind.__name__] = kind(tmp_path_factory.mktemp(kind.__name__))
            torch.set_num_threads(threads)
        return known[kind.__name__]

    return make


def near(run: nw.Run, found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Assert that numbers agree, relative to themselves or to the deviation of the target."""
    scale = 1.0 if run.program.outcome.classes else run.program.outcome.decoding.scale.numpy()
    assert found.shape == expected.shape
    assert float((np.abs(found - expected) / np.maximum(np.abs(expected), scale)).max()) <= tolerance


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_bundle_predicts_with_the_bits_of_its_run(kind: Make, made: Any, tmp_path: Path) -> None:
    run, rows = made(kind)
    found = nw.load(nw.export(run, output=tmp_path / "b"), model=TwoInputs() if kind is two else None)
    np.testing.assert_array_equal(found.predict_decoded(rows), run.predict_decoded(rows))
    assert found.predict(rows).tolist() == run.predict(rows).tolist()
    assert found.program.outcome.decoding.temperature == run.program.outcome.decoding.temperature
    if kind is embedded:
        np.testing.assert_array_equal(found.predict_interval(rows, 0.5), run.predict_interval(rows, 0.5))


@pytest.mark.parametrize("format", PROGRAMS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_program_predicts_what_its_run_predicts(kind: Make, format: str, made: Any, tmp_path: Path) -> None:
    run, rows = made(kind)
    found = load_any(nw.export(run, format, tmp_path / "p"), trust=True)
    assert isinstance(found, Exported)
    near(run, found.predict_decoded(rows), run.predict_decoded(rows), TOLERANCES[format])
    guess, expected = found.predict(rows), run.predict(rows)
    if run.program.outcome.classes:
        assert guess.tolist() == expected.tolist()
    if isinstance(rows, list):  # other lengths and another number of rows than the example of the export
        near(run, found.predict_decoded(rows[3:4]), run.predict_decoded(rows[3:4]), TOLERANCES[format])


@pytest.mark.parametrize("format", PROGRAMS)
def test_one_row_and_many_go_through(format: str, made: Any, tmp_path: Path) -> None:
    run, _ = made(multilabel)
    found = load_any(nw.export(run, format, tmp_path / "p"), trust=True)
    X = np.random.default_rng(1).normal(size=(1500, 4))
    near(run, found.predict_decoded(X), run.predict_decoded(X), TOLERANCES[format])
    near(run, found.predict_decoded(X[:1]), run.predict_decoded(X[:1]), TOLERANCES[format])


def test_the_quantiles_without_special_functions_are_those_of_torch() -> None:
    shares = torch.linspace(0.001, 0.999, 5001, dtype=torch.float64)
    torch.testing.assert_close(_normal_quantiles(shares), torch.special.ndtri(shares), rtol=1e-13, atol=1e-14)
    points = torch.sort(torch.rand(3, 50, dtype=torch.float64)).values
    values = torch.cat([torch.rand(3, 20, dtype=torch.float64), points[:, :5]], dim=1)
    assert torch.equal(_places(points, values), torch.searchsorted(points, values))
    assert all(len(part) == 8 for part in RATIO)


@pytest.mark.parametrize("name", ["digits", "diabetes", "sequence", "tutorial", "own_module"])
def test_every_example_is_exported(name: str, tmp_path: Path) -> None:
    code = [ROOT / "examples" / "own_module.py"] if name == "own_module" else []
    run = nw.train(
        ROOT / "examples" / f"{name}.toml", code=code, settings=["training.epochs=1"], run_dir=tmp_path / "run", test=False
    )
    rows = run.config.data.source
    for format in ("bundle", "torch", *(["onnx"] if not MISSING else [])):
        place = nw.export(run, format, tmp_path / format)
        own = sorted((tmp_path / format / "source").glob("*.py"))
        found = load_any(place, trust=True, code=own)
        near(run, found.predict_decoded(rows), run.predict_decoded(rows), TOLERANCES[format])


def test_verify_compares_in_a_new_process_and_says_the_tolerance(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = made(hot)
    with pytest.raises(SystemExit) as ended:
        main(["verify", "export", str(run.folder), "--format", "torch"])
    assert ended.value.code == 0
    assert "as the run for 90 rows; largest difference" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_bundle_holds_where_it_predicts_the_same_bits(made: Any) -> None:
    found = verify_export(made(hot)[0].folder, "bundle", ())
    assert found.held
    assert found.text == "export: bundle: as the run for 90 rows; largest difference 0.0e+00 (the same bits)"


@pytest.mark.usefixtures("here")
def test_a_format_that_a_network_does_not_have_is_left_out_unless_it_was_asked_for(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(run: Any, format: str, output: Path) -> Path:
        if format == "torch":
            raise ConfigError("export: torch.export cannot take this network (a reason); use --format bundle")
        return Path(nw.export(run, format, output))

    monkeypatch.setattr("netwright.proofs.agreeing.export_run", refusing)
    monkeypatch.setattr("netwright.proofs.agreeing.FORMATS", ("bundle", "torch"))
    folder = made(hot)[0].folder
    found = verify_export(folder, None, ())
    assert found.held
    assert (
        "(the same bits); torch: left out, torch.export cannot take this network (a reason); use --format bundle"
        in found.text
    )
    with pytest.raises(ConfigError, match="cannot take this network"):
        verify_export(folder, "torch", ())


@pytest.mark.usefixtures("here")
def test_a_difference_beyond_the_tolerance_does_not_hold(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = made(hot)
    other = nw.load(run.folder)
    with torch.no_grad():
        next(other.model.parameters()).add_(0.1)
    monkeypatch.setattr("netwright.proofs.agreeing.export_run", lambda _, format, output: nw.export(other, format, output))
    with pytest.raises(SystemExit) as ended:
        main(["verify", "export", str(run.folder), "--format", "bundle"])
    assert ended.value.code == 4


def test_labels_may_differ_only_where_two_are_as_likely() -> None:
    expected = {"prediction": ["a", "a"], "probability_a": [0.5000001, 0.9], "probability_b": [0.4999999, 0.1]}
    found = {**expected, "prediction": ["b", "a"]}
    assert difference(expected, found, 1e-6, {}).labels == 0
    assert difference(expected, {**expected, "prediction": ["a", "b"]}, 1e-6, {}).labels == 1
    assert difference(expected, {**expected, "probability_b": [0.4999999, float("nan")]}, 1e-6, {}).largest == float("inf")
    with pytest.raises(CheckpointError, match="columns"):
        difference(expected, {"prediction": ["a", "a"]}, 1e-6, {})


@ONNX
def test_an_onnx_file_predicts_without_torch(made: Any, tmp_path: Path) -> None:
    run, rows = made(embedded)
    file = nw.export(run, "onnx", tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.md").is_file()
    words = ["predict", str(file), rows, "-o", str(tmp_path / "o.parquet")]
    program = (
        "import sys; from netwright.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit as end: print(end.code, *[name for name in ('torch', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert "a category not seen in training" in done.stderr
    found = pd.read_parquet(tmp_path / "o.parquet")["prediction"].to_numpy()
    near(run, found[:, None], run.predict_decoded(rows), TOLERANCES["onnx"])


def test_a_card_bears_the_whole_name_of_its_file_so_that_formats_lie_side_by_side(made: Any, tmp_path: Path) -> None:
    run, _ = made(hot)
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "m.md").write_text("notes of mine")
    nw.export(run, "torch", tmp_path / "m.pt2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.md", "m.onnx", "m.pt2", "m.pt2.md"]
    assert "netwright predict m.pt2" in (tmp_path / "m.pt2.md").read_text(encoding="utf-8")
    with pytest.raises(FolderInUseError, match=r"m\.pt2: exists already"):
        nw.export(run, "torch", tmp_path / "m.pt2")


def test_the_card_tells_task_figures_and_use_and_no_row(made: Any, tmp_path: Path) -> None:
    run, _ = made(hot)
    text = (nw.export(run, output=tmp_path / "b") / "README.md").read_text(encoding="utf-8")
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert "pipeline_tag: tabular-classification" in front
    value = run.tested["metrics"]["accuracy"]["value"] if run.tested else None
    assert f'    - type: "accuracy"\n      value: {value!r}' in front
    assert "classes large, small" in body
    assert "| town | category | 5 |" in body
    assert 'nw.load("b")' in body
    assert "elm, old" not in text


def test_a_bundle_says_not_where_the_data_lay(made: Any, tmp_path: Path) -> None:
    run, _ = made(hot)
    place = nw.export(run, output=tmp_path / "b")
    assert str(run.folder.parent) not in (place / "config.json").read_text(encoding="utf-8")


class Payload:
    """Runs code where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return Path.touch, (self.place,)


def hostile(file: Path, place: Path) -> None:
    """Write a .pt2 archive whose weights are a pickle that touches a file."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/extra/netwright.json", "{}")
        archive.writestr("m/data/sample_inputs/model.pt", pickle.dumps(Payload(place)))


def test_what_a_bundle_has_not_is_told(made: Any, tmp_path: Path) -> None:
    bundle = nw.load(nw.export(made(hot)[0], "bundle", tmp_path / "b"))
    with pytest.raises(
        CheckpointError, match="a bundle came, which does not know where the rows of its run are; expected the run"
    ):
        bundle.test()
    with pytest.raises(CheckpointError, match="a bundle came, which has no history; expected the run"):
        _ = bundle.history


def test_a_program_is_no_run(made: Any, tmp_path: Path) -> None:
    place = nw.export(made(hot)[0], "torch", tmp_path / "p")
    with pytest.raises(
        ConfigError, match="a program came.*netwright predict .* DATA --trust, if it is your own, or load it by torch"
    ):
        nw.load(place)


def test_a_pt2_file_is_not_read_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile(tmp_path / "m.pt2", tmp_path / "touched")
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(tmp_path / "m.pt2"), "sklearn:iris"])
    assert ended.value.code == 8
    assert "--trust" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="no file of netwright export"):  # trusted, but none of ours: not read either
        load_any(tmp_path / "m.pt2", trust=True)
    assert not (tmp_path / "touched").exists()


def test_a_pt2_file_of_another_torch_is_told_in_one_line(made: Any, tmp_path: Path) -> None:
    file = nw.export(made(hot)[0], "torch", tmp_path / "m.pt2")
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(tmp_path / "n.pt2", "w") as other:
        for member in archive.infolist():
            content = archive.read(member)
            spoiled = member.filename.endswith("models/model.json")
            other.writestr(
                member.filename, content.replace(b'"graph_module"', b'"graph_of_next_year"') if spoiled else content
            )
    with pytest.raises(CheckpointError, match="cannot be read by torch .*export it again with this version"):
        load_any(tmp_path / "n.pt2", trust=True)


def damage(place: Path, change: str) -> None:
    """Spoil a bundle."""
    told = json.loads((place / "config.json").read_text())
    if change == "weights":
        content = bytearray((place / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (place / "model.safetensors").write_bytes(content)
        return
    if change == "no weights":
        (place / "model.safetensors").unlink()
        return
    if change == "no json":
        (place / "config.json").write_text("{")
        return
    told |= {"format": "other"} if change == "format" else {}
    if change == "architecture":
        told["settings"]["model"]["layers"][0] = told["settings"]["model"]["layers"][0].replace("8", "9")
    if change == "outside":
        told["files"]["../../secret"] = "sha256:0"
    if change == "program":
        told["program"]["preparation"]["modules"] = {}
    (place / "config.json").write_text(json.dumps(told))


CHANGES = ["weights", "no weights", "no json", "format", "architecture", "outside", "program"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_spoiled_bundle_is_told_in_one_line(
    change: str, made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, rows = made(hot)
    damage(nw.export(run, output=tmp_path / "b"), change)
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(tmp_path / "b"), rows])
    assert ended.value.code == 4
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_own_code_in_a_bundle_runs_only_where_it_is_named(tmp_path: Path) -> None:
    code = tmp_path / "own.py"
    code.write_text(
        "from pathlib import Path\nfrom torch import nn\nPath(__file__).with_suffix('.ran').touch()\n\n\n"
        "class Own(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.one = nn.Linear(4, 3)\n\n"
        "    def forward(self, x):\n        return self.one(x)\n"
    )
    run = nw.train("sklearn:iris", module=f"{code}:Own", code=[code], epochs=1, run_dir=tmp_path / "run", test=False)
    place = nw.export(run, output=tmp_path / "b")
    with pytest.raises(SafetyError, match="--code"):
        nw.load(place)
    assert not (place / "source" / "own.ran").exists()
    found = nw.load(place, code=[place / "source" / "own.py"])
    np.testing.assert_array_equal(found.predict_proba("sklearn:iris"), run.predict_proba("sklearn:iris"))
    (place / "source" / "own.py").write_text(code.read_text() + "\n")
    with pytest.raises(CheckpointError, match="digest"):
        nw.load(place, code=[place / "source" / "own.py"])


def test_wrong_rows_are_told_by_a_program(made: Any, tmp_path: Path) -> None:
    found = load_any(nw.export(made(hot)[0], "torch", tmp_path / "t"), trust=True)
    with pytest.raises(DataError, match="column 'size' is missing"):
        found.predict(frame().drop(columns="size"))
    with pytest.raises(DataError, match=r"float64 of shape \(2, 5\) came; .* the columns 'size'"):
        found.predict(np.zeros((2, 5)))
    with pytest.raises(ConfigError, match="interval"):
        found.predict_file("sklearn:iris", interval=True)
    arrays = load_any(nw.export(made(multilabel)[0], "torch", tmp_path / "m"), trust=True)
    with pytest.raises(DataError, match="rows of shape"):
        arrays.predict(np.zeros((2, 5)))
    with pytest.raises(DataError, match="infinite"):
        arrays.predict(np.full((2, 4), np.inf))
    steps = load_any(nw.export(made(series)[0], "torch", tmp_path / "s"), trust=True)
    with pytest.raises(DataError, match="12|window|steps"):
        steps.predict(frame(4))


@pytest.mark.parametrize("layer", ["GRU(4)", "LSTM(4, bidirectional=True)"])
def test_recurrent_layers_over_sequences_of_different_length_are_exported(layer: str, tmp_path: Path) -> None:
    rows = ragged_rows()
    layers = [layer, "LastStep()", "Linear()"]
    run = nw.train(data=(rows, np.arange(60) % 2), layers=layers, epochs=1, run_dir=tmp_path / "run", test=False)
    found = load_any(nw.export(run, "torch", tmp_path / "t"), trust=True)
    longer = [np.concatenate([row] * 4) for row in rows[:5]]
    for given in (rows, longer):
        assert found.predict(given).tolist() == run.predict(given).tolist()


class Chooses(nn.Module):
    """Chooses by a value what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores."""
        scores: Tensor = self.layer(x if bool(x.mean() > 0) else -x)
        return scores


def test_what_cannot_be_exported_is_told(made: Any, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    run = nw.train(data=(rows, np.arange(60) % 3), model=Chooses(), epochs=1, run_dir=tmp_path / "run", test=False)
    with pytest.raises(ConfigError, match="torch.export cannot take this network .*--format bundle"):
        nw.export(run, "torch", tmp_path / "t")
    assert not (tmp_path / "t").exists()
    with pytest.raises(ConfigError, match="format 'pickle' came"):
        nw.export(run, "pickle")
    for name in ("out.pt", "out.PTH", "out.safetensors"):
        with pytest.raises(
            ConfigError, match=r"is the ending of another kind of file; expected no ending for --format bundle"
        ):
            nw.export(run, output=tmp_path / name)
        assert not (tmp_path / name).exists()
    with pytest.raises(ConfigError, match="ending does not fit"):
        nw.export(run, "torch", tmp_path / "t.onnx")
    nw.export(run, output=tmp_path / "b")
    with pytest.raises(FolderInUseError, match="exists already"):
        nw.export(run, output=tmp_path / "b")


@pytest.mark.skipif(not MISSING, reason="the packages of the extra onnx are installed")
def test_without_its_packages_onnx_says_what_to_install(made: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"netwright\[onnx\]"):
        nw.export(made(hot)[0], "onnx", tmp_path / "o")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"netwright\[onnx\]"):
        load_any(tmp_path / "m.onnx")


@ONNX
def test_a_foreign_onnx_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="cannot be read by onnxruntime"):
        load_any(tmp_path / "m.onnx")
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 2])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None, 2])],
    )  # fmt: skip
    sink = io.BytesIO()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), sink)
    (tmp_path / "n.onnx").write_bytes(sink.getvalue())
    with pytest.raises(CheckpointError, match="tells nothing of its columns"):
        load_any(tmp_path / "n.onnx")
    held = helper.make_tensor("w", TensorProto.DOUBLE, [2], [0.0, 0.0])
    held.ClearField("double_data")
    held.data_location = TensorProto.EXTERNAL
    held.external_data.add(key="location", value="secret.bin")
    (tmp_path / "s.onnx").write_bytes(helper.make_model(helper.make_graph([], "g", [], [], [held])).SerializeToString())
    with pytest.raises(SafetyError, match="other files"):
        load_any(tmp_path / "s.onnx")


@pytest.mark.usefixtures("here")
def test_a_program_of_a_short_precision_is_compared_in_float32(tmp_path: Path) -> None:
    nw.train(
        "sklearn:wine", layers=["Linear(6)", "ReLU()", "Linear()"], precision="bfloat16", epochs=2, run_dir=tmp_path / "r"
    )
    found = verify_export(tmp_path / "r", "torch", ())
    assert found.held
    assert re.search(r"in float32, which is up to [\d.]+e-0\d from the run's own bfloat16; largest difference", found.text)
    assert "float32" not in verify_export(tmp_path / "r", "bundle", ()).text
