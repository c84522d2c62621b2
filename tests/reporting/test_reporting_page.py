"""The report page, from synthetic run folders: what it says, what it leaves out, and that nothing in it can run."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import netwright.errors
from netwright.errors import CheckpointError
from netwright.reporting.report import render_report

HOSTILE = ["<script>alert(1)</script>", '"><img onerror=x>', "$a$ & {{ 7 * 7 }}", "plain"]
CURVES = [
    ["epoch", "step", "train_loss", "valid_loss", "valid_accuracy", "learning_rate", "train_seconds", "valid_seconds"],
    [1, 10, 1.5, 1.6, 0.4, 0.001, 0.2, 0.1],
    [2, 20, 0.9, 1.1, 0.6, 0.001, 0.2, 0.1],
    [3, 30, 0.5, 1.2, 0.7, 0.001, 0.2, 0.1],
]


class Elements(HTMLParser):
    """Collects the elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def a_run(**changes: Any) -> dict[str, Any]:
    layers = [
        {"path": "0", "text": "Linear(in_features=4, out_features=3)", "output": [3], "parameters": 15,
         "multiply_adds": 12, "memory_bytes": 12},
        {"path": "1", "text": "ReLU()", "output": [3], "parameters": 0, "multiply_adds": 0, "memory_bytes": 12},
    ]  # fmt: skip
    run = {
        "netwright": "0.1.0", "name": "small", "status": "done", "command": ["netwright", "train", "small.toml"],
        "started": "2026-03-01T09:30:00+00:00", "ended": "2026-03-01T09:30:05+00:00",
        "versions": {"python": "3.11.7", "torch": "2.13.0"}, "device": "cpu", "threads": 1, "engine": "eager",
        "data": {"source": "small.csv", "digest": "sha256:aa", "rows": 100, "shape": [4], "layout": "NC", "columns": [
            {"name": "age", "kind": "number", "missing": 3, "levels": None},
            {"name": "colour", "kind": "category", "missing": 0, "levels": ["red", "green"]},
        ]},
        "split": {"digest": "sha256:bb", "how": "stratified random", "train": 60, "valid": 20, "test": 20},
        "task": {"kind": "multiclass", "target": ["species"], "classes": HOSTILE, "loss": "CrossEntropyLoss()"},
        "model": {"parameters": 15, "trainable": 15, "multiply_adds": 12, "memory_bytes": 24, "layers": layers},
        "best": {"epoch": 2, "step": 20, "monitor": "valid_loss", "value": 1.1}, "epochs": 3, "steps": 30,
        "seconds": {"train": 0.6, "valid": 0.3, "total": 1.0}, "notes": [],
    }  # fmt: skip
    return run | changes


def a_test(classes: Sequence[object] | None = None, **changes: Any) -> dict[str, Any]:
    accuracy = {"value": 0.9, "low": 0.71, "high": 0.98}
    test: dict[str, Any] = {"n": 20, "looks": 1, "weights": "best (epoch 2)", "metrics": {"accuracy": accuracy}}
    if classes is not None:
        matrix = [[5 if row == column else int(column == row + 1) for column in range(len(classes))]
                  for row in range(len(classes))]  # fmt: skip
        test["confusion"] = {"classes": list(classes), "matrix": matrix}
    return test | changes


