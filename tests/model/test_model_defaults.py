"""The network nobody described: one per shape of data, written as a user would, and it builds and runs."""

from __future__ import annotations

import pytest
import torch

from netwright.config.calls import parse_call
from netwright.model.build import Sizes, construct, resolve
from netwright.model.defaults import MOST_NUMBERS, default_layers, series_recipe, table_recipe, window_recipe
from netwright.model.defaults_series import MOST_STEPS, convolutions
from netwright.model.layers import Form

HIDDEN = ["Linear(128)", "SiLU()", "Dropout(0.1)"]
WAVES = "PeriodicEmbeddings(16, frequencies=32, sigma=0.3)"


@pytest.mark.parametrize(
    ("form", "categories", "layers"),
    [
        (Form((10,), "NC"), False, [*HIDDEN, *HIDDEN, "Linear()"]),
        (Form((10,), "NC"), True, ["EmbedColumns()", *HIDDEN, *HIDDEN, "Linear()"]),
        (Form((9, 4), "NTC"), False, convolutions(9, time_first=True)),
        (Form((4, 9), "NCT"), False, convolutions(9)),
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


@pytest.mark.parametrize(("numbers", "first"), [(0, []), (1, [WAVES]), (MOST_NUMBERS, [WAVES]), (MOST_NUMBERS + 1, [])])
def test_numbers_of_a_table_are_embedded_up_to_a_width(numbers: int, first: list[str]) -> None:
    form = Form((numbers + 3,), "NC")
    assert default_layers(form, True, numbers=numbers) == ["EmbedColumns()", *first, *HIDDEN, *HIDDEN, "Linear()"]


@pytest.mark.parametrize(("rows", "activation", "sigma"), [(999, "SiLU()", 0.1), (1_000, "ReLU()", 0.3)])
def test_amounts_are_learned_without_dropout(rows: int, activation: str, sigma: float) -> None:
    recipe = table_recipe(rows, amounts=True)
    found = default_layers(Form((4,), "NC"), False, numbers=4, recipe=recipe)
    waves = f"PeriodicEmbeddings(16, frequencies=32, sigma={sigma})"
    assert found == [waves, "Linear(128)", activation, "Linear(128)", activation, "Linear()"]


def test_a_small_table_gets_small_batches_and_more_epochs_than_a_large_one() -> None:
    recipes = [table_recipe(rows, amounts=False) for rows in (1, 100, 1_000, 5_000, 30_000, 10**7)]
    assert [recipe.batch_size for recipe in recipes] == [32, 32, 32, 256, 256, 256]
    assert [recipe.patience for recipe in recipes] == [100, 100, 22, 35, 8, 8]
    assert all(recipe.epochs >= 200 and recipe.epochs >= 10 * recipe.patience for recipe in recipes)


def test_sequences_that_are_padded_are_normalised_per_step_and_those_answered_per_step_read_by_a_recurrent_layer() -> None:
    form = Form((4, 9), "NCT")
    padded = default_layers(form, False, padded=True)
    assert padded[1:4] == ["Transpose()", "LayerNorm()", "Transpose()"]
    assert "BatchNorm1d" not in "".join(padded)
    assert default_layers(form, False, per_step=True) == ["Transpose()", "GRU(64)", "Linear()"]


def test_convolutions_of_several_lengths_stand_side_by_side_as_far_as_a_series_reaches() -> None:
    assert [text.partition("(")[0] for text in convolutions(150)] == [
        "Parallel", "BatchNorm1d", "ReLU", "Residual", "Residual", "AdaptiveAvgPool1d", "Flatten", "Linear",
    ]  # fmt: skip
    assert [size for size in (9, 19, 39) if f"kernel_size={size}," in convolutions(150)[0]] == [9, 19, 39]
    assert [size for size in (9, 19, 39) if f"kernel_size={size}," in convolutions(10)[0]] == [9, 19]
    assert convolutions(3)[0] == "Parallel([Conv1d(16, kernel_size=1), Conv1d(16, kernel_size=5, padding=2)])"


@pytest.mark.parametrize(("steps", "stride"), [(MOST_STEPS + 1, 2), (5_000, 10), (100_000, 196)])
def test_a_long_series_is_shortened_by_the_first_layer(steps: int, stride: int) -> None:
    first = convolutions(steps)[0]
    assert first == f"Conv1d(64, kernel_size={2 * stride + 1}, stride={stride}, padding={stride})"
    calls = [parse_call(text, "model.layers") for text in convolutions(steps)]
    assert resolve(calls, Form((1, steps), "NCT"), Sizes(2)).layers[0].form.shape[1] <= MOST_STEPS


def test_few_series_are_seen_often_and_many_in_a_fixed_number_of_epochs() -> None:
    recipes = [series_recipe(rows) for rows in (1, 50, 500, 5_000, 100_000)]
    assert [recipe.batch_size for recipe in recipes] == [16, 16, 16, 256, 256]
    assert [recipe.epochs for recipe in recipes] == [300, 300, 300, 40, 10]
    assert all(recipe.fixed and recipe.schedule == "WarmupCosine(warmup=0.1)" for recipe in recipes)


@pytest.mark.parametrize(
    ("rows", "amounts", "layers"),
    [
        (60, True, ["Flatten()", "Linear()"]),
        (1_000, True, ["Parallel([Flatten(), Sequential([GRU(64), LastStep()])])", "Linear()"]),
        (60, False, ["GRU(64)", "LastStep()", "Linear()"]),
    ],
)
def test_windows_go_on_along_a_line(rows: int, amounts: bool, layers: list[str]) -> None:
    assert default_layers(Form((12, 3), "NTC"), False, recipe=window_recipe(rows, amounts)) == layers


@pytest.mark.parametrize("outputs", [1, 7])
@pytest.mark.parametrize(
    "form",
    [
        *(Form((width,), "NC") for width in (1, 2, 500)),
        *(Form(shape, "NTC") for shape in ((1, 1), (9, 4))),
        *(Form(shape, "NCT") for shape in ((1, 1), (1, 3), (3, 4), (9, 187), (100, 5_000))),
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
    calls = [parse_call(text, "model.layers") for text in default_layers(form, categories=True, numbers=2)]
    resolved = resolve(calls, form, Sizes(2, None, (3, 9), 2))
    assert str(resolved.calls[0]) == "EmbedColumns(levels=[3, 9], dimensions=[2, 5])"
    assert str(resolved.calls[1]) == "PeriodicEmbeddings(dimension=16, frequencies=32, sigma=0.3, columns=2)"
    assert str(resolved.calls[2]) == "Linear(in_features=40, out_features=128)"
    assert construct(resolved.calls)(torch.ones(4, 5)).shape == (4, 2)


@pytest.mark.parametrize(("sides", "blocks"), [((3, 3), 1), ((8, 8), 3), ((64, 64), 3), ((4, 4), 2), ((64, 5), 2)])
def test_blocks_are_added_until_the_smallest_side_is_used_up(sides: tuple[int, int], blocks: int) -> None:
    layers = default_layers(Form((1, *sides), "NCHW"), categories=False)
    assert sum(text.startswith("Conv2d(") for text in layers) == blocks
