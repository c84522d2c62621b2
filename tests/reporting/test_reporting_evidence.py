"""The evidence in the page: verdict, baselines, classes, slices, calibration, importance, worst errors, findings, time."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import filled
import pytest

from netwright.reporting.circumstances import command_text, findings_of, findings_words
from netwright.reporting.contents import read_run
from netwright.reporting.evidence import strips
from netwright.reporting.report import render_report
from netwright.reporting.trust import picture
from netwright.reporting.verdict import verdict_of
from netwright.reporting.wording import like_text, measured_parts, probability_text, signed

VOID = ("meta", "link", "br", "img", "wbr", "input", "hr")


class Tree(HTMLParser):
    """Checks that elements nest, and collects headings, tables, ids and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def changed(source: Path, place: Path, test: Callable[[dict[str, Any]], object] | None = None, **run: Any) -> Path:
    """Copy what the report reads of a run, with another test or record."""
    folder = place / "copy"
    folder.mkdir()
    for name in ("run.json", "test.json", "history.csv", "config.toml", "predictions.csv"):
        shutil.copy(source / name, folder / name)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | run))
    if test is not None:
        (folder / "test.json").write_text(json.dumps(test(json.loads((folder / "test.json").read_text()))))
    return folder


def test_every_kind_of_evidence_has_its_section(reported: dict[str, Path]) -> None:
    page = render_report(reported["iris"])
    text = Tree(page).text
    for words in (
        "Better than logistic regression", "network minus baseline", "stopped after 3 s; 3.2 s",
        "Left out: boosting (5,000 columns).",
        "90 % interval", "Intervals: BCa bootstrap, 1,000 resamples, whole groups of plant (31 groups).",
        "Slices: accuracy by group of rows", "all test rows", "expected calibration error (ECE)", "0.031",
        "Outputs are divided by the temperature 1.3, fitted on valid; without it: ECE 0.05, loss 0.4.",
        "from a probability of 0.37 on, the best for f1 on 30 rows of valid",
        "Drop of accuracy when a column's values are dealt out",
        "5 times each, on 30 test rows.", "iris.csv:2", "The checks of data and network found 1 error, 1 warning and 1 note",
        "only a hint", "2 of 30 test rows have the inputs of a train row", "baselines (test)", "netwright verify determinism RUN",
    ):  # fmt: skip
        assert words in text, words


def test_values_have_coverage_signed_errors_and_less_is_better(reported: dict[str, Path]) -> None:
    text = Tree(render_report(reported["diabetes"])).text
    for words in ("Worse than linear regression", "by 5.0 (4.0 to 6.0)", "target is predicted within ± 6.125",
                  "meant to hold in 90 % of all rows, calibrated on 88 rows of valid", "0.910", "valid also chose the epoch",
                  "+100.5", "row 4", "below zero the network is better"):  # fmt: skip
        assert words in text, words


def test_pictures_stand_beside_what_the_network_looked_at(reported: dict[str, Path]) -> None:
    page = Tree(render_report(reported["digits"]))
    pictures = [entry for tag, entry in page.tags if tag == "img"]
    assert len(pictures) == 8
    assert all(str(entry["src"]).startswith("data:image/png;base64,") and entry["alt"] for entry in pictures)
    assert pictures[0]["alt"] == "row 0: true 3, predicted 8"


@pytest.mark.parametrize("name", ["iris", "diabetes", "digits"])
def test_a_page_is_sound_for_readers_who_cannot_see_it(reported: dict[str, Path], name: str) -> None:
    page = Tree(render_report(reported[name]))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    tags = [tag for tag, _ in page.tags]
    assert [tags.count(tag) for tag in ("main", "nav", "header", "footer")] == [1, 1, 1, 1]
    found = [entry["id"] for _, entry in page.tags if "id" in entry]
    assert len(found) == len(set(found))
    anchors = [str(entry["href"])[1:] for tag, entry in page.tags if tag == "a"]
    assert set(anchors) <= {entry.get("id") for _, entry in page.tags}
    assert anchors[0] == "content"
    assert all(entry.get("scope") in ("col", "row", "rowgroup") for tag, entry in page.tags if tag == "th")
    assert all(entry.get("aria-label") for tag, entry in page.tags if tag == "svg")
    assert all(entry.get("role") or tag == "pre" for tag, entry in page.tags if entry.get("tabindex") == "0")