def a_folder(
    place: Path,
    run: object,
    test: object = None,
    history: Sequence[Sequence[object]] | None = CURVES,
    predictions: Sequence[Sequence[object]] | None = None,
) -> Path:
    (place / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (place / "config.toml").write_text('[data]\nsource = "</pre><script>small.csv"\n', encoding="utf-8")
    if test is not None:
        (place / "test.json").write_text(json.dumps(test), encoding="utf-8")
    for name, rows in (("history.csv", history), ("predictions.csv", predictions)):
        if rows is not None:
            with (place / name).open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows(rows)
    return place


def regression_run(*targets: str, **changes: Any) -> dict[str, Any]:
    return a_run(task={"kind": "regression", "target": list(targets), "classes": [], "loss": "MSELoss()"}, **changes)


def test_a_finished_run_is_summed_up_in_one_sentence_and_shown_whole(tmp_path: Path) -> None:
    page = Elements(render_report(a_folder(tmp_path, a_run(), a_test(["a", "b", "c"]))))
    expected = (
        "Multiclass classification into 4 classes of species on small.csv, with 60 rows to train, 20 to validate and "
        "20 to test; weights of epoch 2 of 3, where valid_loss was best (1.1); test accuracy 0.90 (0.71 to 0.98) on "
        "n = 20, the test set looked at once."
    )
    assert expected in page.text
    for words in ("train_loss", "best: epoch 2", "Most frequent confusions", "(N, 3)", "3.0%", "2: red, green",
                  "sha256:bb", "netwright train small.toml", "2.13.0", "15 trainable"):  # fmt: skip
        assert words in page.text, words


def test_nothing_in_the_page_runs_or_is_fetched_whatever_the_names_are(tmp_path: Path) -> None:
    hostile = HOSTILE[0] + HOSTILE[1]
    layers = [{"path": hostile, "text": f"{hostile}(a={hostile})", "output": [3], "parameters": 1}]
    run = a_run(name=hostile, notes=[hostile], device=hostile, engine=hostile, command=[hostile], started=hostile,
                versions={hostile: hostile}, model={"layers": layers}, status=hostile,
                data={"source": hostile, "rows": 9, "shape": [4], "layout": hostile, "digest": hostile, "columns": [
                    {"name": hostile, "kind": hostile, "missing": 1, "levels": [hostile]}]},
                split={"how": hostile, "train": hostile, "valid": 2, "test": 2})  # fmt: skip
    test = a_test(HOSTILE, weights=hostile, metrics={hostile: {"value": 1.0}})
    page = render_report(a_folder(tmp_path, run, test))
    elements = Elements(page)
    assert not {tag for tag, _ in elements.found} & {"img", "iframe", "object", "link", "form", "base"}
    assert [tag for tag, _ in elements.found].count("script") == 1
    for tag, attributes in elements.found:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "xlink:href"):
                assert str(value).startswith(("#", "data:image/png;base64,")), (tag, value)
    assert "http" not in page.replace("http-equiv", "").replace('"http://www.w3.org/2000/svg"', "")
    assert HOSTILE[0] in elements.text
    assert HOSTILE[2] in elements.text


