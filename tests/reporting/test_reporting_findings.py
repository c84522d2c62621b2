"""What a reader must not miss: guessing, few rows, failures, sideways tables, readable colours and plain words."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from netwright.reporting.chance import baseline_sentence, guessing_sentence, guessing_warnings
from netwright.reporting.plots import FAINTEST_CELL, STRONGEST_CELL, confusion_svg
from netwright.reporting.report import render_report
from netwright.reporting.wording import layout_text


def a_test(matrix: list[list[int]], accuracy: Any, classes: tuple[str, ...] = ("yes", "no", "rare")) -> dict[str, Any]:
    return {
        "n": sum(map(sum, matrix)), "looks": 1, "weights": "best (epoch 2)", "metrics": {"accuracy": accuracy},
        "confusion": {"classes": list(classes[: len(matrix)]), "matrix": matrix},
    }  # fmt: skip


def a_page(folder: Path, test: object = None, predictions: str | None = None, settings: str = "", **changes: Any) -> str:
    run = {"name": "small", "status": "done", "task": {"kind": "multiclass", "target": ["x"], "classes": ["yes", "no"]}}
    (folder / "run.json").write_text(json.dumps(run | changes))
    (folder / "config.toml").write_text(settings)
    if test is not None:
        (folder / "test.json").write_text(json.dumps(test))
    if predictions is not None:
        (folder / "predictions.csv").write_text(predictions)
    return render_report(folder)


def body_of(page: str) -> str:
    return page[page.index("<body>") :]


def test_what_always_guessing_the_largest_class_would_reach_stands_beside_the_accuracy(tmp_path: Path) -> None:
    test = a_test([[95, 4], [0, 1]], {"value": 0.96, "low": 0.9, "high": 0.99})
    assert guessing_sentence(test) == "Always guessing ‘yes’ would reach an accuracy of 0.99."
    assert "Always guessing ‘yes’ would reach an accuracy of 0.99." in a_page(tmp_path, test)
    assert guessing_sentence({"metrics": {"accuracy": 0.9}}) == guessing_sentence(None) == ""
    assert guessing_sentence(a_test([[0, 0], [0, 0]], 0.5)) == ""


@pytest.mark.parametrize(
    ("accuracy", "warning"),
    [
        ({"value": 0.58, "low": 0.5, "high": 0.6}, "The accuracy of 0.58 is below that of always guessing ‘yes’ (0.6)"),
        (
            {"value": 0.65, "low": 0.55, "high": 0.75},
            "The accuracy of 0.65 is not clearly above that of always guessing ‘yes’",
        ),
        ({"value": 0.65, "low": 0.6, "high": 0.75}, "The accuracy of 0.65 is not clearly above"),
        ({"value": 0.6}, "The accuracy of 0.6 is not clearly above"),
        (0.58, "The accuracy of 0.58 is below"),
        ({"value": 0.9, "low": 0.85, "high": 0.95}, None),
        ({"value": 0.65}, None),
        (None, None),
    ],
)
def test_an_accuracy_no_better_than_guessing_is_a_warning(tmp_path: Path, accuracy: Any, warning: str | None) -> None:
    test = a_test([[50, 10], [20, 20]], accuracy)
    found = guessing_warnings(test)
    assert [text[: len(warning or "")] for text in found] == ([warning] if warning else [])
    page = body_of(a_page(tmp_path, test))
    assert ("Warnings about the test" in page) == bool(warning)


def test_a_rare_second_class_sends_the_reader_to_the_average_precision() -> None:
    warned = guessing_warnings(a_test([[960, 0], [10, 30]], {"value": 0.99, "low": 0.98, "high": 1.0}))
    assert warned == [
        "Only 0.04 of the test rows are ‘no’: read average_precision (by chance 0.04) and roc_auc (by chance 0.5) rather than "
        "accuracy."
    ]
    assert guessing_warnings(a_test([[940, 0], [30, 30]], {"value": 0.97, "low": 0.96, "high": 0.98})) == []


def a_test_of_labels(**changes: Any) -> dict[str, Any]:
    guessed = {"labels": ["a", "b"], "f1_micro": 0.4, "f1_macro": 0.2, "subset_accuracy": 0.1, "hamming_loss": 0.5}
    exact = {"value": 0.3, "low": 0.2, "high": 0.4}
    table = [
        {"label": "rare", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2},
        {"label": "<b>", "precision": 0.5, "recall": 1.0, "f1": 0.6667, "support": 30},
    ]
    return {
        "n": 40, "looks": 1, "weights": "best (epoch 2)", "labels": table, "baselines": {"most_frequent": guessed},
        "metrics": {"f1_micro": {"value": 0.7, "low": 0.6, "high": 0.8}, "subset_accuracy": exact},
        "notes": ["roc_auc is told of 1 of 2 labels"],
    } | changes  # fmt: skip


def test_labels_have_a_table_and_stand_beside_their_most_frequent_set(tmp_path: Path) -> None:
    sentence = (
        "Always guessing the most frequent set of labels (‘a’, ‘b’) would reach f1_micro 0.4, f1_macro 0.2, subset_accuracy "
        "0.1, hamming_loss 0.5."
    )
    assert baseline_sentence(a_test_of_labels()) == sentence
    nothing = a_test_of_labels()["baselines"]["most_frequent"] | {"labels": []}
    assert "set of labels (none) would" in baseline_sentence(a_test_of_labels(baselines={"most_frequent": nothing}))
    task = {"kind": "multilabel", "target": ["tags"], "classes": ["rare", "<b>"]}
    page = body_of(a_page(tmp_path, a_test_of_labels(), task=task))
    for words in ("Multilabel classification into 2 labels of tags", "Interval of the subset_accuracy: Wilson", sentence,
                  "Other intervals: infinitesimal jackknife over the test rows", "roc_auc is told of 1 of 2 labels.",
                  "75.0%"):  # fmt: skip
        assert words in page
    assert page.index("&lt;b&gt;") < page.index(">rare<"), "the most frequent label first"
    many = [{"label": f"l{place}", "precision": 1, "recall": 1, "f1": 1, "support": place} for place in range(60)]
    page = body_of(a_page(tmp_path, a_test_of_labels(labels=many), task=task))
    assert "10 more labels are in test.json." in page
    assert ">l59<" in page
    assert ">l9<" not in page
    assert "<caption>Labels</caption>" not in a_page(tmp_path, a_test_of_labels(labels=["x"]), task=task)


@pytest.mark.parametrize(
    ("value", "high", "words"),
    [(1.2, 1.5, "beats it."), (1.2, 2.5, "no sure gain."), (2.5, 3.0, "does not beat it."), (1.2, None, "beats it.")],
)
def test_counts_stand_beside_their_mean(value: float, high: float | None, words: str) -> None:
    metric = {"value": value} | ({} if high is None else {"low": 1.0, "high": high})
    test = {"metrics": {"mean_poisson_deviance": metric}, "baselines": {"mean": {"mean_poisson_deviance": 2.0}}}
    found = baseline_sentence(test)
    assert found.startswith("Always predicting the mean of the train rows gives mean_poisson_deviance 2; the network's")
    assert found.endswith(words)


def test_classes_with_fewer_than_five_test_rows_are_named() -> None:
    test = a_test([[90, 0, 0], [0, 5, 0], [1, 0, 3]], {"value": 0.99, "low": 0.97, "high": 1.0})
    assert guessing_warnings(test) == [
        "Fewer than 5 test rows: rare (4). Figures that weigh all classes alike hang on these few."
    ]
    many = [[90 if row == column == 0 else 0 for column in range(9)] for row in range(9)]
    named = guessing_warnings(a_test(many, {"value": 1.0}, tuple("abcdefghi")))
    assert named[-1].startswith("Fewer than 5 test rows: b (0), c (0), d (0), e (0), f (0), g (0) and 2 more.")


def test_hostile_class_names_in_the_sentences_are_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    page = a_page(tmp_path, a_test([[9, 0], [2, 0]], {"value": 0.5}, (hostile, "<img src=x>")))
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "Always guessing ‘&lt;script&gt;" in page


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_why_a_run_failed_stands_first_and_in_red(tmp_path: Path, status: str) -> None:
    page = a_page(tmp_path, status=status, why="ValueError: <b>no</b> {room}")
    assert "(ValueError: &lt;b&gt;no&lt;/b&gt; {room})" in page
    assert re.search(rf'<li class="bad">This run {status}', page)


def test_a_failure_without_a_reason_is_told_without_brackets(tmp_path: Path) -> None:
    assert "This run failed before its end; the figures are of what was finished." in a_page(tmp_path, status="failed")


def test_figures_without_an_interval_get_a_footnote(tmp_path: Path) -> None:
    metrics = {"loss": {"value": 0.2}, "accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}, "f1_macro": {"value": 0.4}}
    page = body_of(a_page(tmp_path, {"n": 20, "looks": 1, "metrics": metrics}))
    assert re.search(
        r'f1_macro <span class="quiet">†</span></th><td class="number">0.4</td><td class="number quiet"></td>', page
    )
    assert page.count("†") == 2
    assert "† no interval: too few rows." in page
    assert "Wilson" in page
    assert "bootstrap" not in page


def test_no_figure_with_an_interval_needs_no_column(tmp_path: Path) -> None:
    page = body_of(a_page(tmp_path, {"n": 4, "looks": 1, "metrics": {"loss": 0.2, "rmse": {"value": 3.0}}}))
    assert "No interval: too few rows." in page
    assert "95 % interval" not in page
    assert "†" not in page


def test_every_figure_with_an_interval_needs_no_footnote(tmp_path: Path) -> None:
    metrics = {"loss": {"value": 0.2}, "rmse": {"value": 3.0, "low": 2.0, "high": 4.0}}
    page = body_of(a_page(tmp_path, {"n": 40, "looks": 1, "metrics": metrics}))
    assert "too few rows" not in page
    assert " Intervals: bootstrap over the test rows, 1,000 resamples." in page


def test_tables_wider_than_a_phone_scroll_and_say_so(tmp_path: Path) -> None:
    layers = [{"path": "0", "text": "Linear(4)", "output": [4], "parameters": 20}]
    columns = [{"name": "age", "kind": "number", "missing": 0, "levels": None}]
    page = a_page(tmp_path, model={"layers": layers}, data={"rows": 9, "shape": [4], "columns": columns})
    assert page.count('class="scroll wide" tabindex="0" role="group"') == 2
    assert page.count("Scroll the table sideways for more columns →") == 2
    assert "@container (max-width" in page


def test_a_regression_has_three_drawings_per_target(tmp_path: Path) -> None:
    task = {"kind": "regression", "target": ["a", "b"], "classes": []}
    test = {"n": 3, "looks": 1, "metrics": {"rmse": {"value": 3.0}}}
    rows = "row,target_a,prediction_a,target_b,prediction_b\n0,1,2,3,4\n1,2,3,4,5\n"
    page = body_of(a_page(tmp_path, test, rows, task=task))
    assert page.count('<div class="grid values three">') == 2
    assert page.count("against true values</figcaption>") == page.count(", how often</figcaption>") == 2
    assert page.count("<div") == page.count("</div>")
    (tmp_path / "predictions.csv").unlink()
    page = body_of(a_page(tmp_path, test, task=task))
    assert "There are no predictions of the test rows" in page
    assert page.count("<div") == page.count("</div>")


@pytest.mark.parametrize(
    ("layout", "shape", "text"),
    [
        ("NC", [9], "one row is 9 features"),
        ("NC", [1], "one row is 1 feature"),
        ("NT", [50], "one row is 50 time steps"),
        ("NTC", [50, 3], "one row is 50 time steps of 3 features"),
        ("NCT", [1, 500], "one row is 1 channel of 500 time steps"),
        ("NCHW", [3, 8, 16], "one row is 3 channels of 8 × 16 pixels"),
        ("NHWC", [8, 16, 3], "one row is 3 channels of 8 × 16 pixels"),
        ("NCDHW", [1, 5, 8, 9], "one row is 1 channel of 5 slices of 8 × 9 pixels"),
        ("NC", [9, 9], "NC"),
        ("NC", None, "NC"),
        ("XY", [9], "XY"),
        (None, [9], ""),
        (7, [9], ""),
    ],
)
def test_the_code_of_a_layout_is_put_into_words(layout: object, shape: object, text: str) -> None:
    assert layout_text(layout, shape) == text


def test_the_words_of_a_layout_stand_beside_the_shape(tmp_path: Path) -> None:
    page = a_page(tmp_path, data={"rows": 9, "shape": [9], "layout": "NC"})
    assert '(N, 9)<span class="quiet words">: one row is 9 features</span>' in page


def test_very_long_settings_are_shown_in_part(tmp_path: Path) -> None:
    page = a_page(tmp_path, settings="x = 1\n" * 50_000)
    assert len(page) < 150_000
    assert "Only the beginning is shown" in page
    assert "Only the beginning is shown" not in a_page(tmp_path, settings="x = 1\n")


def luminance(colour: tuple[float, ...]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_the_counts_of_a_confusion_matrix_are_readable_in_light_and_dark(scheme: int) -> None:
    style = resources.files("netwright.reporting").joinpath("templates/style.css.jinja").read_text(encoding="utf-8")
    block = re.findall(r"\{% macro (?:light|dark)\(\) %\}(.*?)\{% endmacro %\}", style, re.DOTALL)[scheme]
    colours = {
        name: tuple(int(code[place : place + 2], 16) / 255 for place in (0, 2, 4))
        for name, code in re.findall(r"--([\w-]+): #([0-9a-f]{6});", block)
    }
    pairs = "muted page, muted panel, accent page, accent care-back, accent bad-back, good good-back, care care-back, bad bad-back"
    for name, back in (pair.split() for pair in f"{pairs}, bad page, care page, ink care-back, ink bad-back".split(", ")):
        assert contrast(colours[name], colours[back]) >= 4.5, (name, back)
    for share in range(101):
        alpha = FAINTEST_CELL + (STRONGEST_CELL - FAINTEST_CELL) * share / 100
        for name in ("first", "second"):
            pairs = zip(colours[name], colours["page"], strict=True)
            cell = tuple(alpha * over + (1 - alpha) * under for over, under in pairs)
            assert contrast(colours["ink"], cell) >= 4.5, (name, share)


def test_an_empty_cell_carries_a_zero_in_the_colour_of_quiet_text() -> None:
    zeros = re.findall(r"<text[^>]*>0</text>", confusion_svg(["a", "b"], [[3, 0], [0, 4]], "two"))
    assert len(zeros) == 2
    assert all("var(--muted" in zero for zero in zeros)
