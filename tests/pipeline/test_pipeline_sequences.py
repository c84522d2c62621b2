"""Sequences, windows and texts from the file to the prediction; what is padded or lies in another part changes nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netwright as nw
from netwright.errors import ConfigError, DataError
from netwright.sources.sequences import Sequences


def ragged(rows: int = 120) -> tuple[list[np.ndarray], np.ndarray]:
    """Return sequences of 5 to 20 steps, and whether their first channel rises."""
    generator = np.random.default_rng(0)
    items, labels = [], generator.integers(0, 2, rows)
    for label in labels:
        length = int(generator.integers(5, 21))
        slope = np.linspace(0, 2 if label else -2, length)
        items.append(np.stack([slope, generator.normal(size=length)], axis=1) + 0.1 * generator.normal(size=(length, 2)))
    return items, labels


def test_sequences_of_different_length_are_learned_and_reloaded(tmp_path: Path) -> None:
    items, labels = ragged()
    run = nw.train(data=(items, labels), epochs=15, optimizer="Adam(lr=0.01)", run_dir=tmp_path / "run")
    assert run.tested is not None
    assert run.tested["metrics"]["accuracy"]["value"] > 0.9
    assert len(run.config.data.rungs or []) == 8
    again = nw.load(tmp_path / "run")
    found = again.predict_decoded(items)
    np.testing.assert_array_equal(found, run.predict_decoded(items))
    alone = np.concatenate([again.predict_decoded([item, item[:2]])[:1] for item in items[:10]])
    np.testing.assert_allclose(found[:10], alone, atol=1e-5)


def test_convolutions_of_different_length_are_learned(tmp_path: Path) -> None:
    items, labels = ragged()
    layers = ["Conv1d(16, 5, padding=2)", "ReLU()", "AdaptiveAvgPool1d(1)", "Flatten()", "Linear()"]
    run = nw.train(data=(items, labels), layers=layers, epochs=15, optimizer="Adam(lr=0.01)", run_dir=tmp_path / "run")
    assert run.config.data.layout == "NCT"
    assert run.tested is not None
    assert run.tested["metrics"]["accuracy"]["value"] > 0.9


def test_padding_refused_by_a_layer_is_told_before_anything_is_written(tmp_path: Path) -> None:
    layers = ["Conv1d(8, 3)", "BatchNorm1d()", "AdaptiveAvgPool1d(1)", "Flatten()", "Linear()"]
    with pytest.raises(ConfigError, match="layer 1 BatchNorm1d.*sequences of different length came"):
        nw.train(data=ragged(), layers=layers, epochs=1, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class MeanOfReal(nn.Module):
    """An own module that reads the lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(2, 1)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            return self.last(x.mean(dim=1))
        return self.last(x.sum(dim=1) / lengths.unsqueeze(1))


