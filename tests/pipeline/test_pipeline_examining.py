"""What a test tells beside its figures, for every kind of task; and that telling it changes nothing."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import netwright as nw
from netwright.cli import main
from netwright.errors import CheckpointError, ConfigError
from netwright.evaluation import calibration, thresholds
from netwright.runfolder.folder import read_split


def people(path: Path, rows: int = 400, columns: str = "both") -> str:
    """Write a table with two classes and a number to learn, a category, a group and a missing cell here and there."""
    generator = np.random.default_rng(3)
    age, town = generator.uniform(18, 80, rows), generator.choice(["north", "south", "west"], rows)
    noise = generator.normal(size=rows)
    frame = pd.DataFrame({"age": np.round(age, 1), "town": town, "clinic": [f"c{place % 12}" for place in range(rows)]})
    frame.loc[::29, "age"] = np.nan
    frame["noise"] = np.round(generator.normal(size=rows), 3)
    if columns in ("class", "both"):
        frame["ill"] = np.where(age / 20 + (town == "west") + noise > 3.5, "yes", "no")
    if columns in ("number", "both"):
        frame["cost"] = np.round(age * 10 + 100 * (town == "west") + 30 * noise, 2)
    frame.to_csv(path, index=False)
    return str(path)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that works, and return what it prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


def told_by(run: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "test.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    return found


def test_two_classes_of_a_table_tell_everything(tmp_path: Path) -> None:
    run = nw.train(people(tmp_path / "p.csv", columns="class"), target="ill", epochs=8, run_dir=tmp_path / "run")
    test = told_by(run)
    assert test["n"] == 80
    assert sum(part["n"] for part in test["calibration"]["bins"]) == 80
    assert test["calibration"]["of"] == "class 'yes'"
    assert test["calibration"]["temperature"] is None
    assert [part["class"] for part in test["classes"]] == ["no", "yes"]
    assert test["metrics"]["f1"]["value"] == pytest.approx(test["threshold"]["at_half"]["f1"])
    assert {part["slice"] for part in test["slices"]} == {"north", "south", "west"}
    assert sum(part["n"] for part in test["slices"]) == 80
    assert [entry["column"] for entry in test["importance"]["columns"]][0] == "age"
    assert test["importance"]["n"] == 80
    assert set(test["seconds"]) >= {"importance", "worst"}
    assert "conformal" not in test


def test_the_threshold_is_chosen_on_valid_rows_and_told_on_test_rows(tmp_path: Path) -> None:
    run = nw.train(people(tmp_path / "p.csv", columns="class"), target="ill", epochs=8, run_dir=tmp_path / "run")
    frame, split, told = pd.read_csv(tmp_path / "p.csv"), read_split(run.folder), told_by(run)["threshold"]
    said, ill = run.predict_proba(frame.drop(columns="ill"))[:, 1], (frame["ill"] == "yes").to_numpy()
    assert told["value"] == thresholds.choose_threshold(ill[split.valid], said[split.valid], "f1")
    expected = thresholds.decision_figures(ill[split.test], said[split.test] >= told["value"])
    assert told["metrics"] == pytest.approx(expected)
    assert told["n_valid"] == 80
    guess = run.predict(frame.drop(columns="ill"), threshold=told["value"])
    assert np.array_equal(guess == "yes", said >= told["value"])


def test_predicting_at_a_threshold_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = people(tmp_path / "p.csv", columns="class")
    run = nw.train(path, target="ill", epochs=2, run_dir=tmp_path / "run")
    out = tmp_path / "out.csv"
    command(capsys, "predict", str(run.folder), path, "--threshold", "0.2", "-o", str(out))
    written = pd.read_csv(out)
    assert ((written["prediction"] == "yes") == (written["probability_yes"] >= 0.2)).all()
    assert (written["prediction"] == "yes").sum() > (written["probability_yes"] > 0.5).sum()


@pytest.mark.parametrize("target", ["cost", "town"])
def test_a_threshold_without_two_classes_is_refused(tmp_path: Path, target: str) -> None:
    run = nw.train(people(tmp_path / "p.csv"), target=target, epochs=1, run_dir=tmp_path / "run", test=False)
    with pytest.raises(ConfigError, match="expected two classes"):
        run.predict(str(tmp_path / "p.csv"), threshold=0.3)
    if target == "town":
        with pytest.raises(ConfigError, match="expected numbers; intervals are for a regression"):
            run.predict_interval(str(tmp_path / "p.csv"))


def test_a_threshold_beyond_one_is_refused(tmp_path: Path) -> None:
    run = nw.train(people(tmp_path / "p.csv"), target="ill", epochs=1, run_dir=tmp_path / "run", test=False)
    with pytest.raises(ConfigError, match="threshold 37 came; expected a probability"):
        run.predict_file(str(tmp_path / "p.csv"), threshold=37)


def test_a_temperature_is_fitted_on_valid_rows_kept_and_applied_wherever_the_run_decodes(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", columns="class")
    plain = nw.train(path, target="ill", epochs=5, run_dir=tmp_path / "plain")
    run = nw.train(path, target="ill", epochs=5, run_dir=tmp_path / "run", evaluation={"temperature": True})
    loaded = nw.load(run.folder)
    value, split, frame = run.record["temperature"], read_split(run.folder), pd.read_csv(path)
    said = plain.predict_proba(path)
    logits = calibration.logits_of(said, "sigmoid")
    true = (frame["ill"] == "yes").to_numpy().astype(int)
    assert value == pytest.approx(calibration.fit_temperature(true[split.valid], logits[split.valid]), rel=1e-4)
    expected = 1 / (1 + np.exp(-logits[:, 0] / value))
    for one in (run, loaded):
        np.testing.assert_allclose(one.predict_proba(path)[:, 1], expected, atol=1e-6)
        assert np.array_equal(one.predict(path), plain.predict(path))
    told, before = told_by(run)["calibration"], told_by(plain)["calibration"]
    assert told["temperature"]["value"] == value
    assert told["temperature"]["ece_before"] == pytest.approx(before["ece"], abs=1e-6)
    assert told["temperature"]["loss_before"] == pytest.approx(told_by(plain)["metrics"]["loss"]["value"], rel=1e-5)
    assert told_by(run)["metrics"]["loss"] == told_by(plain)["metrics"]["loss"]
    written = pd.read_csv(run.folder / "predictions.csv")["probability_yes"].to_numpy()
    np.testing.assert_allclose(written, expected[split.test], atol=1e-6)


def test_a_resumed_run_fits_its_temperature_anew(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", columns="class")
    run = nw.train(path, target="ill", epochs=3, run_dir=tmp_path / "run", evaluation={"temperature": True})
    longer = nw.train(path, target="ill", epochs=6, run_dir=tmp_path / "longer", evaluation={"temperature": True})
    resumed = nw.resume(run.folder, settings=["training.epochs=6"])
    assert resumed.record["temperature"] == longer.record["temperature"] != run.record["temperature"]
    assert np.array_equal(nw.load(run.folder).predict_proba(path), longer.predict_proba(path))


def test_a_damaged_temperature_is_refused(tmp_path: Path) -> None:
    run = nw.train("sklearn:iris", epochs=1, run_dir=tmp_path / "run", evaluation={"temperature": True}, test=False)
    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**record, "temperature": -1}))
    with pytest.raises(CheckpointError, match="temperature -1 came"):
        nw.load(run.folder)


@pytest.mark.parametrize(("loss", "note"), [("NLLLoss()", "are no logits"), ("CrossEntropyLoss()", "no valid rows")])
def test_where_no_temperature_can_be_fitted_a_note_says_so(tmp_path: Path, loss: str, note: str) -> None:
    layers = ["Linear(8)", "ReLU()", "Linear()", *(["LogSoftmax(dim=1)"] if loss == "NLLLoss()" else [])]
    split = {"valid": 0} if note == "no valid rows" else {}
    run = nw.train(
        "sklearn:iris",
        loss=loss,
        layers=layers,
        epochs=2,
        split=split,
        run_dir=tmp_path / "run",
        evaluation={"temperature": True},
    )
    assert any(note in text for text in told_by(run)["notes"])
    assert "temperature" not in run.record


def test_intervals_of_a_regression_hold_about_the_share_asked_for(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", rows=2000, columns="number")
    run = nw.train(path, target="cost", epochs=10, run_dir=tmp_path / "run", evaluation={"coverage": 0.8})
    told, split, frame = told_by(run)["conformal"], read_split(run.folder), pd.read_csv(path)
    assert (told["level"], told["calibrated_on"], told["n"]) == (0.8, "valid", 400)
    assert 0.72 < told["coverage"]["value"] < 0.88
    assert told["coverage"]["low"] < told["coverage"]["value"] < told["coverage"]["high"]
    low, high = nw.load(run.folder).predict_interval(path)
    values = run.predict(path)
    np.testing.assert_allclose((high - low) / 2, told["outputs"][0]["half_width"])
    np.testing.assert_allclose((high + low) / 2, values)
    inside = ((frame["cost"] >= low) & (frame["cost"] <= high)).to_numpy()
    assert inside[split.test].mean() == pytest.approx(told["coverage"]["value"])
    errors = np.sort(np.abs(frame["cost"].to_numpy() - values)[split.valid])
    assert told["outputs"][0]["half_width"] == pytest.approx(errors[int(np.ceil(401 * 0.8)) - 1])
    wider = run.predict_interval(path, 0.95)
    assert (wider[1] - wider[0] > high - low).all()
    with pytest.raises(ConfigError, match="coverage 2 came"):
        run.predict_interval(path, 2)
    with pytest.raises(ConfigError, match="400 valid rows came; an interval of 0.999 takes 999"):
        run.predict_interval(path, 0.999)


def test_intervals_from_the_command_line_and_of_several_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(200, 3))
    frame = pd.DataFrame(rows, columns=["a", "b", "c"]).assign(u=rows[:, 0] * 100, v=rows[:, 1])
    frame.to_csv(tmp_path / "t.csv", index=False)
    run = nw.train(str(tmp_path / "t.csv"), target=["u", "v"], epochs=3, run_dir=tmp_path / "run")
    shown = command(capsys, "predict", str(run.folder), str(tmp_path / "t.csv"), "--interval")
    written = list(csv.DictReader(shown.splitlines()))
    widths = {entry["name"]: entry["half_width"] for entry in told_by(run)["conformal"]["outputs"]}
    assert list(written[0]) == [f"{word}_{name}" for word in ("prediction", "low", "high") for name in ("u", "v")]
    for name in ("u", "v"):
        assert float(written[5][f"high_{name}"]) - float(written[5][f"prediction_{name}"]) == pytest.approx(widths[name])
    assert run.predict_interval(frame)[0].shape == (200, 2)
    assert "u " in told_by(run)["worst"][0]["true"]


def test_counts_are_never_below_zero(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(200, 2))
    run = nw.train(
        data=(rows, generator.poisson(np.exp(rows[:, 0])).astype(float)),
        loss="PoissonNLLLoss()", epochs=2, run_dir=tmp_path / "run",
    )  # fmt: skip
    assert run.predict_interval(rows)[0].min() == 0.0


def test_damaged_or_missing_errors_are_told(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", columns="number")
    run = nw.train(path, target="cost", epochs=1, run_dir=tmp_path / "run", test=False)
    content = (run.folder / "errors.npz").read_bytes()
    (run.folder / "errors.npz").write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="errors.npz: cannot be read"):
        run.predict_interval(path)
    (run.folder / "errors.npz").unlink()
    with pytest.raises(ConfigError, match="no errors of valid rows are kept"):
        run.predict_interval(path)
    assert run.test()["conformal"]["n"] == 80  # the valid rows are run through the network again


def test_rows_set_aside_neither_train_nor_choose(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", columns="number")
    given = {"seed": 4, "calibration": 0.25}
    run = nw.train(path, target="cost", epochs=4, run_dir=tmp_path / "run", split=given)
    parts = read_split(run.folder)
    assert (len(parts.train), len(parts.valid), len(parts.test), len(parts.calibration)) == (180, 80, 80, 60)
    assert len(np.unique(np.concatenate([parts.train, parts.valid, parts.test, parts.calibration]))) == 400
    told = told_by(run)["conformal"]
    assert (told["calibrated_on"], told["n"]) == ("calibration", 60)
    assert "neither trained nor chose" in told["remark"]
    assert "60 train rows set aside" in run.record["split"]["how"]
    frame = pd.read_csv(path)
    frame.loc[parts.calibration, ["age", "cost", "noise"]] = 7777.0  # what stands there changes no weight
    frame.to_csv(tmp_path / "other.csv", index=False)
    other = nw.train(str(tmp_path / "other.csv"), target="cost", epochs=4, run_dir=tmp_path / "other", split=given)
    assert np.array_equal(read_split(other.folder).calibration, parts.calibration)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name])
    assert run.history[-1]["valid_loss"] == other.history[-1]["valid_loss"]
    again = nw.train(str(run.folder / "config.toml"), run_dir=tmp_path / "again")
    assert np.array_equal(read_split(again.folder).calibration, parts.calibration)
    assert nw.load(run.folder).test()["conformal"]["outputs"] == told["outputs"]


def test_rows_set_aside_beside_row_numbers_are_found_again(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", columns="number")
    run = nw.train(
        path, target="cost", epochs=1, run_dir=tmp_path / "run", split={"test": list(range(50)), "calibration": 40}
    )
    assert nw.load(run.folder).test()["conformal"]["calibrated_on"] == "calibration"
    again = nw.train(str(run.folder / "config.toml"), run_dir=tmp_path / "again")
    assert read_split(again.folder).digest() == read_split(run.folder).digest()


def test_groups_are_set_aside_whole_and_windows_refuse_it(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", columns="number")
    run = nw.train(path, target="cost", epochs=1, run_dir=tmp_path / "run", split={"group": "clinic", "calibration": 0.3})
    parts, clinic = read_split(run.folder), pd.read_csv(path)["clinic"]
    owners = [set(clinic[rows]) for rows in (parts.train, parts.valid, parts.test, parts.calibration)]
    assert all(owners)
    assert sum(map(len, owners)) == 12
    with pytest.raises(ConfigError, match="windows overlap"):
        nw.train(path, target="cost", window=5, split={"calibration": 0.3}, run_dir=tmp_path / "w")


def test_groups_are_slices_and_widen_intervals(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", rows=800, columns="class")
    run = nw.train(path, target="ill", epochs=2, run_dir=tmp_path / "run", split={"group": "clinic"})
    found = told_by(run)["slices"]
    assert {part["column"] for part in found} == {"town", "clinic"}
    assert all("low" not in part["metrics"]["accuracy"] for part in found)  # 2 or 3 groups say nothing of others


def test_columns_that_are_named_divide_the_rows(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", columns="class")
    run = nw.train(path, target="ill", epochs=1, run_dir=tmp_path / "run", ignore="noise",
                   evaluation={"slices": ["age", "noise", "absent"]})  # fmt: skip
    test = told_by(run)
    columns = [part["column"] for part in test["slices"]]
    assert columns.count("age") == 5  # four quarters and missing ones
    assert columns.count("noise") == 4
    assert any("'absent' is not in the data" in note for note in test["notes"])


@pytest.mark.parametrize("kind", ["digits", "steps", "labels", "windows", "sequences", "channels"])
def test_every_kind_of_rows_tells_what_applies(tmp_path: Path, kind: str) -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(4, 9, 80)
    series = [generator.normal(size=(int(count), 2)) for count in lengths]
    given: dict[str, Any] = {
        "digits": {"config": "sklearn:digits"},
        "steps": {"data": (series, [(part[:, 0] > 0).astype(int) for part in series])},
        "sequences": {"data": (series, [part[:, 0].mean() for part in series])},
        "labels": {"data": (rows := generator.normal(size=(200, 4)), (rows[:, :3] > 0).astype(int))},
        "channels": {"data": (waves := generator.normal(size=(200, 3, 20)), waves[:, 1].mean(axis=1)), "epochs": 8},
        "windows": {"data": pd.DataFrame({"t": np.sin(np.arange(300) / 9)}), "target": "t", "window": 8},
    }[kind]
    run = nw.train(**{"epochs": 1, **given}, run_dir=tmp_path / "run")
    test = told_by(run)
    expected = {
        "digits": {"classes", "calibration", "worst"},
        "steps": {"classes", "calibration", "threshold", "worst"},
        "sequences": {"conformal", "worst"},
        "labels": {"labels", "calibration", "importance", "worst"},
        "channels": {"conformal", "importance", "worst"},
        "windows": {"conformal", "importance", "worst"},
    }[kind]
    told = {"classes", "calibration", "threshold", "conformal", "importance", "worst", "labels"}
    assert set(test) & told == expected
    assert len(test["worst"]) <= 24
    if kind == "digits":
        assert all(entry["image"].startswith("data:image/png;base64,") and entry["saliency"] for entry in test["worst"])
        assert all(entry["true"] != entry["predicted"] for entry in test["worst"])
    if kind == "channels":
        assert test["importance"]["columns"][0]["column"] == "channel 1"
        assert all(entry["image"].startswith("data:image/png;base64,") for entry in test["worst"])
    if kind == "windows":
        worst = test["worst"][0]
        assert worst["true"] == pytest.approx(np.sin(worst["row"] / 9))
        assert "not exchangeable" in test["conformal"]["remark"]


def test_the_worst_rows_are_named_by_their_line_with_their_cells(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", columns="number")
    run = nw.train(path, target="cost", epochs=3, run_dir=tmp_path / "run", evaluation={"worst": 5})
    test, lines = told_by(run), Path(path).read_text().splitlines()
    assert len(test["worst"]) == 5
    sizes = [abs(entry["error"]) for entry in test["worst"]]
    assert sizes == sorted(sizes, reverse=True)
    for entry in test["worst"]:
        name, _, line = entry["where"].rpartition(":")
        cells = dict(zip(lines[0].split(","), lines[int(line) - 1].split(","), strict=True))
        assert name == "p.csv"
        assert int(line) == entry["row"] + 2
        assert float(cells["cost"]) == entry["true"]
        assert {key: str(value or "") for key, value in entry["inputs"].items()} == {
            key: cells[key] for key in entry["inputs"]
        }
    assert list(test["worst"][0]["inputs"])[0] == test["importance"]["columns"][0]["column"]
    assert "cost" not in test["worst"][0]["inputs"]
    none = nw.train(path, target="cost", epochs=1, run_dir=tmp_path / "none", evaluation={"worst": 0, "importance": False})
    assert not {"worst", "importance"} & set(told_by(none))


def test_other_rows_tell_what_needs_no_valid_rows(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv")
    other = str(tmp_path / "other.csv")
    frame = pd.read_csv(path).sample(120, random_state=0)
    frame.assign(age=frame["age"] + 0.1).to_csv(other, index=False)
    run = nw.train(path, target="ill", ignore="cost", epochs=2, run_dir=tmp_path / "run")
    found = nw.load(run.folder).test(other)
    assert found["threshold"]["value"] == told_by(run)["threshold"]["value"]
    assert "n_valid" not in found["threshold"]
    assert {"classes", "calibration", "slices", "importance", "worst"} <= set(found)
    number = nw.train(path, target="cost", ignore="ill", epochs=2, run_dir=tmp_path / "number", test=False)
    assert number.test(other)["conformal"]["n"] == 80


class Drawing(nn.Module):
    """Draws from every generator, counts its calls, and cannot be called with gradients twice."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        noise = torch.rand(()) + float(np.random.rand()) + random.random()
        return self.linear(x.flatten(1)) + 1e-6 * noise


