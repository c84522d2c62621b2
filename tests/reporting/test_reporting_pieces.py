"""What a terminal, a notebook and a page of several runs show: braille curves, tables, drawings; texts stay texts."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import netwright as nw
from netwright.lifecycle.run import Run
from netwright.reporting.braille import BLANK, braille_rows
from netwright.reporting.notebook import curves, page, piece, table
from netwright.reporting.together import together_svg

SMALL = {"layers": ["Linear(8)", "ReLU()", "Linear()"], "epochs": 3}


def heights(series: list[float], width: int, height: int) -> list[int | None]:
    """Return the highest dot of each column of dots, from below."""
    rows = braille_rows([series], width, height)
    found: list[int | None] = []
    for x in range(2 * width):
        dots = []
        for y in range(4 * height):
            bits = ord(rows[y // 4][x // 2][0]) - BLANK if rows[y // 4][x // 2][0] != " " else 0
            bit = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))[x % 2][y % 4]
            dots += [4 * height - 1 - y] if bits & bit else []
        found.append(max(dots) if dots else None)
    return found


def test_a_rising_line_rises_from_corner_to_corner() -> None:
    found = heights([0.0, 1.0], 8, 4)
    assert (found[0], found[-1]) == (0, 15)
    assert found == sorted(found)  # type: ignore[type-var]


def test_gaps_stay_gaps_and_a_constant_lies_in_the_middle() -> None:
    found = heights([1.0, math.nan, math.nan, 1.0], 8, 2)
    assert [place for place, height in enumerate(found) if height is not None] == [0, 15]
    assert set(heights([2.0, 2.0, 2.0], 5, 2)) <= {3, 4}
    assert braille_rows([[math.nan]], 3, 1) == [[(" ", -1)] * 3]


def test_a_steep_line_has_no_holes() -> None:
    rows = braille_rows([[0.0] * 20 + [1.0] * 20], 20, 6)
    filled = [any(text != " " for text, _ in row) for row in rows]
    assert all(filled)


def test_a_logarithmic_scale_makes_an_exponential_straight() -> None:
    series = [10.0**-k for k in range(9)]
    rows = braille_rows([series], 18, 9, logarithmic=True)
    text = ["".join(cell for cell, _ in row) for row in rows]
    assert all(row.strip() for row in text)
    starts = [len(row) - len(row.lstrip()) for row in text]
    assert starts == sorted(starts)


def test_curves_together_name_their_runs_as_text() -> None:
    history = {"epoch": [1.0, 2.0], "train_loss": [1.0, 0.5], "valid_loss": [0.9, math.nan], "valid_accuracy": [0.5, 0.6]}
    name = "<script>$a_b$</script>"
    text = together_svg({name: [history], "B": [history, history]}, "two & two")
    root = ElementTree.fromstring(text)
    assert name in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<script" not in text
    assert "valid_accuracy" in text
    assert together_svg({name: [history], "B": [history, history]}, "two & two") == text
    losses = {name: values for name, values in history.items() if name != "valid_accuracy"}
    assert "valid_accuracy" not in together_svg({"A": [losses], "B": [history]}, "one plane")
    assert curves({"A": [{}]}) == ""


def test_a_piece_escapes_what_it_is_given() -> None:
    found = piece("<i>", [table(["<b>"], [["<img src=x onerror=alert(1)>"]])])
    assert not re.search(r"<(i|b|img)\b", found)
    assert "default-src 'none'" in page("<title>", found)
    assert "<title>&lt;title&gt;</title>" in page("<title>", found)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return nw.train("sklearn:wine", run_dir=tmp_path_factory.mktemp("shown") / "run", **SMALL)


def test_a_run_shows_itself_in_a_notebook(run: Run) -> None:
    found = run._repr_html_()
    assert run.tested is not None
    assert f"{run.tested['metrics']['accuracy']['value']:.4g}" in found
    assert found.count("<svg") == 1
    assert "prefers-color-scheme: dark" in found
    assert not re.search(r"<script|src=|href=\"http", found)


def test_an_untested_run_of_one_epoch_shows_itself_too(tmp_path: Path) -> None:
    run = nw.train("sklearn:wine", run_dir=tmp_path / "run", test=False, **{**SMALL, "epochs": 1})
    assert "One epoch makes no curve" in run._repr_html_()
    run = nw.train(data=(np.eye(40), np.arange(40.0)), run_dir=tmp_path / "none", **{**SMALL, "epochs": 0})
    assert "<svg" not in run._repr_html_()


def test_several_runs_and_a_comparison_show_themselves(run: Run, tmp_path: Path) -> None:
    seeds = nw.repeat("sklearn:wine", seeds=2, run_dir=tmp_path / "seeds", **SMALL)
    assert f"{seeds.figures['loss'].mean:.4g}" in seeds._repr_html_()
    folds = nw.cross_validate("sklearn:wine", folds=2, run_dir=tmp_path / "folds", **SMALL)
    assert f"{folds.figures['loss'].mean:.4g}" in folds._repr_html_()
    other = nw.train("sklearn:wine", run_dir=tmp_path / "other", **{**SMALL, "epochs": 6})
    found = nw.compare(run.folder, other.folder)._repr_html_()
    assert "training.epochs" in found
    for piece_of in (seeds._repr_html_(), folds._repr_html_(), found):
        assert piece_of.count("<svg") == 1
