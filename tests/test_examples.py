"""Every example runs, and learns what it says it learns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import netwright as nw

Script = Callable[[str], ModuleType]

EXAMPLES = Path(__file__).parent.parent / "examples"
OWN_STEPS = {  # example: (figure, at most)
    "autoencoder": ("loss", 0.022),  # 8 principal components: 0.0245
    "gan": ("loss", 0.15),  # untrained: above 0.35
    "contrastive": ("loss", 2.6),  # by chance log(128) = 4.85
}
REACHED = {  # example: (figure, at least) or (figure, at most, negative sign)
    "digits": ("accuracy", 0.95),
    "digits_tuned": ("accuracy", 0.93),
    "diabetes": ("r2", 0.35),
    "sequence": ("accuracy", 0.85),
    "tutorial": ("accuracy", 0.93),
    "own_module": ("accuracy", 0.93),
}


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(REACHED)
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "own_module.py",
        "tutorial.py",
        *(f"{name}.py" for name in OWN_STEPS),
    }


@pytest.mark.parametrize("name", list(REACHED))
def test_an_example_reaches_its_figure(name: str, tmp_path: Path) -> None:
    code = [EXAMPLES / "own_module.py"] if name == "own_module" else []
    run = nw.train(EXAMPLES / f"{name}.toml", run_dir=tmp_path / name, code=code)
    figure, at_least = REACHED[name]
    test = json.loads((run.folder / "test.json").read_text())
    assert test["metrics"][figure]["value"] >= at_least
    assert (run.folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_the_tutorial_script_learns_its_dummy_data(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = script("examples/tutorial.py").main(str(tmp_path / "tutorial"))
    history = run.history
    assert len(history) == 20
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert "first prediction" in capsys.readouterr().out
    assert run.record["split"] | {"digest": "", "how": ""} == {"digest": "", "how": "", "train": 60, "valid": 20, "test": 20}


@pytest.mark.parametrize("name", list(OWN_STEPS))
def test_an_example_of_an_own_step_learns(
    name: str, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 80
    run = script(f"examples/{name}.py").main(str(tmp_path / name))
    figure, at_most = OWN_STEPS[name]
    assert run.tested["metrics"][figure]["value"] <= at_most
    said = capsys.readouterr().out
    if name == "contrastive":
        pixels, learned = (float(line.rpartition(" ")[2]) for line in said.splitlines()[-2:])
        assert learned > pixels + 0.05