@pytest.mark.parametrize("own", [False, True])
def test_examining_moves_no_generator_no_mode_and_no_weight(tmp_path: Path, own: bool) -> None:
    from netwright.seeding import drawn_from
    from netwright.trained.examining import Tested, examined
    from netwright.trained.known import Known
    from netwright.trained.testing import judge

    given: dict[str, Any] = {"model": Drawing()} if own else {}
    run = nw.train("sklearn:digits", epochs=1, run_dir=tmp_path / "run", test=False, **given)
    assert run.inputs is not None
    known = Known(run.config, run.program, run.task(), run.inputs.raw, run.inputs.target)
    rows = run.inputs.split.test
    verdict = judge(run.folder, known, rows)[1]
    weights = {name: value.clone() for name, value in run.model.state_dict().items() if name != "calls"}
    gradients = [value.grad.clone() for value in run.model.parameters() if value.grad is not None]
    run.model.train()
    torch.manual_seed(5)
    before, threads = drawn_from(), torch.get_num_threads()
    found = examined(Tested(known, rows, verdict, run.inputs.split))
    assert found["worst"]
    assert drawn_from() == before
    assert torch.get_num_threads() == threads
    assert all(part.training for part in run.model.modules())
    assert all(value.grad is None for value in run.model.parameters() if not own)
    assert all(torch.equal(value.grad, kept) for value, kept in zip(run.model.parameters(), gradients, strict=False))
    for name, value in weights.items():
        assert torch.equal(value, run.model.state_dict()[name])