def test_a_hostile_name_is_text_everywhere(reported: dict[str, Path]) -> None:
    page = render_report(reported["iris"])
    assert page.count("<script") == page.count("</script>") == 1
    assert "<img" not in page
    assert Tree(page).text.count("onerror=alert(1)") >= 8


def test_without_rows_no_row_is_shown(reported: dict[str, Path]) -> None:
    for name, words in (("iris", "iris.csv:2"), ("diabetes", "251.5"), ("digits", "data:image/png")):
        assert words in render_report(reported[name])
        assert words not in render_report(reported[name], rows=False)
    page = Tree(render_report(reported["diabetes"], rows=False))
    assert "Residuals, how often" in page.text
    assert "against true values" not in page.text
    assert "Single rows of the data are left out" in page.text
    assert "Worst errors" not in page.text


DAMAGE = [
    "x",
    7,
    None,
    [],
    {},
    [None],
    [1, "x"],
    {"a": None},
    [{}],
    {"metrics": 3},
    {"bins": [{"n": "x"}], "columns": [{}]},
    True,
]
KEYS = ["metrics", "intervals", "confusion", "labels", "notes", "baselines", "baselines_left_out", "classes", "slices",
        "calibration",         "threshold", "worst", "importance", "conformal", "seconds", "n", "looks", "weights"]  # fmt: skip


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes long, turning figures into SVG, where hundreds of pages are made."""
    monkeypatch.setattr("netwright.reporting.plots.svg_text", lambda figure, label: '<svg role="img"></svg>')


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("key", KEYS)
def test_a_damaged_entry_leaves_the_rest_of_the_page(reported: dict[str, Path], tmp_path: Path, key: str) -> None:
    from netwright.reporting.formats import render

    folder = changed(reported["iris"], tmp_path)
    sound = json.loads((folder / "test.json").read_text())
    for damage in DAMAGE:
        (folder / "test.json").write_text(json.dumps(sound | {key: damage}))
        assert "How to repeat it" in Tree(render_report(folder)).text
        assert render(folder, "markdown")
        assert render(folder, "latex")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_damaged_parts_of_entries_leave_the_rest_of_the_page(reported: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = changed(reported[name], tmp_path)
    sound = json.loads((folder / "test.json").read_text())
    for key, value in sound.items():
        entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        for entry in [value, *entries]:
            if not isinstance(entry, dict):
                continue
            kept = dict(entry)
            for inner in kept:
                entry[inner] = {"odd": None}
                (folder / "test.json").write_text(json.dumps(sound))
                assert "How to repeat it" in render_report(folder), (key, inner)
                entry[inner] = kept[inner]


def test_an_old_folder_has_its_baselines_and_findings_told(reported: dict[str, Path], tmp_path: Path) -> None:
    def older(test: dict[str, Any]) -> dict[str, Any]:
        kept = {name: test[name] for name in ("n", "looks", "weights", "metrics")}
        return kept | {"baselines": {"persistence": {"rmse": 60.5, "mae": 50.0}}}

    text = Tree(
        render_report(changed(reported["diabetes"], tmp_path, older, findings=[{"check": "a", "message": "old words"}]))
    ).text
    assert "repeating the last value (60)" in text
    assert "no interval of the difference was taken" in text
    assert "old words" in text
    assert "Worst errors" not in text


@pytest.mark.parametrize(
    ("metric", "difference", "words", "tone"),
    [
        ("accuracy", {"value": 0.012, "low": 0.004, "high": 0.02},
         "Better than boosting (0.840) by 0.012 (0.004 to 0.020).", "better"),
        ("accuracy", {"value": -0.012, "low": -0.02, "high": -0.004},
         "Worse than boosting (0.840) by 0.012 (0.004 to 0.020).", "worse"),
        ("accuracy", {"value": 0.003, "low": -0.004, "high": 0.01},
         "No clear difference from boosting (0.840): 0.003 better, but the interval reaches from 0.004 worse to 0.010 better.",
         "unclear"),
        ("rmse", {"value": -0.012, "low": -0.02, "high": -0.004},
         "Better than boosting (0.840) by 0.012 (0.004 to 0.020).", "better"),
        ("rmse", {"value": 0.012, "low": 0.004, "high": 0.02},
         "Worse than boosting (0.840) by 0.012 (0.004 to 0.020).", "worse"),
        ("accuracy", None, "Better than boosting (0.840) by 0.06; no interval of the difference was taken.", "unknown"),
    ],
)  # fmt: skip
def test_the_verdict_says_whether_the_network_beats_the_best_baseline(
    reported: dict[str, Path], tmp_path: Path, metric: str, difference: object, words: str, tone: str
) -> None:
    worse = 0.5 if metric == "accuracy" else 1.5
    baselines = {
        "mean": {"name": "worse", "metrics": {metric: worse}},
        "boosting": {
            "name": "boosting",
            "metrics": {metric: 0.84},
            "difference": {metric: difference} if difference else {},
        },
    }
    test = {"n": 9, "metrics": {metric: {"value": 0.9, "low": 0.875, "high": 0.925}}, "baselines": baselines}
    verdict = verdict_of(read_run(changed(reported["iris"], tmp_path, lambda _: test)))
    assert (verdict.words, verdict.tone) == (words, tone)
    assert (verdict.value, verdict.low, verdict.high) == ("0.900", "0.875", "0.925")


def test_figures_have_the_digits_their_interval_allows() -> None:
    assert measured_parts(0.97771, 0.95665, 0.98866) == ("0.978", "0.957", "0.989")
    assert measured_parts(48211.26, 46500.2, 50120.0) == ("48,211", "46,500", "50,120")
    assert measured_parts(1, 1, 1) == ("1", "1", "1")
    assert measured_parts(0.9, None, 1) == ("0.9", "", "")
    assert measured_parts("x", 0, 1) == ("not recorded", "", "")
    assert like_text(0.84123, filled.figure(0.9)) == "0.841"
    assert like_text(0.84123, 0.9) == "0.8412"
    assert [probability_text(value) for value in (0.0004, 0.9999, 1, 0, None)] == [
        "<0.001",
        ">0.999",
        "1.000",
        "0.000",
        "not recorded",
    ]
    assert [signed(text) for text in ("0.1", "-0.1", "0.0", "not recorded")] == ["+0.1", "\u22120.1", "0.0", "not recorded"]


def test_strips_share_an_axis_and_hold_the_mark() -> None:
    first, second, none = strips([filled.figure(1.0, 0.5), 0.0, "x"], 0.0)
    assert none is None
    assert first is not None
    assert second is not None
    assert (second.at, second.width, second.mark) == (2.0, 0.0, 2.0)
    assert (first.left + first.width, first.at) == (98.0, 66.0)
    assert strips([1.0]) == [None]
    assert strips([]) == []


def test_findings_are_sorted_by_severity_and_read_old_and_new() -> None:
    found = findings_of({"findings": [*filled.FINDINGS, "a sentence", 7, None]})
    assert [one["severity"] for one in found] == ["error", "warning", "warning", "note"]
    assert findings_words(found) == "1 error, 2 warnings and 1 note"
    assert findings_words([]) == ""
    assert findings_of({"findings": "x"}) == []


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["/usr/bin/netwright", "train", "my file.csv"], "netwright train 'my file.csv'"),
        (["__main__.py", "train", "a.toml"], "netwright train a.toml"),
        (["own.py", "; rm x"], "own.py '; rm x'"),
        ([], ""),
        ("x", ""),
    ],
)
def test_the_command_can_be_typed_again(command: object, text: str) -> None:
    assert command_text({"command": command}) == text


@pytest.mark.parametrize(
    "value",
    ["http://evil/x.png", "data:text/html;base64,AAAA", 'data:image/png;base64,AAAA" onerror="x', "data:image/svg+xml;base64,AAAA",
     "data:image/png;base64," + "A" * 300_000, 7, None],
)  # fmt: skip
def test_only_embedded_pictures_are_shown(value: object) -> None:
    assert picture(value) == ""
    assert picture("data:image/png;base64,AAAA") == "data:image/png;base64,AAAA"
