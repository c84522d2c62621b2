"""From settings to a split: what contradicts is refused, what is ambiguous is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import netwright as nw
from netwright.errors import ConfigError, DataError

HEAD = "site,day,a,y\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = [
        f"{'abcde'[place % 5]}{' ' if place % 10 == 3 else ''},2024-01-{place % 28 + 1:02d},{place * 0.5},{place % 2}"
        for place in range(100)
    ]
    path = tmp_path / "t.csv"
    path.write_text(HEAD + "\n".join(lines) + "\n")
    return path


def trained(table: Path, **split: object) -> nw.Run:
    return nw.train(str(table), target="y", split=split, layers=["Linear()"], epochs=1, run_dir=table.parent / "run")


def parts(run: nw.Run) -> list[np.ndarray]:
    with np.load(run.folder / "split.npz") as found:
        return [found[name] for name in ("train", "valid", "test")]


def test_groups_never_part_even_where_they_are_written_with_spaces(table: Path) -> None:
    sites = [line.split(",")[0].strip() for line in table.read_text().splitlines()[1:]]
    found = [{sites[row] for row in part} for part in parts(trained(table, group="site"))]
    assert found[0] & found[1] == found[0] & found[2] == found[1] & found[2] == set()
    assert found[0] | found[1] | found[2] == set("abcde")


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_groups_are_named_by_whole_numbers_of_any_size(kind: pa.DataType, tmp_path: Path) -> None:
    groups = 2**62 + np.arange(100) // 5
    columns = {"g": pa.array(groups).cast(kind), "x": np.arange(100) % 7 + 0.5, "y": np.arange(100) % 2}
    pa.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = [set(groups[part].tolist()) for part in parts(trained(tmp_path / "t.parquet", group="g"))]
    assert sum(map(len, found)) == len(set.union(*found)) == 20


def test_time_never_runs_backwards(table: Path) -> None:
    days = np.asarray([line.split(",")[1] for line in table.read_text().splitlines()[1:]])
    train, valid, test = parts(trained(table, time="day"))
    assert max(days[train]) < min(days[valid])
    assert max(days[valid]) < min(days[test])


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"group": "site", "time": "day"}, "group and time came together"),
        ({"group": "site", "stratify": True}, "group and stratify came together"),
        ({"time": "day", "stratify": True}, "time and stratify came together"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(split: dict[str, object], words: str, table: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        trained(table, **split)


@pytest.mark.parametrize(("cell", "setting"), [("", "time"), ("", "group"), ("1/28/2024", "time")])
def test_a_missing_group_or_time_names_its_row(cell: str, setting: str, table: Path) -> None:
    lines = table.read_text().splitlines()
    site, day, rest = lines[8].split(",", 2)
    lines[8] = ",".join([cell, day, rest] if setting == "group" else [site, cell, rest])
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"t.csv:9: "):
        trained(table, **{setting: "site" if setting == "group" else "day"})


def test_the_split_of_another_run_is_used_by_naming_its_file(table: Path) -> None:
    first = trained(table, seed=4)
    again = nw.train(
        str(table), target="y", split={"file": str(first.folder / "split.npz")}, layers=["Linear()"], epochs=1,
        run_dir=table.parent / "again",
    )  # fmt: skip
    assert all(np.array_equal(one, other) for one, other in zip(parts(first), parts(again), strict=True))
    np.savez(table.parent / "odd.npz", train_0=np.arange(9))
    with pytest.raises(ConfigError, match=r"data.split.file: it holds train_0; expected train, valid and test"):
        nw.train(str(table), target="y", split={"file": str(table.parent / "odd.npz")}, run_dir=table.parent / "odd")


def test_the_runs_own_rows_are_no_new_test(table: Path) -> None:
    run = trained(table)
    with pytest.raises(ConfigError, match="it was trained on 60 of them"):
        run.test(table)


@pytest.mark.parametrize(
    ("layers", "layout"), [(["GRU(4)", "LastStep()", "Linear()"], "NTC"), (["Conv1d(4, 3)", "Flatten()", "Linear()"], "NCT")]
)
def test_the_first_layer_tells_what_the_axes_of_a_sequence_mean(layers: list[str], layout: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(60, 12, 3)) * [1, 1, 1e6] if layout == "NTC" else generator.normal(size=(60, 3, 12))
    y = generator.integers(0, 2, 60)
    run = nw.train(data=(X, y), layers=layers, epochs=1, run_dir=tmp_path / "run")
    assert run.config.data.layout == layout
    prepared = run.program.preparation.prepare(run.inputs.raw)["X"]  # type: ignore[union-attr]
    axis = layout.index("C")
    deviations = prepared.movedim(axis, 0).flatten(1).std(dim=1)
    assert bool(((deviations > 0.8) & (deviations < 1.2)).all())


def test_a_guess_about_axes_is_told_and_written_down(tmp_path: Path) -> None:
    told: list[str] = []
    X, y = np.random.default_rng(0).normal(size=(60, 20, 4)), np.arange(60) % 2
    run = nw.train(data=(X, y), epochs=1, run_dir=tmp_path / "a", observers=[lambda record: told.append(str(record))])
    assert (
        "note: the axes (N, 20, 4) are read as (N, time, features) = NTC; set data.layout if they mean something else"
        in told
    )
    named = nw.train(data=(X, y), epochs=1, run_dir=tmp_path / "b", layout="NTC")
    assert run.config.data.layout == "NTC"
    assert run.history[0]["train_loss"] == named.history[0]["train_loss"]
    images = np.random.default_rng(0).integers(0, 255, size=(40, 8, 8, 3)).astype(np.uint8)
    nw.train(data=(images, y[:40]), epochs=1, run_dir=tmp_path / "c", observers=[lambda record: told.append(str(record))])
    assert any('set data.layout = "NHWC"' in line for line in told)


def test_many_whole_numbers_are_a_quantity_and_it_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    X = np.random.default_rng(0).normal(size=(80, 3))
    y = np.arange(80) % 25
    nw.train(
        data=(X, y), epochs=1, layers=["Linear()"], run_dir=tmp_path / "a", observers=[lambda line: told.append(str(line))]
    )
    assert any("holds 25 different whole numbers and is read as a quantity" in line for line in told)


def test_a_list_beside_a_group_holds_values_of_the_group(table: Path) -> None:
    sites = [line.split(",")[0].strip() for line in table.read_text().splitlines()[1:]]
    run = trained(table, group="site", test=["e"], valid=["a", "d"])
    found = [{sites[row] for row in part} for part in parts(run)]
    assert found == [{"b", "c"}, {"a", "d"}, {"e"}]
    rest = parts(nw.train(str(run.folder / "config.toml"), run_dir=table.parent / "again"))
    assert all(np.array_equal(*pair) for pair in zip(rest, parts(run), strict=True))


@pytest.mark.parametrize("named", [{}, {"train": "train"}])
def test_rows_named_for_calibration_are_in_no_part_that_is_divided_by_chance(named: dict[str, str], table: Path) -> None:
    rows = {"train": np.arange(60), "test": np.arange(80, 100), "calibration": np.arange(30, 60)}
    np.savez(table.parent / "parts.npz", **rows)
    file = str(table.parent / "parts.npz")
    run = trained(table, file=file, test="test", calibration="calibration", valid=0.3, **named)
    with np.load(run.folder / "split.npz") as found:
        assert found["calibration"].tolist() == rows["calibration"].tolist()
        free = np.concatenate([found["train"], found["valid"]])
        assert sorted(free.tolist()) == [*range(30), *(range(60, 80) if not named else ())]
        assert len(found["valid"]) == round(0.3 * len(free))


def test_the_rest_of_the_groups_is_divided_by_group(table: Path) -> None:
    sites = [line.split(",")[0].strip() for line in table.read_text().splitlines()[1:]]
    train, valid, test = ({sites[row] for row in part} for part in parts(trained(table, group="site", test=["e"])))
    assert test == {"e"}
    assert not train & valid
    assert train | valid == set("abcd")


def test_a_gap_leaves_rows_between_the_parts_out(table: Path) -> None:
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(f"{line.split(',')[0]},2024-{place // 28 + 1:02d}-{place % 28 + 1:02d},1.5,{place % 2}" for place, line in enumerate(lines[1:]))]) + "\n")  # fmt: skip  # noqa: E501
    train, valid, test = parts(trained(table, time="day", test=20, valid=20, gap=3))
    assert (train.tolist(), valid.tolist(), test.tolist()) == ([*range(54)], [*range(57, 77)], [*range(80, 100)])


@pytest.mark.parametrize(
    ("split", "kind", "words"),
    [
        ({"folds": 3, "test": 0.2}, ConfigError, "data.split.folds: test rows came too; each fold brings its own"),
        ({"repeats": 3}, ConfigError, "data.split.repeats: 3 came without data.split.folds"),
        ({"fold": 1}, ConfigError, "data.split.fold: 1 came without data.split.folds"),
        ({"folds": 3, "fold": 3}, ConfigError, "data.split.fold: 3 came; 3 folds, 1 time.s., are numbered from 0 to 2"),
        ({"gap": 3}, ConfigError, "data.split.gap: 3 came; rows have no order of time"),
        ({"group": "site", "test": ["x"]}, DataError, "data.split.test: no row has the group 'x'; known: a, b, c, d, e"),
        ({"test": ["x"]}, DataError, "data.split.test: <U1 of shape"),
        ({"time": "day", "folds": 3, "repeats": 2, "fold": 4}, DataError, "in order of time there are 3 folds"),
    ],
)
def test_folds_groups_and_gaps_that_cannot_be_are_told(
    split: dict[str, object], kind: type[Exception], words: str, table: Path
) -> None:
    with pytest.raises(kind, match=words):
        trained(table, **split)
    assert not (table.parent / "run").exists()


def test_a_season_without_a_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.season: 7 came; .*\(data\.window\); leave it out"):
        nw.train("sklearn:diabetes", evaluation={"season": 7}, epochs=1, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_of_test_rows_stands_beside_that_of_train_rows_as_a_keyword(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    for name, part in (("a", rows[:40]), ("b", rows[40:])):
        np.savetxt(tmp_path / f"{name}.csv", part, delimiter=",", header="x,y", comments="")
    run = nw.train(train=tmp_path / "a.csv", test=str(tmp_path / "b.csv"), target="y", epochs=1, run_dir=tmp_path / "run")
    assert run.tested is not None
    assert run.tested["n"] == 20
    with pytest.raises(ConfigError, match="test: .* came; expected True or False"):
        nw.train(str(tmp_path / "a.csv"), test=str(tmp_path / "b.csv"), target="y", run_dir=tmp_path / "none")