def test_a_test_between_two_halves_of_a_training_changes_no_bit(tmp_path: Path) -> None:
    path = people(tmp_path / "p.csv", columns="class")
    whole = nw.train(path, target="ill", epochs=6, run_dir=tmp_path / "whole", evaluation={"temperature": True})
    half = nw.train(path, target="ill", epochs=3, run_dir=tmp_path / "half", evaluation={"temperature": True})
    half.test()
    resumed = nw.resume(half.folder, settings=["training.epochs=6"])
    bare = nw.train(path, target="ill", epochs=6, run_dir=tmp_path / "bare", test=False)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
        assert torch.equal(value, bare.model.state_dict()[name])


def test_a_network_that_cannot_be_copied_leaves_importance_out(tmp_path: Path) -> None:
    class Uncopied(nn.Linear):
        armed = False

        def __deepcopy__(self, memo: Any) -> Any:
            if Uncopied.armed:
                raise TypeError("no copies")
            found = Uncopied(self.in_features, self.out_features)
            found.load_state_dict(self.state_dict())
            return found

    rows = np.random.default_rng(0).normal(size=(100, 3))
    run = nw.train(model=Uncopied(3, 1), data=(rows, rows[:, 0]), epochs=1, run_dir=tmp_path / "run", test=False)
    Uncopied.armed = True
    found = run.test()
    assert "importance" not in found
    assert any("cannot be copied" in note for note in found["notes"])
    assert found["worst"]


