"""The drawings of a report: sound XML, escaped texts, the same bytes twice, and the right things in them."""

from __future__ import annotations

import math
import threading
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import pytest

from netwright.reporting.canvas import house_style, plane
from netwright.reporting.diagram import diagram_svg
from netwright.reporting.families import arguments_text, family_of
from netwright.reporting.plots import confusion_svg, curves_svg, predicted_svg, residual_svg
from netwright.reporting.wording import duration_text, figure_text, shape_text, size_text

HOSTILE = "\"><script>alert(1)</script>&'$x_1$"


def words_of(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not [node for node in root.iter() if node.tag.endswith("script")]
    return "\n".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith(("text", "tspan", "title")))


def a_layer(path: str, text: str, parameters: int = 0) -> dict[str, object]:
    return {"path": path, "text": text, "output": [32, 8, 8], "parameters": parameters}


def test_a_diagram_names_layers_shapes_and_parameters() -> None:
    layers = [a_layer("0", "Conv2d(in_channels=1, out_channels=32, kernel_size=(3, 3))", 320), a_layer("1", "ReLU()")]
    words = words_of(diagram_svg(layers, [1, 8, 8], "digits"))
    for expected in ("digits", "input (N, 1, 8, 8)", "Conv2d", "1 → 32, kernel_size=(3, 3)", "320 parameters",
                     "(N, 32, 8, 8)", "output (N, 32, 8, 8)", "convolution", "activation"):  # fmt: skip
        assert expected in words, expected


@pytest.mark.parametrize("count", [0, 1, 200])
def test_a_diagram_grows_with_the_network(count: int) -> None:
    svg = diagram_svg([a_layer(str(number), "Linear(in_features=4, out_features=4)", 20) for number in range(count)],
                      [4], "tall")  # fmt: skip
    root = ElementTree.fromstring(svg)
    assert float(root.attrib["height"]) > 48 * count
    assert svg.count('class="nd-box"') == count


def test_nested_layers_are_drawn_inside_frames_narrower_at_each_depth() -> None:
    layers = [a_layer("0", "ReLU()"), a_layer("2", "Residual()"), a_layer("2.0.body.1", "Linear(4, 4)", 20)]
    svg = diagram_svg(layers, [4], "nested")
    root = ElementTree.fromstring(svg)
    frames = [node for node in root.iter() if node.attrib.get("class") == "nd-frame"]
    widths = [float(frame.attrib["width"]) for frame in frames]
    assert len(frames) == 3
    assert widths == sorted(widths, reverse=True)
    assert "2 Residual" in words_of(svg)
    assert svg.count('class="nd-box"') == 2


def test_a_hostile_layer_is_text_in_the_diagram() -> None:
    svg = diagram_svg([a_layer(HOSTILE, f"{HOSTILE}({HOSTILE})")], [1], HOSTILE)
    assert "<script" not in svg
    assert HOSTILE in words_of(svg)


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("Conv2d(1, 2)", "convolution"), ("ConvTranspose1d(1, 2)", "convolution"), ("LSTM(4, 8)", "recurrent"),
        ("Linear(1, 2)", "linear"), ("BatchNorm2d(8)", "normalisation"), ("LayerNorm((8,))", "normalisation"),
        ("GroupNorm(2, 8)", "normalisation"), ("RMSNorm((8,))", "normalisation"), ("ReLU()", "activation"),
        ("LeakyReLU(0.1)", "activation"), ("Softmax(dim=1)", "activation"), ("GELU()", "activation"),
        ("Hardswish()", "activation"), ("MaxPool2d(2)", "pooling"), ("AdaptiveAvgPool1d(1)", "pooling"),
        ("Dropout(p=0.5)", "dropout"), ("Flatten()", "reshape"), ("ZeroPad2d(1)", "reshape"),
        ("MultiheadAttention(8, 2)", "attention"), ("MyBlock(3)", "other"), ("", "other"),
    ],
)  # fmt: skip
def test_a_layer_belongs_to_the_family_of_its_name(text: str, family: str) -> None:
    assert family_of(text) == family


