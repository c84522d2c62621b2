"""Every Python snippet of README and docs runs as it stands, and pages that are made from the code are up to date."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from pages import PAGES, ROOT, TUTORIAL, skip_without_onnx, snippets, write_files

import netwright as nw
from netwright.config import signatures

Script = Callable[[str], ModuleType]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files the pages speak of."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "code"),
    snippets("python", [page for page in PAGES if page != TUTORIAL]),
    ids=lambda value: value if len(value) < 40 else "",
)
def test_a_python_snippet_runs(name: str, code: str, folder: Path) -> None:
    skip_without_onnx(code)
    exec(compile(code, name, "exec"), {"__name__": "snippet"})
    assert (folder / "runs").is_dir() != name.startswith("estimators.md")  # estimators write no run


@pytest.mark.usefixtures("folder")
def test_the_tutorial_is_one_session_and_its_loop_by_hand_gives_the_same_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session, threads = {"__name__": "tutorial"}, torch.get_num_threads()
    try:
        for name, code in snippets("python", [TUTORIAL]):
            exec(compile(code, name, "exec"), session)
    finally:
        torch.set_num_threads(threads)  # the tutorial works with one
    by_hand, run = session["by_hand"], session["run"]
    assert isinstance(run, nw.Run)
    assert isinstance(by_hand, torch.nn.Module)
    theirs = run.model.state_dict()
    assert set(theirs) == set(by_hand.state_dict())
    assert all(torch.equal(weights, theirs[name]) for name, weights in by_hand.state_dict().items())
    assert run.record["epochs"] == 20
    said = capsys.readouterr().out
    assert f"avg loss: {run.tested['metrics']['loss']['value']:.4f}" in said  # type: ignore[index]
    assert "avg accuracy: 0.9" in said


def test_the_first_toml_of_the_readme_is_the_digits_example() -> None:
    first = next(text for name, text in snippets("toml") if name == "README.md-0")
    assert tomllib.loads(first) == tomllib.loads((ROOT / "examples" / "digits.toml").read_text())


def test_the_settings_page_is_made_from_the_schema(script: Script) -> None:
    tool = script("tools/settings_table.py")
    assert tool.page() == tool.PAGE.read_text(encoding="utf-8")


def test_the_layers_page_names_every_layer_of_our_own() -> None:
    text = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    assert [name for name in signatures.OWN_LAYERS if f"`{name}(" not in text] == []


def test_the_page_of_the_commands_is_made_from_their_help(script: Script) -> None:
    tool = script("tools/help_snapshot.py")
    assert tool.render_page() == tool.PAGE.read_text(encoding="utf-8"), "run python tools/help_snapshot.py"


def test_the_reference_names_everything_public() -> None:
    named = set(re.findall(r"^\.\. auto\w+:: netwright\.(\w+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE))
    assert named == {*nw.__all__, "errors"} - {"NetwrightError", "FindingWarning"}  # which are in netwright.errors


def test_the_index_leads_to_pages_that_are_there_and_takes_the_others_by_itself(script: Script) -> None:
    site = script("docs/conf.py")
    content = [(ROOT / "docs" / "index.md").read_text(encoding="utf-8")]
    site.fill_the_rest(None, "docs/index", content)
    lines = [
        line
        for block in re.findall(r"^```{toctree}\n(.*?)^```", content[0], re.DOTALL | re.MULTILINE)
        for line in block.split()
    ]
    listed = [line for line in lines if re.fullmatch(r"[a-z]+", line) and (ROOT / "docs" / f"{line}.md").is_file()]
    assert sorted(listed) == sorted(page.stem for page in (ROOT / "docs").glob("*.md") if page.stem != "index")
