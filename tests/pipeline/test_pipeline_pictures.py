"""Runs on images: folders, archives and tables train, test and predict, with the same tensors each time."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import netwright as nw
from netwright.cli import main
from netwright.config.data_schema import DataConfig
from netwright.errors import ConfigError, DataError
from netwright.rows import new_rows
from netwright.sources import cache
from netwright.sources.arrays import Arrays

SMALL = {"layers": ["Flatten()", "Linear()"], "epochs": 1, "observers": [], "threads": 1}


def picture(row: int, size: tuple[int, int] = (6, 6)) -> Image.Image:
    """A dark or a bright picture, by turns."""
    values = np.random.default_rng(row).integers(0, 100, size, np.uint8) + np.uint8(150 * (row % 2))
    return Image.fromarray(values)


def folder_of(folder: Path, parts: tuple[str, ...] = ("",), rows: int = 40) -> Path:
    for part in parts:
        for row in range(rows):
            path = folder / part / ("dark", "bright")[row % 2] / f"{row:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(row + len(part) * 1000).save(path)
    return folder


def archive_of(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(folder.rglob("*.png")):
            packed.write(file, file.relative_to(folder.parent))
    return path


def table_of(folder: Path) -> Path:
    lines = ["file,share,kind,site"]
    for row in range(60):
        (folder / "in").mkdir(parents=True, exist_ok=True)
        picture(row).save(folder / "in" / f"{row}.png")
        lines.append(f"in/{row}.png,{row / 7:.3f},{('dark', 'bright')[row % 2]},{row // 6}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return folder / "t.csv"


def train(source: Path, folder: Path, **settings: Any) -> Any:
    return nw.train(str(source), run_dir=folder / "run", **{**SMALL, **settings})


def bits(raw: Any) -> str:
    assert isinstance(raw, Arrays)
    return hashlib.sha256(raw.inputs["images"].tobytes()).hexdigest()


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_given_parts_are_the_split_and_the_form_stands_in_the_config(form: str, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "d", ("train", "val", "test"))
    run = train(archive_of(source) if form == "archive" else source, tmp_path)
    assert {part: run.record["split"][part] for part in ("train", "valid", "test")} == {"train": 40, "valid": 40, "test": 40}
    assert run.record["task"]["classes"] == ["bright", "dark"]
    data = run.config.data
    assert (data.image_mode, data.image_size, data.layout, data.cache) == ("grey", [6, 6], "NHW", None)
    assert run.record["notes"][0] == "images: 120 grey; read as grey, 6 x 6 pixels (height x width)"
    assert run.tested["n"] == 40
    header, first = (tmp_path / "run" / "predictions.csv").read_text().splitlines()[:2]
    assert header.startswith("row,file,target,prediction,")
    assert first.startswith('80,"test/bright/001.png","bright",')
    assert nw.load(run.folder).test()["looks"] == 2


def test_only_train_rows_decide_where_the_split_is_made_here(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "d")
    first = train(source, tmp_path)
    files = sorted(source.rglob("*.png"))
    for row in first.inputs.split.test:
        picture(int(row), (50, 50)).convert("RGB").save(files[row])
    again = train(source, tmp_path / "again")
    assert (again.config.data.image_mode, again.config.data.image_size) == ("grey", [6, 6])
    assert f"{len(first.inputs.split.test)} of 40 images of colour are read as grey" in again.record["notes"]


def rows_of(run: nw.Run, rows: object) -> Arrays:
    raw = new_rows.read(run.config, run.program, rows)
    assert isinstance(raw, Arrays)
    return raw


def test_images_to_predict_are_the_same_tensors_as_in_training(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "d")
    for row, path in enumerate(sorted(source.rglob("*.png"))):
        picture(row, (5 + row % 3, 7)).convert("RGB" if row % 4 else "RGBA").save(path)
    run = train(source, tmp_path)
    assert (run.config.data.image_mode, run.config.data.image_size) == ("rgb", [6, 7])
    loaded = nw.load(run.folder)
    assert bits(rows_of(loaded, source)) == bits(rows_of(loaded, archive_of(source))) == bits(run.inputs.raw)
    one = sorted(source.rglob("*.png"))[3]
    for rows in (str(one), one, [one], [str(one)]):
        np.testing.assert_array_equal(rows_of(loaded, rows).inputs["images"][0], run.inputs.raw.inputs["images"][3])


def test_the_prediction_file_names_the_images_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(folder_of(tmp_path / "d"), tmp_path)
    flat = tmp_path / "new"
    flat.mkdir()
    picture(1).save(flat / "b.png")
    picture(2, (9, 9)).convert("RGB").save(flat / 'a,".png')
    (flat / ".DS_Store").write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(run.folder), "new"])
    printed = capsys.readouterr()
    assert stop.value.code == 0
    lines = printed.out.splitlines()
    assert lines[0] == "file,prediction,probability_bright,probability_dark"
    assert [line.rsplit(",", 3)[0] for line in lines[1:]] == ['"a,"".png"', '"b.png"']
    assert printed.err.splitlines() == [
        "note: 1 of 2 images of another size are stretched to 6 x 6",
        "note: 1 of 2 images of colour are read as grey",
    ]


def test_a_run_is_tested_on_class_folders_and_refuses_its_own(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "d", ("train", "test"))
    run = train(source / "train", tmp_path)
    assert run.test(source / "test")["n"] == 40
    with pytest.raises(ConfigError, match="the run's own rows"):
        run.test(source / "train")
    with pytest.raises(DataError, match="folders train, test came; expected one set of rows"):
        run.test(source)
    (source / "test" / "bright").rename(source / "test" / "light")
    with pytest.raises(DataError, match=r"test/light/001\.png: .*class 'light' is none that is known"):
        run.test(source / "test")


def test_folders_of_ones_own_are_train_and_test_rows(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "d", ("one", "two"))
    run = nw.train({"data": {"train": str(source / "one"), "test": str(source / "two")}}, run_dir=tmp_path / "run", **SMALL)
    assert {part: run.record["split"][part] for part in ("train", "valid", "test")} == {"train": 32, "valid": 8, "test": 40}


def test_a_table_of_paths_gives_a_regression_with_groups(tmp_path: Path) -> None:
    table = table_of(tmp_path / "d")
    run = train(table, tmp_path, images="file", target="share", split={"group": "site"})
    assert run.record["task"]["kind"] == "regression"
    split = run.inputs.split
    sites = [set((rows // 6).tolist()) for rows in (split.train, split.valid, split.test)]
    assert not sites[0] & sites[1]
    assert not sites[0] & sites[2]
    assert run.config.data.image_mode == "grey"
    (tmp_path / "d" / "new.csv").write_text("file\nin/3.png\nin/4.png\n")
    found = nw.load(run.folder).prediction_table(tmp_path / "d" / "new.csv")
    assert list(found) == ["file", "prediction"]
    assert found["file"] == ["in/3.png", "in/4.png"]
    assert nw.load(run.folder).test()["n"] == len(split.test)


def test_a_table_of_paths_gives_classes_and_names_the_line_of_a_bad_label(tmp_path: Path) -> None:
    table = table_of(tmp_path / "d")
    run = train(table, tmp_path, images="file", target="kind")
    assert run.record["task"]["classes"] == ["bright", "dark"]
    assert run.predict(tmp_path / "d" / "in" / "0.png").shape == (1,)
    table.write_text(table.read_text().replace("in/3.png,0.429,bright", "in/3.png,0.429,"))
    with pytest.raises(DataError, match=r"t\.csv:5: target 'kind' is missing"):
        train(table, tmp_path / "again", images="file", target="kind")


def test_damaged_images_are_left_out_of_training_on_request(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "d", rows=120)
    (source / "dark" / "000.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"dark/000\.png: no image that can be read; expected PNG"):
        train(source, tmp_path / "first")
    run = train(source, tmp_path, bad_images="skip")
    assert run.record["data"]["rows"] == 119
    assert run.record["notes"][0].startswith("1 of 120 images damaged and left out, the first ")
    assert "dark/000.png" not in (run.folder / "predictions.csv").read_text()
    assert nw.load(run.folder).test()["looks"] == 2


def test_a_set_larger_than_memory_is_trained_from_its_file_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder_of(tmp_path / "d")
    first = train(source, tmp_path)
    monkeypatch.setattr(cache, "free_share", lambda: 100)
    monkeypatch.chdir(tmp_path)
    second = train(source, tmp_path / "again")
    assert second.config.data.cache == str(tmp_path / ".netwright-cache")
    assert [path.suffix for path in (tmp_path / ".netwright-cache").iterdir()] == [".npy"]
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert one.equal(other)


@pytest.mark.parametrize("less", [True, False])
def test_a_run_of_images_goes_on_where_other_memory_is_free(
    less: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, free = folder_of(tmp_path / "d"), [10**9, 100]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "free_share", lambda: free[not less])
    begun = train(source, tmp_path, epochs=1)
    monkeypatch.setattr(cache, "free_share", lambda: free[less])
    run = nw.resume(begun.folder, settings=["training.epochs=2"], require_exact=True)
    whole = train(source, tmp_path / "whole", epochs=2)
    for one, other in zip(run.model.parameters(), whole.model.parameters(), strict=True):
        assert one.equal(other)


@pytest.mark.parametrize("setting", [{"window": 3}, {"text": "words"}, {"inputs": "x"}, {"layout": "NCHW"}])
def test_settings_of_other_rows_are_refused(setting: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"data.{next(iter(setting))}: .*leave it out"):
        train(folder_of(tmp_path / "d"), tmp_path, **setting)


@pytest.mark.parametrize("size", [[3], [0, 4], [4, 9000], [1, 2, 3]])
def test_an_image_size_is_a_height_and_a_width(size: list[int]) -> None:
    with pytest.raises(ValueError, match=r"expected \[height, width\] from 1 to 8192"):
        DataConfig(image_size=size)