def test_arguments_are_told_in_short_without_losing_brackets() -> None:
    assert arguments_text("Linear(in_features=4, out_features=2, bias=False)") == "4 → 2, bias=False"
    assert arguments_text("Conv2d(3, 8, kernel_size=(3, 5))") == "3, 8, kernel_size=(3, 5)"
    assert arguments_text("ReLU") == ""


def test_curves_name_their_series_mark_the_best_epoch_and_leave_gaps() -> None:
    series = {"train_loss": [2.0, math.nan, 0.01], HOSTILE: [2.0, 1.0, 0.5]}
    words = words_of(curves_svg([1, 2, 3], series, 2, HOSTILE, HOSTILE))
    for expected in ("train_loss", HOSTILE, "best: epoch 2", "logarithmic scale"):
        assert expected in words, expected


def test_a_confusion_matrix_writes_counts_and_hostile_class_names_as_text() -> None:
    svg = confusion_svg(["<script>", "b"], [[17, 0], [4, 123]], "two classes")
    words = words_of(svg)
    for expected in ("<script>", "17", "123", "true class", "predicted class"):
        assert expected in words, expected
    assert "<script" not in svg


def test_a_class_without_test_rows_leaves_its_row_empty() -> None:
    assert words_of(confusion_svg(["a", "b", "c"], [[3, 0, 0], [0, 0, 0], [1, 0, 2]], "gap"))


@pytest.mark.parametrize("size", [2, 13, 30, 31, 100])
def test_a_confusion_matrix_is_sound_at_every_size(size: int) -> None:
    matrix = [[7 if row == column else (row + column) % 11 == 0 for column in range(size)] for row in range(size)]
    svg = confusion_svg([f"類 {number}" for number in range(size)], matrix, "many")
    assert ("<image" in svg) == (size > 30)
    assert words_of(svg)


@pytest.mark.parametrize("draw", [predicted_svg, residual_svg])
@pytest.mark.parametrize("true", [[], [1.0], [-2e6, 0.0, 3e7]])
def test_point_plots_are_sound_for_no_row_one_row_and_large_values(draw: object, true: list[float]) -> None:
    assert callable(draw)
    assert words_of(draw(true, [value * 1.1 for value in true], "points"))


def test_drawings_are_the_same_twice_and_do_not_follow_the_users_settings() -> None:
    first = predicted_svg([1.0, 2.0], [1.5, 2.5], "points")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        second = predicted_svg([1.0, 2.0], [1.5, 2.5], "points")
        assert matplotlib.rcParams["font.size"] == 30
    assert first == second
    assert "#01020" not in first
    assert "var(--first" in first


def test_figures_are_worded_for_readers() -> None:
    assert [figure_text(value) for value in (0.07123, 48211.26, 0, math.nan, None, True)] == [
        "0.07123", "48,211", "0", "not a finite number", "not recorded", "not recorded"]  # fmt: skip
    assert [duration_text(value) for value in (0.42, 5, 200, 7500, "x")] == [
        "0.42 s", "5.0 s", "3 min 20 s", "2 h 05 min", "not recorded"]  # fmt: skip
    assert [size_text(value) for value in (12, 8192, 3 * 1024**3)] == ["12 B", "8.0 KiB", "3.0 GiB"]
    assert [shape_text(value) for value in ([], [3, None], [[1], [2, 3]], None)] == [
        "(N)", "(N, 3, ?)", "(N, 1) and (N, 2, 3)", "shape not known"]  # fmt: skip


def test_drawings_of_several_threads_wait_for_each_other() -> None:
    before, entered = dict(matplotlib.rcParams), threading.Event()

    def draw() -> None:
        with house_style("second"):
            entered.set()

    with ThreadPoolExecutor(1) as pool, house_style("first"):
        drawn = pool.submit(draw)
        assert not entered.wait(0.1)
        plane(3.0, 2.0)
    drawn.result()
    assert entered.is_set()
    assert dict(matplotlib.rcParams) == before
