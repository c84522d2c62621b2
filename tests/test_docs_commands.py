"""Every command and every config of README and docs runs as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from pages import ROOT, skip_without_onnx, snippets, write_files

import netwright as nw
from netwright.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files the pages speak of."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "text"), snippets("toml"), ids=lambda value: value if len(value) < 40 else "")
def test_a_toml_snippet_trains(name: str, text: str, folder: Path) -> None:
    (folder / "snippet.toml").write_text(text, encoding="utf-8")
    run = nw.train("snippet.toml", settings=["training.epochs=1"], code=["own_module.py"], run_dir="run")
    assert len(run.history) == 1


@pytest.mark.parametrize(("name", "text"), snippets("sh"), ids=lambda value: value if len(value) < 40 else "")
def test_commands_run_as_they_stand(name: str, text: str, folder: Path) -> None:
    skip_without_onnx(text)
    lines = [line for line in text.splitlines() if line]
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            continue
        assert words[0] == "netwright"
        extra = ["--set", "training.epochs=1"] if words[1] in ("train", "cv") else []
        with pytest.raises(SystemExit) as ended:
            main([*words[1:], *extra])
        assert ended.value.code == 0, line
