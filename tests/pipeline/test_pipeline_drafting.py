"""A drafted config trains to the bits of the data file alone; a machine tells what it offers."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import netwright as nw
from netwright.cli import main
from netwright.errors import ConfigError
from netwright.pipeline import environment
from netwright.pipeline.environment import look_around
from netwright.recording import building

RNG = np.random.default_rng(0)


def house_file(folder: Path) -> Path:
    frame = pd.DataFrame(
        {
            "id": np.arange(200),
            "area": RNG.uniform(30, 200, 200).round(1),
            "city": RNG.choice(["Paris", "Lyon", 'the "other", one'], 200),
            "built": [f"{year}-05-01" for year in RNG.integers(1900, 2020, 200)],
            "garage": RNG.choice(["yes", "no", ""], 200),
        }
    )
    frame["price"] = frame["area"] * 3000 + RNG.normal(0, 9000, 200).round()
    frame.to_csv(folder / "house.csv", index=False)
    return folder / "house.csv"


def run_command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def weights(run: nw.Run) -> bytes:
    return (run.folder / "model" / "last.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["digits", "diabetes", "wine", "linnerud"])
def test_a_drafted_config_of_a_bundled_set_trains_to_the_same_bits(name: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(nw.draft(f"sklearn:{name}").text)
    one = nw.train(f"sklearn:{name}", settings=["training.steps=5"], test=False, run_dir=tmp_path / "one")
    two = nw.train(tmp_path / "c.toml", settings=["training.steps=5"], test=False, run_dir=tmp_path / "two")
    assert weights(one) == weights(two)


def test_a_drafted_config_of_a_table_trains_to_the_same_bits_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(house_file(tmp_path).parent)
    (tmp_path / "configs").mkdir()
    assert run_command("init", "house.csv", "--target", "price", "-o", "configs/house.toml") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "configs/house.toml"
    text = (tmp_path / "configs" / "house.toml").read_text()
    assert tomllib.loads(text)["data"]["source"] == "../house.csv"
    for shown in (
        "id       identifier",
        "category     3 values",
        "garage   boolean",
        "missing",
        "(N, 128)",
        "--target price",
    ):
        assert shown in text
    one = nw.train("house.csv", target="price", settings=["training.steps=5"], test=False, run_dir="one")
    two = nw.train("configs/house.toml", settings=["training.steps=5"], test=False, run_dir="two")
    assert weights(one) == weights(two)


def test_mistakes_before_a_draft_are_told_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(house_file(tmp_path).parent)
    (tmp_path / "old.toml").write_text("mine")
    for words, code, told in (
        (["house.csv"], 2, "expected one of the columns id, area"),
        (["house.csv", "--target", "prize"], 3, "did you mean price"),
        (["house.csv", "--target", "price", "-o", "old.toml"], 2, "there is such a file"),
        (["house.csv", "--target", "price", "-o", "new.txt"], 2, "ends in .toml"),
        (["old.toml"], 2, "a config came; expected a data file"),
        (["nothing.csv"], 3, "nothing.csv"),
    ):
        assert run_command("init", *words) == code, words
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    assert (tmp_path / "old.toml").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["house.csv", "old.toml"]


def test_what_was_asked_for_stands_in_the_draft(tmp_path: Path) -> None:
    path = house_file(tmp_path)
    text = nw.draft(str(path), target="price", ignore=["city"], split={"test": 30, "seed": 3}, batch_size=16).text
    found = tomllib.loads(text)
    assert found["data"]["batch_size"] == 16
    assert found["data"]["split"] == {"test": 30, "valid": 0.2, "seed": 3}
    assert found["data"]["ignore"] == ["city"]


def test_a_machine_tells_what_it_offers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sound"]
    assert {line["what"] for line in found["lines"]} >= {"netwright", "Python", "torch", "cores", "C++ compiler"}
    assert run_command("doctor") == 0
    assert "torch" in capsys.readouterr().out


def test_an_old_torch_is_a_problem_and_a_missing_compiler_or_extra_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment.torch, "__version__", "2.3.1+cpu")
    monkeypatch.setattr(building, "COMPILERS", ("no-such-compiler",))
    monkeypatch.setitem(environment.EXTRAS, "images", ("image files", "no_such_module"))
    lines = {line.what: line for line in look_around().lines}
    assert lines["torch"].state == "problem"
    assert "pip install -U torch" in lines["torch"].advice
    assert lines["C++ compiler"].state == lines["image files"].state == "note"
    assert "netwright[images]" in lines["image files"].advice
    assert run_command("doctor") == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("completion", shell) == 0
    assert "_NETWRIGHT_COMPLETE" in capsys.readouterr().out
    assert run_command("completion", "tcsh") == 2


@pytest.mark.parametrize(
    ("words", "place", "expected"),
    [
        ("netwright tra", 1, "plain,train"),
        ("netwright verify ej", 2, "plain,eject"),
        ("netwright train digits", 2, "file,digits"),
        ("netwright train x --run", 3, "plain,--run-dir"),
        ("netwright predict run new.csv -o ", 5, "file,"),
    ],
)
def test_commands_options_and_files_are_completed(
    words: str, place: int, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("COMP_WORDS", words), ("COMP_CWORD", str(place)), ("_NETWRIGHT_COMPLETE", "bash_complete")):
        monkeypatch.setenv(name, value)
    run_command()
    assert capsys.readouterr().out.splitlines() == [expected]


def test_rows_from_python_have_no_draft() -> None:
    with pytest.raises(ConfigError, match=r"draft: tuple came; expected a data file or sklearn:NAME"):
        nw.draft((RNG.normal(size=(20, 2)), np.arange(20) % 2))  # type: ignore[arg-type]
