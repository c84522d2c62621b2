"""The network nobody described: one per shape of data, written as a user would, and it builds and runs."""

from __future__ import annotations

import pytest
import torch

from netwright.config.calls import parse_call
from netwright.model.build import Sizes, construct, resolve
from netwright.model.defaults import default_layers
from netwright.model.layers import Form

HIDDEN = ["Linear(128)", "ReLU()", "Dropout(0.1)"]


@pytest.mark.parametrize(
    ("form", "categories", "layers"),
    [
        (Form((10,), "NC"), False, [*HIDDEN, *HIDDEN, "Linear()"]),
        (Form((10,), "NC"), True, ["EmbedColumns()", *HIDDEN, *HIDDEN, "Linear()"]),
        (Form((9, 4), "NTC"), False, ["GRU(64)", "LastStep()", "Linear()"]),
        (Form((8, 8), None), False, ["Flatten()", "Linear(128)", "ReLU()", "Linear()"]),
        (
            Form((1, 3, 3), "NCHW"),
            False,
            ["Conv2d(32, kernel_size=3, padding=1)", "BatchNorm2d()", "ReLU()", "AdaptiveAvgPool2d(1)", "Flatten()",
             "Dropout(0.2)", "Linear()"],
        ),
    ],
)  # fmt: skip
def test_each_layout_has_its_usual_network(form: Form, categories: bool, layers: list[str]) -> None:
    assert default_layers(form, categories) == layers


def test_sequences_with_channels_first_that_are_padded_or_answered_per_step_are_read_by_a_recurrent_layer() -> None:
    form = Form((4, 9), "NCT")
    assert default_layers(form, False, padded=True) == ["Transpose()", "GRU(64)", "LastStep()", "Linear()"]
    assert default_layers(form, False, per_step=True) == ["Transpose()", "GRU(64)", "Linear()"]


@pytest.mark.parametrize("outputs", [1, 7])
@pytest.mark.parametrize(
    "form",
    [
        *(Form((width,), "NC") for width in (1, 2, 500)),
        *(Form(shape, "NTC") for shape in ((1, 1), (9, 4))),
        *(Form(shape, "NCT") for shape in ((1, 1), (1, 3), (3, 4), (9, 187))),
        *(Form(shape, "NCHW") for shape in ((1, 1, 1), (1, 8, 8), (3, 32, 32), (3, 5, 64), (1, 1, 50))),
        *(Form(shape, "NCDHW") for shape in ((1, 2, 2, 2), (1, 8, 8, 8), (2, 16, 4, 9))),
        *(Form(shape, None) for shape in ((8, 8), (2, 3, 4, 5))),
    ],
    ids=str,
)
def test_the_usual_network_builds_and_runs_for_every_shape(form: Form, outputs: int) -> None:
    calls = [parse_call(text, "model.layers") for text in default_layers(form, categories=False)]
    resolved = resolve(calls, form, Sizes(outputs))
    assert resolved.notes == []
    assert resolved.layers[-1].form.shape == (outputs,)
    assert construct(resolved.calls)(torch.zeros(4, *form.shape)).shape == (4, outputs)


def test_the_usual_network_of_a_table_with_categories_builds() -> None:
    form = Form((5,), "NC")
    calls = [parse_call(text, "model.layers") for text in default_layers(form, categories=True)]
    resolved = resolve(calls, form, Sizes(2, None, (3, 9)))
    assert str(resolved.calls[0]) == "EmbedColumns(levels=[3, 9], dimensions=[2, 5])"
    assert str(resolved.calls[1]) == "Linear(in_features=10, out_features=128)"
    assert construct(resolved.calls)(torch.ones(4, 5)).shape == (4, 2)


@pytest.mark.parametrize(("sides", "blocks"), [((3, 3), 1), ((8, 8), 3), ((64, 64), 3), ((4, 4), 2), ((64, 5), 2)])
def test_blocks_are_added_until_the_smallest_side_is_used_up(sides: tuple[int, int], blocks: int) -> None:
    layers = default_layers(Form((1, *sides), "NCHW"), categories=False)
    assert sum(text.startswith("Conv2d(") for text in layers) == blocks