def test_the_pages_own_policy_lets_only_its_own_script_run_and_no_request_out(tmp_path: Path) -> None:
    page = render_report(a_folder(tmp_path, a_run()))
    metas = [entry for tag, entry in Elements(page).found if tag == "meta"]
    policy = next(meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert len(script) == 1
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def test_a_run_that_was_not_tested_says_so(tmp_path: Path) -> None:
    page = Elements(render_report(a_folder(tmp_path, a_run())))
    assert "The test set has not been looked at, so nothing is known about new data." in page.text
    assert "not tested yet." in page.text


def test_several_looks_at_the_test_set_are_named(tmp_path: Path) -> None:
    page = Elements(render_report(a_folder(tmp_path, a_run(), a_test(looks=4))))
    assert "The test set has been looked at 4 times." in page.text
    assert "the test set looked at 4 times." in page.text


def test_a_regression_draws_predictions_and_residuals(tmp_path: Path) -> None:
    rows = [["row", "target", "prediction"], *([number, number * 2.0, number * 2.1] for number in range(20))]
    test = a_test(metrics={"rmse": {"value": 48211.26, "low": 46500.2, "high": 50120.0}})
    page = Elements(render_report(a_folder(tmp_path, regression_run("price"), test, predictions=rows)))
    assert "Regression of price on small.csv" in page.text
    assert "test rmse 48,211 (46,500 to 50,120)" in page.text
    assert "prediction = true value" in page.text
    assert "Residuals against predictions" in page.text
    assert "rows are drawn" not in page.text


def test_many_rows_are_thinned_out_and_it_is_said(tmp_path: Path) -> None:
    rows = [["row", "target", "prediction"], *([number, number, number + 1] for number in range(12001))]
    page = Elements(render_report(a_folder(tmp_path, regression_run("price"), a_test(), predictions=rows)))
    assert "1,715 of 12,001 rows are drawn as points, evenly taken from the file." in page.text


def test_several_targets_are_drawn_up_to_four(tmp_path: Path) -> None:
    names = ["height", "weight", "age", "<b>size", "speed"]
    head = ["row", *(f"{part}_{name}" for name in names for part in ("target", "prediction"))]
    rows = [head, *([number, *([number, number + 0.5] * len(names))] for number in range(9))]
    page = Elements(render_report(a_folder(tmp_path, regression_run(*names), a_test(), predictions=rows)))
    assert page.text.count("predicted against true values") == 4
    assert "<b>size: residuals against predictions" in page.text
    assert "1 more targets are not drawn" in page.text


def test_a_regression_without_predictions_says_so(tmp_path: Path) -> None:
    page = Elements(render_report(a_folder(tmp_path, regression_run("price"), a_test())))
    assert "There are no predictions of the test rows in this folder" in page.text


def test_forty_classes_are_drawn_without_numbers_in_the_cells(tmp_path: Path) -> None:
    page = Elements(render_report(a_folder(tmp_path, a_run(), a_test(range(40)))))
    assert "Above 30 classes the cells carry no numbers." in page.text
    images = [entry for tag, entry in page.found if tag == "image"]
    assert len(images) == 1
    assert str(images[0]["href"]).startswith("data:image/png;base64,")


def test_a_run_without_a_validation_set_says_what_that_costs(tmp_path: Path) -> None:
    history = [[cell for place, cell in enumerate(row) if place not in (3, 4, 7)] for row in CURVES]
    run = a_run(best=None, split={"how": "random", "train": 80, "valid": 0, "test": 20})
    page = Elements(render_report(a_folder(tmp_path, run, a_test(), history)))
    assert "There is no validation set: nothing says when to stop" in page.text
    assert "Nothing was measured on validation rows during training." in page.text
    assert "weights of the last of 3 epochs" in page.text


def test_missing_values_and_torn_rows_of_the_history_are_named(tmp_path: Path) -> None:
    history = [*CURVES[:2], [2, 20, "nan", 1.1, 0.6, 0.001, 0.2, 0.1], CURVES[3], [4, 40, 0.1]]
    page = Elements(render_report(a_folder(tmp_path, a_run(), a_test(), history)))
    assert "train_loss is not a finite number in 1 of 3 epochs" in page.text
    assert "1 of 4 rows have not 8 cells and were left out" in page.text


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (None, "No epoch has finished yet, so there are no curves."),
        (CURVES[:1], "No epoch has finished yet, so there are no curves."),
        (CURVES[:2], "One epoch makes no curve; its figures: train_loss 1.5, valid_loss 1.6, valid_accuracy 0.4."),
        ([CURVES[0], *([number, number, *["nan"] * 6] for number in (1, 2))], "The history holds no finite loss."),
    ],
)
def test_a_history_too_short_for_a_curve_is_told_in_words(tmp_path: Path, history: Any, words: str) -> None:
    page = Elements(render_report(a_folder(tmp_path, a_run(status="running", best=None), history=history)))
    assert words in page.text
    assert "This run has not ended" in page.text


def test_a_record_with_nothing_but_a_status_still_makes_a_page(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "failed", "data": 7, "model": null, "split": []}')
    (tmp_path / "test.json").write_text('{"n": 3')
    page = Elements(render_report(tmp_path))
    for words in ("This run failed before its end", "test.json could not be read", "no config.toml",
                  "The layers of this network are not recorded."):  # fmt: skip
        assert words in page.text, words


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (None, "no run (run.json: No such file or directory); expected a run folder"),
        ("{", "run.json: not JSON (Expecting property name"),
        ("[1]", "run.json: holds a JSON list; expected an object"),
        ('{"nothing": 1}', "run.json: has no status (it has nothing); expected the run.json"),
    ],
)
def test_an_unusable_run_record_is_explained(tmp_path: Path, written: str | None, words: str) -> None:
    if written is not None:
        (tmp_path / "run.json").write_text(written)
    with pytest.raises(CheckpointError) as caught:
        render_report(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert words in str(caught.value)


def test_the_same_folder_gives_the_same_page_and_nothing_is_written(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, a_run(), a_test(["a", "b"]))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert render_report(folder) == render_report(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_report_never_imports_torch_or_pyplot() -> None:
    modules = ", ".join(f"netwright.reporting.{name}" for name in ("report", "markdown", "picture", "latex", "formats"))
    program = f"import sys, {modules}; print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    surroundings = os.environ | {"PYTHONPATH": str(Path(netwright.errors.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=surroundings)
    assert done.stdout.split() == ["False", "False"]
