"""The network nobody described: one per shape of data, written as a user would, and it builds and runs."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from netwright.config.calls import parse_call
from netwright.model.build import Sizes, construct, resolve
from netwright.model.defaults import MOST_NUMBERS, default_layers
from netwright.model.defaults_series import MOST_STEPS, convolutions
from netwright.model.layers import Form
from netwright.model.recipes import Recipe, image_recipe, series_recipe, table_recipe, volume_recipe, window_recipe

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
            ["Conv2d(32, kernel_size=3, padding=1, bias=False)", "BatchNorm2d()", "ReLU()", "AdaptiveMaxPool2d(1)", "Flatten()",
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


@pytest.mark.parametrize(
    ("form", "stages"),
    [
        (Form((1, 3, 3), "NCHW"), 0),
        (Form((1, 8, 8), "NCHW"), 2),
        (Form((1, 28, 28), "NCHW"), 2),
        (Form((3, 64, 5), "NCHW"), 3),
        (Form((3, 224, 224), "NCHW"), 4),
        (Form((1, 3000, 64), "NCHW"), 4),
        (Form((200, 32, 32), "NCHW"), 3),
        (Form((1, 32, 32, 32), "NCDHW"), 2),
        (Form((1, 512, 64, 512), "NCDHW"), 3),
    ],
    ids=str,
)
def test_a_network_is_as_deep_as_its_images_are_large(form: Form, stages: int) -> None:
    calls = [parse_call(text, "model.layers") for text in default_layers(form, False)]
    assert sum(call.name == "Residual" for call in calls) == stages
    resolved = resolve(calls, form, Sizes(2))
    spatial = [layer.form.shape[1:] for layer in resolved.layers if len(layer.form.shape) == len(form.shape)]
    assert max(spatial[-2]) < 4  # before the last pooling
    first = spatial[next(place for place, call in enumerate(calls) if call.name.startswith("Conv"))]
    assert math.prod(first) <= 32**3  # places of a row behind the first convolution: what takes most memory


def test_a_long_narrow_image_loses_no_place_of_its_short_side_before_the_long_one_is_as_short() -> None:
    texts = default_layers(Form((1, 5, 64), "NCHW"), False)
    assert [text for text in texts if text.startswith("MaxPool2d(")] == [
        "MaxPool2d((1, 2))", "MaxPool2d((1, 2))", "MaxPool2d((1, 2))", "MaxPool2d(2)"
    ]  # fmt: skip


def test_rows_of_images_and_volumes_are_moved_where_they_are_large_enough() -> None:
    small, large = image_recipe(100, (3, 8, 8)), image_recipe(100, (3, 28, 28))
    assert (small.shift, large.shift, volume_recipe(100, (1, 32, 32, 32)).shift) == (0, 2, 1)
    form = Form((3, 28, 28), "NCHW")
    assert default_layers(form, False, recipe=large) == ["RandomShift(2)", *default_layers(form, False, recipe=small)]
    form, recipe = Form((1, 16, 20, 16), "NCDHW"), volume_recipe(100, (1, 16, 20, 16))
    assert default_layers(form, False, recipe=recipe) == [
        "RandomShift(1)",
        "RandomStretch(1.2)",
        *default_layers(form, False),
    ]
    assert volume_recipe(100, (1, 15, 20, 16)).stretch == image_recipe(100, (3, 28, 28)).stretch == 1.0


@pytest.mark.parametrize(("recipe", "epochs"), [(image_recipe, [60, 60, 12, 10, 10]), (volume_recipe, [60, 60, 28, 10, 10])])
def test_few_images_are_seen_often_in_small_batches_and_many_ten_times(
    recipe: Callable[..., Recipe], epochs: list[int]
) -> None:
    recipes = [recipe(rows, (1, 32, 32)) for rows in (1, 100, 5_000, 50_000, 10**7)]
    assert [found.batch_size for found in recipes] == [16, 16, 64, 128, 128]
    assert [found.epochs for found in recipes] == epochs
    assert all(found.patience is None and found.schedule is not None for found in recipes)