class Deaf(nn.Module):
    """An own module that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.mean(dim=1))


def test_an_own_module_gets_the_lengths_or_is_refused(tmp_path: Path) -> None:
    run = nw.train(data=ragged(), model=MeanOfReal(), epochs=1, run_dir=tmp_path / "run")
    items, _ = ragged()
    with torch.no_grad():
        assert run.predict(items).shape == (120,)
    with pytest.raises(ConfigError, match="Deaf.forward has no argument lengths"):
        nw.train(data=ragged(), model=Deaf(), epochs=1, run_dir=tmp_path / "deaf")


def test_a_target_per_step_is_learned_scored_and_predicted_per_step(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    items = [generator.normal(size=(int(length), 1)) for length in generator.integers(3, 15, 150)]
    labels = [(np.cumsum(item[:, 0]) > 0).astype(np.int64) for item in items]
    run = nw.train(data=(items, labels), epochs=20, optimizer="Adam(lr=0.02)", run_dir=tmp_path / "run")
    assert run.tested is not None
    steps = sum(len(items[row]) for row in np.load(tmp_path / "run" / "split.npz")["test"])
    assert run.tested["n"] == steps
    assert run.tested["metrics"]["accuracy"]["value"] > 0.9
    assert run.predict(items[:3]).shape == (sum(len(item) for item in items[:3]),)
    with (tmp_path / "run" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == steps
    assert [row["step"] for row in rows[:3]] == ["0", "1", "2"]


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_padded_steps_do_not_count_in_loss_and_validation(task: str, tmp_path: Path) -> None:
    """The loss of a run with per-step targets equals the mean over all real steps worked out by hand."""
    generator = np.random.default_rng(2)
    items = [generator.normal(size=(int(length), 2)) for length in generator.integers(1, 9, 60)]
    if task == "regression":
        labels = [item[:, :1] * 2 + 1 for item in items]
    else:
        labels = [(item[:, 0] > 0).astype(np.int64) for item in items]
    run = nw.train(
        data=(items, labels), layers=["Linear(4)", "Tanh()", "Linear()"], epochs=1, run_dir=tmp_path / task, preparation="none",
        split={"test": 0.0, "valid": 0.5},
    )  # fmt: skip
    valid = np.load(tmp_path / task / "split.npz")["valid"]
    inputs = torch.from_numpy(np.concatenate([items[row] for row in valid])).float()
    true = torch.from_numpy(np.concatenate([labels[row].reshape(len(items[row]), -1) for row in valid])).float()
    with torch.no_grad():
        output = run.model(inputs.unsqueeze(0))[0]
    loss = nn.functional.mse_loss(output, true) if task == "regression" else (
        nn.functional.binary_cross_entropy_with_logits(output, true)
    )  # fmt: skip
    assert run.history[-1]["valid_loss"] == pytest.approx(float(loss), rel=1e-5)


def series(path: Path, rows: int = 300) -> Path:
    generator = np.random.default_rng(3)
    values = np.sin(np.arange(rows) / 5) * 3 + generator.normal(size=rows) * 0.1 + 10
    lines = [f"{place},{value:.6f},{place % 7}" for place, value in enumerate(values)]
    path.write_text("t,y,x\n" + "\n".join(lines) + "\n")
    return path


def test_windows_are_split_by_time_and_never_cross_the_split(tmp_path: Path) -> None:
    path = series(tmp_path / "s.csv")
    run = nw.train(
        str(path),
        target="y",
        ignore=["t"],
        window=12,
        horizon=3,
        split={"test": 60, "valid": 40},
        epochs=2,
        run_dir=tmp_path / "r",
    )
    assert run.inputs is not None
    raw, split = run.inputs.raw, run.inputs.split
    assert isinstance(raw, Sequences)
    borders = {"train": (0, 200), "valid": (200, 240), "test": (240, 300)}
    for part, (first, end) in borders.items():
        starts = raw.starts[getattr(split, part)]
        assert starts.min() == first
        assert starts.max() + 12 - 1 + 3 == end - 1
        assert len(starts) == end - first - 12 - 3 + 1
    values = np.loadtxt(path, delimiter=",", skiprows=1)[:, 1]
    np.testing.assert_allclose(run.inputs.target.values[:, 0], values[raw.starts + 14])
    np.testing.assert_allclose(run.program.preparation.modules["table"].mean[0], values[: 200 - 3].mean(), atol=0.05)


def test_nothing_of_valid_and_test_steps_is_in_the_preparation(tmp_path: Path) -> None:
    path = series(tmp_path / "s.csv")
    text = path.read_text().splitlines()
    changed = [line if place <= 200 else line.replace(",1", ",9") for place, line in enumerate(text)]
    other = tmp_path / "o.csv"
    other.write_text("\n".join(changed) + "\n")
    settings: dict[str, object] = {
        "target": "y",
        "ignore": ["t"],
        "window": 12,
        "split": {"test": 60, "valid": 40},
        "epochs": 1,
    }
    runs = [nw.train(str(file), run_dir=tmp_path / file.stem, **settings) for file in (path, other)]
    first, second = (run.program.preparation.modules.state_dict() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_forecast_is_told_beside_persistence_and_predicts_the_step_to_come(tmp_path: Path) -> None:
    path = series(tmp_path / "s.csv")
    run = nw.train(str(path), target="y", ignore=["t", "x"], window=12, epochs=30, run_dir=tmp_path / "r", batch_size=16)
    assert run.tested is not None
    values = np.loadtxt(path, delimiter=",", skiprows=1)[:, 1]
    test = np.load(tmp_path / "r" / "split.npz")["test"]
    starts = run.inputs.raw.starts[test]  # type: ignore[union-attr]
    persistence = np.sqrt(np.mean((values[starts + 12] - values[starts + 11]) ** 2))
    assert run.tested["baselines"]["persistence"]["metrics"]["rmse"] == pytest.approx(persistence)
    assert run.tested["metrics"]["rmse"]["value"] < persistence
    assert "the last value" in (tmp_path / "r" / "report.html").read_text()
    new = tmp_path / "new.csv"
    new.write_text("\n".join(path.read_text().splitlines()[:21]) + "\n")
    table = nw.load(tmp_path / "r").prediction_table(str(new))
    assert list(table["row"]) == list(range(12, 21))  # the last one is not in the file yet
    np.testing.assert_allclose(table["prediction"], values[12:21], atol=1.5)
    other = series(tmp_path / "other.csv", 90)
    assert nw.load(tmp_path / "r").test(str(other))["n"] == 90 - 12


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": 70}, "60 valid steps hold no window of 70 steps"),
        ({"window": 12, "horizon": 60}, "hold no window of 12 steps with its target 60 later"),
    ],
)
def test_a_part_too_short_for_a_window_is_told(settings: dict[str, int], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        nw.train(
            str(series(tmp_path / "s.csv")), target="y", split={"test": 60}, epochs=1, run_dir=tmp_path / "r", **settings
        )
    assert not (tmp_path / "r").exists()


def test_time_that_runs_backwards_is_refused_with_its_line(tmp_path: Path) -> None:
    path = series(tmp_path / "s.csv")
    lines = path.read_text().splitlines()
    lines[100], lines[101] = lines[101], lines[100]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"s.csv:102: data.split.time: 't' is earlier than one line above"):
        nw.train(str(path), target="y", window=5, split={"time": "t"}, epochs=1, run_dir=tmp_path / "r")


def test_time_of_arrays_that_runs_backwards_is_refused_with_its_row(tmp_path: Path) -> None:
    times = np.arange(200.0)
    values = {"X": np.sin(times)[:, None], "y": np.cos(times)}
    np.savez(tmp_path / "s.npz", **values, t=times)
    settings: dict[str, Any] = {"target": "y", "window": 5, "split": {"time": "t"}, "epochs": 1}
    run = nw.train(str(tmp_path / "s.npz"), run_dir=tmp_path / "r", **settings)
    assert len(run.predict(values["X"])) == 196  # rows to predict have no times
    times[[50, 51]] = times[[51, 50]]
    np.savez(tmp_path / "o.npz", **values, t=times)
    with pytest.raises(
        DataError, match=r"o.npz: row 52: data.split.time: 't' is earlier than in the row above; .*sort the rows"
    ):
        nw.train(str(tmp_path / "o.npz"), run_dir=tmp_path / "o", **settings)


def test_windows_end_where_the_group_changes_that_divides_them(tmp_path: Path) -> None:
    shops, days = np.repeat(np.arange(30), 8), np.tile(np.arange(8.0), 30)
    values = days + 100 * shops
    for name, rows in (("s", 240), ("new", 40)):
        lines = [f"m{a} ,{b}\n" for a, b in zip(shops[:rows], values[:rows], strict=True)]
        (tmp_path / f"{name}.csv").write_text("shop,y\n" + "".join(lines))
        np.savez(tmp_path / f"{name}.npz", X=values[:rows, None], y=values[:rows], shop=shops[:rows])
    settings: dict[str, Any] = {"target": "y", "window": 4, "split": {"group": "shop"}, "epochs": 1}
    told: list[str] = []
    for form in ("csv", "npz"):
        source, new, folder = str(tmp_path / f"s.{form}"), str(tmp_path / f"new.{form}"), tmp_path / form
        run = nw.train(source, run_dir=folder, observers=[lambda line: told.append(str(line))], **settings)
        assert run.inputs is not None
        starts = run.inputs.raw.starts  # type: ignore[union-attr]
        assert len(starts) == 30 * 4
        assert (starts // 8 == (starts + 4) // 8).all()
        for part in (run.inputs.split.train, run.inputs.split.valid, run.inputs.split.test):
            assert len(part) % 4 == 0
        assert len(run.predict(new)) == 5 * 5
        assert run.test(new)["n"] == 5 * 4
        assert len(nw.load(nw.export(folder)).predict(new)) == 5 * 5
    assert sum("windows end where data.split.group, 'shop', changes" in line for line in told) == 2
    mixed = np.argsort(days, kind="stable")
    np.savez(tmp_path / "mixed.npz", X=values[mixed, None], y=values[mixed], shop=shops[mixed])
    with pytest.raises(DataError, match="hold no window of 4 steps .*sort the rows by data.split.group"):
        nw.train(str(tmp_path / "mixed.npz"), run_dir=tmp_path / "m", **settings)


def test_windows_of_several_series_stay_in_their_series(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    lines = [f"{shop},{day},{day * (shop + 1)}" for shop in range(4) for day in range(40)]
    path.write_text("shop,day,y\n" + "\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match="several series came"):
        nw.train(str(path), target="y", sequences="shop", window=5, epochs=1, run_dir=tmp_path / "no")
    run = nw.train(
        str(path), target="y", sequences="shop", window=5, split={"time": "day"}, epochs=1, run_dir=tmp_path / "r"
    )
    assert run.inputs is not None
    assert isinstance(run.inputs.raw, Sequences)
    assert ((run.inputs.raw.starts // 40) == ((run.inputs.raw.starts + 5) // 40)).all()
    grouped = nw.train(
        str(path), target="y", sequences="shop", window=5, split={"group": "shop"}, epochs=1, run_dir=tmp_path / "g"
    )
    assert grouped.inputs is not None
    parts = [set((grouped.inputs.raw.starts[part] // 40).tolist()) for part in  # type: ignore[union-attr]
             (grouped.inputs.split.train, grouped.inputs.split.valid, grouped.inputs.split.test)]  # fmt: skip
    assert len(set.union(*parts)) == sum(len(part) for part in parts)


TEXT = "the quick brown fox jumps over the lazy dog. " * 60


def test_the_next_character_of_a_text_is_learned_with_a_vocabulary_of_train_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text(TEXT + "ZZZZ ZZZZ ZZZZ ZZZZ ZZZZ " * 20)
    run = nw.train(
        str(path), text="characters", window=20, epochs=25, optimizer="Adam(lr=0.01)", split={"test": 520, "valid": 300},
        run_dir=tmp_path / "r", layers=["Embedding(16)", "GRU(32)", "Linear()"],
    )  # fmt: skip
    vocabulary = run.program.preparation.steps.vocabulary  # type: ignore[union-attr]
    assert vocabulary is not None
    assert "Z" not in vocabulary
    assert run.history[-1]["valid_accuracy"] > 0.9
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("the quick brown fo")
    table = nw.load(tmp_path / "r").prediction_table(str(prompt))
    assert table["prediction"][-1] == "x"
    assert len(table["prediction"]) == 18


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_a_column_of_text_is_classified(kind: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    words = {"good": ["fine", "great", "happy"], "bad": ["awful", "poor", "sad"]}
    lines = []
    for place in range(200):
        label = ("good", "bad")[place % 2]
        fill = generator.choice(["it", "was", "a", "day", "of", "rain"], int(generator.integers(1, 6))).tolist()
        lines.append(f'"{" ".join([*fill, str(generator.choice(words[label])), *fill[:2]])}",{label}')
    path = tmp_path / "t.csv"
    path.write_text("review,mood\n" + "\n".join(lines) + "\n")
    run = nw.train(
        str(path), target="mood", text=kind, epochs=20, optimizer="Adam(lr=0.01)", batch_size=16, run_dir=tmp_path / "r"
    )
    assert run.tested is not None
    assert run.tested["metrics"]["accuracy"]["value"] > 0.9
    new = tmp_path / "new.csv"
    new.write_text('review\n"it was great"\n"sad day"\n')
    assert nw.load(tmp_path / "r").predict(str(new)).tolist() == ["good", "bad"]


def test_a_test_file_of_texts_gives_the_same_figures_beside_train_as_alone(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    moods, kinds = {"neg": ["bad", "awful"], "pos": ["good", "fine"]}, ("neg", "pos")
    for name, rows, fill in (("train", 200, ["film", "the", "plot"]), ("test", 60, ["the", "plot", "film", "the", "an"])):
        lines = []
        for row in range(rows):
            words = [generator.choice(moods[kinds[row % 2]]), *generator.choice(fill, 3)]
            lines.append(f"{' '.join(map(str, generator.permutation(words)))},{kinds[row % 2]}\n")
        (tmp_path / f"{name}.csv").write_text("text,target\n" + "".join(lines))
    files = {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
    run = nw.train(data=files, text="words", target="target", epochs=12, batch_size=16, optimizer="Adam(lr=0.01)",
                   run_dir=tmp_path / "r")  # fmt: skip
    assert run.tested is not None
    assert run.tested["metrics"]["accuracy"]["value"] > 0.8
    assert run.test(files["test"])["metrics"]["accuracy"]["value"] == run.tested["metrics"]["accuracy"]["value"]


def test_new_rows_are_labelled_per_step_or_per_sequence_as_those_of_training(tmp_path: Path) -> None:
    for name, changes in (("constant", False), ("changing", True)):
        lines = []
        for sequence in range(40):
            for step in range(4):
                label = (sequence + (changes and step > 1)) % 2
                lines.append(f"{name}{sequence},{label + 0.01 * step},{'uv'[label]}\n")
        (tmp_path / f"{name}.csv").write_text("id,x,y\n" + "".join(lines))
    constant, changing = (str(tmp_path / f"{name}.csv") for name in ("constant", "changing"))
    settings = {"sequences": "id", "target": "y", "epochs": 1}
    run = nw.train(data={"train": constant, "test": changing}, **settings, run_dir=tmp_path / "both")
    assert run.tested is not None
    assert run.tested["n"] == 160
    run = nw.train(changing, **settings, run_dir=tmp_path / "changing")
    assert run.test(constant)["n"] == 160
    run = nw.train(constant, **settings, run_dir=tmp_path / "constant")
    with pytest.raises(
        DataError, match=r"changing.csv: target 'y' came per step and changes inside a sequence; expected one"
    ):
        run.test(changing)


def test_a_file_per_sequence_is_found_by_its_pattern_and_joined_with_a_table(tmp_path: Path) -> None:
    items, labels = ragged(60)
    (tmp_path / "steps").mkdir()
    for place, item in enumerate(items):
        np.savetxt(tmp_path / "steps" / f"s_{place}.csv", item, delimiter=",", header="a,b", comments="")
    (tmp_path / "labels.csv").write_text(
        "id,kind\n" + "".join(f"{p},{'up' if y else 'down'}\n" for p, y in enumerate(labels))
    )
    (tmp_path / "sites.csv").write_text("site,id\n" + "".join(f"{'xyz'[p % 3]},{p}\n" for p in reversed(range(60))))
    run = nw.train(
        str(tmp_path / "labels.csv"), target="kind", sequences="steps/s_{id}.csv", join=str(tmp_path / "sites.csv"),
        split={"group": "site"}, epochs=2, run_dir=tmp_path / "r",
    )  # fmt: skip
    assert run.inputs is not None
    parts = [{row % 3 for row in part.tolist()} for part in (run.inputs.split.train, run.inputs.split.test)]
    assert not parts[0] & parts[1]
    assert run.record["data"]["rows"] == 60
    (tmp_path / "steps" / "s_7.csv").unlink()
    with pytest.raises(DataError, match=r"labels.csv:9: data.sequences: .*s_7.csv: no such file"):
        nw.train(str(tmp_path / "labels.csv"), target="kind", sequences="steps/s_{id}.csv", epochs=1, run_dir=tmp_path / "q")


def test_a_ts_file_is_a_set_of_series_for_any_first_layer(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, count in (("TRAIN", 40), ("TEST", 20)):
        lines = []
        for place in range(count):
            values = np.sin(np.arange(16) * (0.3 if place % 2 else 0.9)) + 0.1 * generator.normal(size=16)
            lines.append(",".join(f"{value:.4f}" for value in values) + f":{place % 2 + 1}")
        (tmp_path / f"{name}.ts").write_text("@timestamps false\n@classLabel true 1 2\n@data\n" + "\n".join(lines) + "\n")
    for first in (["Conv1d(8, 3)", "ReLU()", "AdaptiveAvgPool1d(1)", "Flatten()"], ["LSTM(8)", "LastStep()"]):
        run = nw.train(
            data={"train": str(tmp_path / "TRAIN.ts"), "test": str(tmp_path / "TEST.ts")}, split={"valid": 8}, epochs=30,
            layers=[*first, "Linear()"], optimizer="Adam(lr=0.02)", batch_size=8, run_dir=tmp_path / first[0][:4],
        )  # fmt: skip
        assert run.tested is not None
        assert run.tested["metrics"]["accuracy"]["value"] > 0.9
        assert run.predict(str(tmp_path / "TEST.ts")).tolist() == [place % 2 + 1 for place in range(20)]


def test_a_run_on_sequences_is_told_and_tested_again(tmp_path: Path) -> None:
    path = series(tmp_path / "s.csv")
    told: list[object] = []
    run = nw.train(str(path), target="y", window=12, epochs=1, run_dir=tmp_path / "r", observers=[told.append])
    assert "each row: 12 steps; the target lies 1 later" in "\n".join(map(str, told))
    first = run.tested
    again = nw.load(tmp_path / "r").test()
    assert first is not None
    assert again["metrics"] == first["metrics"]
    assert again["looks"] == first["looks"] + 1
    assert json.loads((tmp_path / "r" / "run.json").read_text())["data"]["shape"] == [12, 2]


def whole_numbers(rows: int = 40) -> tuple[list[np.ndarray], np.ndarray]:
    """Return sequences of one whole number a step, and classes."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 5, int(length)) for length in generator.integers(3, 9, rows)], np.arange(rows) % 2


