"""Markdown, PNG and LaTeX of a run: what they hold, that no text of the user breaks out, and where they are written."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import filled
import pytest
from test_reporting_evidence import changed

import netwright as nw
from netwright.errors import ConfigError
from netwright.reporting import latex, markdown
from netwright.reporting.formats import FORMATS, render


@pytest.mark.parametrize("name", ["iris", "diabetes", "digits"])
def test_every_format_is_the_same_twice(reported: dict[str, Path], name: str) -> None:
    for form in FORMATS:
        assert render(reported[name], form) == render(reported[name], form), form


def test_markdown_holds_figures_baselines_findings_and_the_command(reported: dict[str, Path]) -> None:
    text = render(reported["iris"], "markdown").decode()
    for words in ("# iris", "**test accuracy", "Better than logistic regression", "| metric ", "90 % interval |", "| this network ",
                  "## Checks: 1 error, 1 warning and 1 note", "- **error** leak (sure): ", "```sh\n", "data sha256:"):  # fmt: skip
        assert words in text, words
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 2
    assert all(len({len(line) for line in table.splitlines()}) == 1 for table in tables)
    assert not re.search(r"(?<!\\)<", text)
    assert "iris.csv:2" not in text


def test_a_command_with_fences_stays_in_its_block(reported: dict[str, Path], tmp_path: Path) -> None:
    folder = changed(reported["iris"], tmp_path, command=["netwright", "train", "a````\n# b"])
    text = render(folder, "markdown").decode()
    assert "`````sh\nnetwright train 'a```` # b'\n`````" in text


@pytest.mark.parametrize("word", ["| a |", "<b>", "[a](b)", "# x", "*x*", "`x`", "a\nb", "\\"])
def test_markdown_shows_texts_of_the_user_as_they_are(word: str) -> None:
    written = markdown.escaped(word)
    assert "\n" not in written
    assert re.sub(r"\\([^\w\s])", r"\1", written) == " ".join(word.split())
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<\[#*`]", written)


def test_a_run_without_a_test_is_told_in_every_format(reported: dict[str, Path], tmp_path: Path) -> None:
    folder = changed(reported["iris"], tmp_path)
    (folder / "test.json").unlink()
    assert "**not tested yet**" in render(folder, "markdown").decode()
    assert render(folder, "latex").decode() == "% not tested yet: netwright test RUN\n"
    assert render(folder, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("name", ["iris", "diabetes", "digits"])
def test_the_picture_is_white_and_has_200_dots_per_inch(reported: dict[str, Path], name: str, rows: bool) -> None:
    from PIL import Image

    image = Image.open(io.BytesIO(render(reported[name], "png", rows=rows)))
    assert image.width == 2000
    assert round(image.info["dpi"][0]) == 200
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50


def test_the_picture_without_rows_is_another(reported: dict[str, Path]) -> None:
    assert render(reported["diabetes"], "png") != render(reported["diabetes"], "png", rows=False)


def test_latex_is_a_booktabs_table_with_intervals_and_baselines(reported: dict[str, Path]) -> None:
    text = render(reported["iris"], "latex").decode()
    head = r"metric & network & 90 \% interval & logistic regression & always the most frequent class \\"
    assert head in text
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows} == {4}
    assert r"balanced\_accuracy & " in text
    assert re.search(r"\naccuracy & [\d.]+ & \[[\d.]+, [\d.]+\] & ", text)
    assert text.count("{") == text.count("}")


HOSTILE_TEX = r"\input{/etc/passwd} $x_1$ 50% & #1 ~ ^ {a} <b> | " + '"q" \u2212 ‘a’ é'


def test_texts_of_the_user_are_escaped_for_latex() -> None:
    written = latex.escaped(HOSTILE_TEX + "\n% \x00")
    assert written.startswith(
        r"\textbackslash{}input\{/etc/passwd\} \$x\_1\$ 50\% \& \#1 \textasciitilde{} \textasciicircum{} \{a\}"
    )
    assert "\n" not in written
    assert "\x00" not in written
    commands = re.sub(r"\\text[a-z]+\{\}|\\[%&#_${}]|\$-\$", "", written)
    assert not set(commands) & set("\\%&#_{}$~^")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles(reported: dict[str, Path], tmp_path: Path) -> None:
    metrics = {HOSTILE_TEX: filled.figure(0.5), "[b]": {"value": -1.5}, "accuracy": filled.figure(0.9)}
    baselines = {"a": {"name": HOSTILE_TEX, "metrics": {"accuracy": 0.5, "[b]": -2.0}}}
    folder = changed(
        reported["iris"], tmp_path, lambda test: test | {"metrics": metrics, "baselines": baselines}, name=HOSTILE_TEX
    )
    table = render(folder, "latex").decode()
    document = "\\documentclass{article}\\usepackage{booktabs}\\usepackage[T1]{fontenc}\\begin{document}%s\\end{document}"
    (tmp_path / "a.tex").write_text(document % table)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "a.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:]
    assert (tmp_path / "a.pdf").is_file()


def test_a_format_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="report format 'pdf': expected html, markdown, png or latex"):
        render(Path("x"), "pdf")


def test_a_run_writes_each_format_beside_its_page_or_where_it_is_told(reported: dict[str, Path], tmp_path: Path) -> None:
    run = nw.load(reported["diabetes"])
    assert run.report() == run.folder / "report.html"
    assert run.report("markdown").read_text().startswith("# diabetes")
    own = run.report("html", tmp_path / "own.html", rows=False)
    assert "Single rows of the data are left out" in own.read_text()
    assert json.loads((run.folder / "test.json").read_text())["worst"], "the run itself keeps its rows"
