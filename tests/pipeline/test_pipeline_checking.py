"""The checks in a run: told as warnings, kept in run.json and the report, an error with --strict; the verb split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

import netwright as nw
from netwright.cli import main
from netwright.errors import ConfigError, DataError
from netwright.pipeline import checking

GENERATOR = np.random.default_rng(0)


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """A table with repeated rows, a group, an answer in other words and two dates; by their digits no two rows meet by chance."""
    lines = []
    for place in range(300):
        sick = int(GENERATOR.random() < 0.5)
        lines.append(f"{place % 40},{GENERATOR.normal():.9f},{'ward' if sick else 'home'},{sick}")
    lines[200:220] = lines[:20]
    path = tmp_path / "patients.csv"
    path.write_text("patient_id,marker,discharged_to,sick\n" + "\n".join(lines) + "\n")
    return path


def test_findings_are_told_kept_and_drawn(patients: Path, tmp_path: Path) -> None:
    told: list[str] = []
    run = nw.train(
        str(patients), target="sick", epochs=1, run_dir=tmp_path / "run", observers=[lambda r: told.append(str(r))]
    )
    warnings = [line for line in told if line.startswith("warning: ")]
    assert {entry["check"] for entry in run.record["findings"]} == {"duplicate-rows", "shared-groups", "target-leak"}
    assert [f"warning: {e['where']}: {e['why']}; {e['advice']}" for e in run.record["findings"]] == warnings
    assert all({"severity", "confidence"} <= set(entry) for entry in run.record["findings"])
    assert any("column 'discharged_to': it alone tells the target (balanced accuracy 1.000" in line for line in warnings)
    assert any("column 'patient_id': " in line and "have a value that train rows have too" in line for line in warnings)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "alone tells the target" in page


def test_strict_makes_a_finding_an_error_and_writes_nothing(
    patients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["train", "patients.csv", "--target", "sick", "--strict", "--set", "training.epochs=1", "--run-dir", "run"])
    printed = capsys.readouterr()
    assert ended.value.code == 3
    assert printed.err.startswith("netwright: error: --strict: ")
    assert printed.err.count("\n") == 1
    assert printed.out.count("warning: ") == int(printed.err.split("--strict: ")[1].split()[0])
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match=r"[0-9]+ findings? \(.*; mend the data"):
        nw.train("patients.csv", target="sick", epochs=1, strict=True, run_dir="run")


def test_checks_are_left_out_by_name_and_a_clean_split_is_strict(patients: Path, tmp_path: Path) -> None:
    run = nw.train(
        str(patients), target="sick", epochs=1, run_dir=tmp_path / "run", strict=True, ignore=["discharged_to"],
        split={"group": "patient_id"}, skip=["duplicate-rows"],
    )  # fmt: skip
    assert run.record["findings"] == []
    assert "skip" in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "digits", "linnerud"])
def test_the_bundled_sets_suspect_no_leak_and_no_shift(name: str) -> None:
    found = nw.split(f"sklearn:{name}").findings
    assert [str(finding) for finding in found if finding.refuses and finding.check != "duplicate-rows"] == []
    assert "target-leak" not in [finding.check for finding in found]


def test_near_duplicates_are_looked_for_on_request() -> None:
    X, y = datasets.load_wine(return_X_y=True)
    X = np.concatenate([X, X[:20] * (1 + 1e-6)])
    y = np.concatenate([y, y[:20]])
    data = {"split": {"train": list(range(178)), "test": list(range(178, 198)), "valid": 0}}
    assert [found.check for found in nw.split(data=(X, y), **data).findings if found.check == "near-duplicate-rows"] == []
    found = nw.split(data=(X, y), near_duplicates=0.01, **data).findings
    assert [(one.figures["part"], one.figures["rows"]) for one in found if one.check == "near-duplicate-rows"] == [
        ("test", 20)
    ]


def test_a_class_that_train_lacks_is_a_finding(tmp_path: Path) -> None:
    y = np.array([0, 1] * 50 + [2] * 20)
    X = GENERATOR.normal(size=(120, 3))
    found = nw.split(data=(X, y), split={"train": list(range(80)), "test": list(range(80, 120)), "valid": 0}).findings
    assert ("class 2", "it has no train row, so that the network cannot learn it") in [(one.where, one.why) for one in found]


def test_split_prints_and_draws_each_part_and_writes_nothing(
    patients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as ended:
        main(["split", "patients.csv", "--target", "sick"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert "train       180 rows   60.0%  patient_id 40 groups" in printed
    assert "█" in printed
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(SystemExit) as ended:
        main(["split", "patients.csv", "--target", "sick", "--json", "--figure", "parts.svg", "--strict"])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == 3
    assert found["parts"]["test"]["rows"] == 60
    assert sum(found["shares"]["train"]) == pytest.approx(1)
    assert (tmp_path / "parts.svg").read_text().startswith("<svg")
    with pytest.raises(SystemExit) as ended:
        main(["split", "patients.csv", "--target", "sick", "--figure", "parts.pdf"])
    assert ended.value.code == 2


def test_split_divides_as_train_does(patients: Path, tmp_path: Path) -> None:
    settings = {"target": "sick", "split": {"test": 0.25, "seed": 4}}
    parts = nw.split(str(patients), **settings)
    run = nw.train(str(patients), epochs=1, run_dir=tmp_path / "run", **settings)
    with np.load(run.folder / "split.npz") as found:
        for name in ("train", "valid", "test"):
            np.testing.assert_array_equal(found[name], getattr(parts, name))


def test_split_tells_of_numbers_times_and_steps(tmp_path: Path) -> None:
    lines = [f"2024-{1 + place // 28:02d}-{1 + place % 28:02d},{GENERATOR.normal():.3f},{place}" for place in range(120)]
    (tmp_path / "t.csv").write_text("day,x,y\n" + "\n".join(lines) + "\n")
    told = str(nw.split(str(tmp_path / "t.csv"), target="y", split={"time": "day"}))
    assert "target 35.5 ± 20.8 (0 to 71); day 2024-01-01 to 2024-03-16" in told
    assert "column 'day': it is distributed otherwise in test than in train (Kolmogorov-Smirnov statistic 1.00)" in told
    items = [GENERATOR.normal(size=(int(steps), 2)) for steps in GENERATOR.integers(3, 9, 60)]
    assert "steps 3 to 8" in str(nw.split(data=(items, np.arange(60) % 2)))


def test_duplicates_are_not_looked_for_in_more_than_can_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = datasets.load_iris(return_X_y=True)
    data = (np.concatenate([X, X]), np.concatenate([y, y]))
    assert [found.check for found in nw.split(data=data).findings] == ["duplicate-rows"] * 3
    monkeypatch.setattr(checking, "MOST_BYTES", 1000)
    assert nw.split(data=data).findings == ()


def test_of_many_columns_fewer_rows_are_drawn_and_a_leak_is_found_all_the_same() -> None:
    columns = GENERATOR.normal(size=(8000, 400)).astype(np.float32)
    target = (GENERATOR.random(8000) < 0.5).astype(np.int64)
    columns[:, 7], columns[:, 9] = target, 3.0
    preflight = nw.check(data=(columns, target), split={"valid": 0.1, "test": 0.1})
    found = {finding.check: finding for finding in preflight.findings}
    assert found["target-leak"].where == "column 'X[7]'"
    assert found["constant-column"].why == "it is 3 in each of 5,000 train rows drawn by chance, so that it tells little"


def test_the_advice_about_a_column_can_be_followed(tmp_path: Path) -> None:
    values = GENERATOR.normal(size=(200, 3)).round(4)
    values[:, 1] = np.where(values[:, 0] > 0, 2.0, -1.0)
    values[:40, 2] = -999
    target = (values[:, 0] > 0).astype(np.int64)
    (tmp_path / "rows.csv").write_text(
        "a,b,c,y\n" + "\n".join(f"{a},{b},{c},{y}" for (a, b, c), y in zip(values, target, strict=True)) + "\n"
    )
    as_table, as_arrays = (
        {(finding.where, finding.check): finding.advice for finding in nw.check(**rows).findings}
        for rows in ({"data": tmp_path / "rows.csv", "target": "y"}, {"data": (values, target)})
    )
    assert (
        as_table["column 'b'", "target-leak"] == 'leave it out with data.ignore = ["b"] unless it is known when predicting'
    )
    assert as_table["column 'c'", "sentinel-values"].startswith('set data.missing_values = ["", ')
    assert as_arrays["column 'X[1]'", "target-leak"] == "leave it out of the rows unless it is known when predicting"
    assert as_arrays["column 'X[2]'", "sentinel-values"] == "write NaN in its place"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            {"ignore": ["X[1]"]},
            "data.ignore: X[1] came, of arrays, which are taken whole; expected no names; leave ",
        ),
        (
            {"missing_values": ["-999"]},
            "data.missing_values: '-999' came, of arrays, which have NaN for what is missing; ",
        ),
        ({"kinds": {"X[1]": "category"}}, "data.kinds: X[1] came, of arrays, which hold numbers alone; "),
        ({"columns": ["a", "b", "c", "d"]}, "data.columns: a, b, c came, of arrays, which have no columns with names; "),
        ({"header": False}, "data.header: false came, of arrays, which have no lines of text; "),
        ({"delimiter": ";"}, "data.delimiter: ';' came, of arrays, "),
        ({"decimal": ","}, "data.decimal: ',' came, of arrays, "),
        ({"thousands": " "}, "data.thousands: ' ' came, of arrays, "),
        ({"sheet": "first"}, "data.sheet: first came, of arrays, "),
        ({"preparation": {"rare": 3}}, "data.preparation.rare: 3 came, of arrays, which have no categories; "),
        ({"inputs": ["width"]}, "data.inputs: width came, of arrays, which are called X; expected such names, "),
        ({"images": "path"}, "data.images: path came, and the rows are no image files; "),
        ({"image_mode": "grey"}, "data.image_mode: grey came, and the rows are no image files; "),
        ({"image_size": [8, 8]}, "data.image_size: [8, 8] came, and the rows are no image files; "),
        ({"bad_images": "skip"}, "data.bad_images: skip came, and the rows are no image files; "),
    ],
)
def test_settings_about_columns_or_images_are_refused_for_arrays(setting: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        nw.train(data=datasets.load_iris(return_X_y=True), **setting, run_dir=tmp_path / "run")
    assert str(refused.value).startswith(told)
    assert not (tmp_path / "run").exists()


def test_inputs_inside_a_group_of_a_file_are_named_with_it(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "signals.h5", "w") as file:
        file["first/volts"] = np.random.default_rng(0).normal(size=(60, 3, 20)).astype(np.float32)
        file["first/kind"] = np.arange(60) % 2
    names = {"inputs": "first/volts", "target": "first/kind", "layout": "NCT"}
    run = nw.train(tmp_path / "signals.h5", **names, epochs=1, test=False, run_dir=tmp_path / "run")
    assert run.record["status"] == "done"