def test_sequences_of_whole_numbers_are_codes_of_an_embedding(tmp_path: Path) -> None:
    items, labels = whole_numbers()
    run = nw.train(data=(items, labels), epochs=1, run_dir=tmp_path / "run")
    layers = run.config.model.layers or []
    assert [str(layer).partition("(")[0] for layer in layers] == ["Embedding", "GRU", "LastStep", "Linear"]
    assert run.inputs is not None
    assert "sequences of whole numbers are read as 5 codes; hand over floats where they are amounts" in run.inputs.notes
    found = nw.load(tmp_path / "run").predict_decoded(items)
    np.testing.assert_array_equal(found, run.predict_decoded(items))


def test_whole_numbers_below_zero_are_no_codes_and_the_way_out_is_said(tmp_path: Path) -> None:
    items, labels = whole_numbers()
    items[3][1] = -3
    told = r"^data: sequence 4, step 2 of \d: array '\w+' holds the code -3; .*; mend it or hand over floats where they are amounts"
    with pytest.raises(DataError, match=told):
        nw.train(data=(items, labels), epochs=1, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("layer", ["Linear(8)", "GRU(8)", "LayerNorm()", "Conv1d(8, 3)"])
def test_layers_that_read_numbers_are_told_of_whole_ones(layer: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one whole number per step; put Embedding\(...\) first, or hand over floats"):
        nw.train(data=whole_numbers(), layers=[layer, "LastStep()", "Linear()"], run_dir=tmp_path / "run")


@pytest.mark.parametrize("order", ["shuffled", "newest first"])
def test_windows_of_a_table_with_one_column_of_dates_are_in_its_order(order: str, tmp_path: Path) -> None:
    days = np.datetime64("2024-01-01") + np.arange(200)
    rows = np.random.default_rng(0).permutation(200) if order == "shuffled" else np.arange(200)[::-1]
    lines = [f"{day},{place % 7}" for place, day in enumerate(days)]
    (tmp_path / "old.csv").write_text("day,sales\n" + "\n".join(lines) + "\n")
    (tmp_path / "new.csv").write_text("day,sales\n" + "\n".join(lines[row] for row in rows) + "\n")
    settings = {"target": "sales", "window": 7, "epochs": 1, "test": False}
    nw.train(tmp_path / "old.csv", **settings, run_dir=tmp_path / "run")
    with pytest.raises(
        DataError, match=r"new.csv:\d+: column 'day' is earlier than one line above; .*sort the file"
    ) as refused:
        nw.train(tmp_path / "new.csv", **settings, run_dir=tmp_path / "other")
    assert 'data.ignore = ["day"]' in str(refused.value)
    assert not (tmp_path / "other").exists()
    nw.train(tmp_path / "new.csv", **settings, ignore=["day"], run_dir=tmp_path / "third")


def days_file(path: Path, days: Any, stores: Any = None) -> Path:
    stores = ["a"] * len(days) if stores is None else stores
    lines = [f"{day},{store},{place % 7}" for place, (day, store) in enumerate(zip(days, stores, strict=True))]
    path.write_text("day,store,sales\n" + "\n".join(lines) + "\n")
    return path


DAYS = np.datetime64("2024-01-01") + np.arange(280)
# the days of a file, what is told of them
TIMES: dict[str, tuple[Any, str]] = {
    "every day": (DAYS, ""),
    "working days": (DAYS[np.arange(280) % 7 < 5], ""),
    "months": (np.arange("2001-01", "2019-01", dtype="datetime64[M]").astype("datetime64[D]"), ""),
    "two months lost": (
        DAYS[(np.arange(280) < 100) | (np.arange(280) > 160)],
        "1 gap between steps, the longest before rows.csv:102 (62 times the usual step); windows go on",
    ),
    "two days lost": (
        np.delete(DAYS, [50, 150]), "2 gaps between steps, the longest before rows.csv:52 (2 times the usual step)",
    ),
    "some days twice": (
        np.sort(np.concatenate([DAYS, DAYS[:10]])), "10 steps came at the time of the step above; windows take each for",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TIMES)
def test_steps_that_are_missing_and_times_that_come_twice_are_told(name: str, tmp_path: Path) -> None:
    days, words = TIMES[name]
    told: list[str] = []
    path = days_file(tmp_path / "rows.csv", days)
    nw.train(path, target="sales", window=7, epochs=1, test=False, ignore="store", run_dir=tmp_path / "run",
             observers=[lambda record: told.append(str(record))])  # fmt: skip
    found = [line for line in told if "column 'day'" in line and "steps" in line]
    assert (found == []) if not words else (len(found) == 1 and words in found[0])


def test_series_side_by_side_are_told_and_one_below_the_other_taken(tmp_path: Path) -> None:
    told: list[str] = []
    observers = [lambda record: told.append(str(record))]
    settings = {"target": "sales", "window": 7, "epochs": 1, "test": False, "observers": observers}
    beside = days_file(tmp_path / "beside.csv", np.repeat(DAYS, 2), ["a", "b"] * 280)
    nw.train(beside, **settings, run_dir=tmp_path / "beside")
    (note,) = [line for line in told if "each time comes 2 times; if these are several series" in line]
    assert note.startswith("note: column 'day'")
    assert "data.sequences and set data.split.time" in note
    told.clear()
    below = days_file(tmp_path / "below.csv", np.tile(DAYS, 2), np.repeat(["a", "b"], 280))
    nw.train(below, **settings, sequences="store", split={"time": "day"}, run_dir=tmp_path / "run")
    assert [line for line in told if "each time comes" in line] == []


def test_whether_to_test_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"test: 'rows.csv' came; expected True or False, .*data=\{'train': ..., 'test': ...\}"
    ):
        nw.train("sklearn:iris", test="rows.csv", run_dir=tmp_path / "run")  # type: ignore[arg-type]