def test_the_terminal_tells_it_in_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = people(tmp_path / "p.csv")
    nw.train(
        path, target="ill", ignore="cost", epochs=12, run_dir=tmp_path / "run", evaluation={"temperature": True}, test=False
    )
    shown = command(capsys, "test", str(tmp_path / "run"))
    for word in ("calibration error", "before temperature", "chosen on valid rows: f1", "most important", "age"):
        assert word in shown
    nw.train(path, target="cost", ignore="ill", epochs=2, run_dir=tmp_path / "number", test=False)
    shown = command(capsys, "test", str(tmp_path / "number"))
    assert "of the test values; 90.0% were asked for" in shown


def test_a_linear_model_beside_a_network_is_linear_in_the_columns(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = generator.lognormal(size=(400, 3))
    table = pd.DataFrame(rows, columns=["a", "b", "c"]).assign(y=rows @ [1.0, 2.0, 3.0] + 0.3 * generator.normal(size=400))
    run = nw.train(table, target="y", epochs=1, run_dir=tmp_path / "run")
    assert run.program.preparation.modules["table"].numbers == "quantile"
    split = np.load(run.folder / "split.npz")
    train, test = rows[split["train"]], rows[split["test"]]
    truth = table["y"].to_numpy()
    plain = make_pipeline(StandardScaler(), Ridge()).fit(train, truth[split["train"]])
    expected = float(np.sqrt(np.mean((plain.predict(test) - truth[split["test"]]) ** 2)))
    assert run.tested["baselines"]["linear"]["metrics"]["rmse"] == pytest.approx(expected, rel=1e-4)
