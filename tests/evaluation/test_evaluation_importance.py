"""Shuffled columns and where a network looks, on networks of which one knows what matters."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.inspection import permutation_importance as sklearn_importance
from sklearn.linear_model import LinearRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn

from netwright.data.preparation import TablePreparation
from netwright.evaluation import importance, thumbnails
from netwright.evaluation.importance import Shuffled, drawn_rows, features_of_columns, main_figure, permutation_importance
from netwright.evaluation.saliency import saliency


def columns_of(count: int) -> list[Shuffled]:
    return [Shuffled(f"x[{place}]", "x", 1, (place,)) for place in range(count)]


def test_the_rmse_grows_as_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(2000, 3))
    target = rows @ np.array([3.0, 1.0, 0.0]) + generator.normal(size=2000)
    model = LinearRegression().fit(rows, target)
    reference = sklearn_importance(
        model, rows, target, scoring="neg_root_mean_squared_error", n_repeats=5, random_state=0
    ).importances_mean
    name, figure = main_figure("regression", target[:, None], target[:, None])
    inputs = {"x": torch.from_numpy(rows)}
    decode = lambda found: model.predict(found["x"].numpy())[:, None]  # noqa: E731
    found, remarks = permutation_importance(inputs, columns_of(3), decode, figure)
    assert name == "rmse"
    assert remarks == []
    assert [entry["column"] for entry in found] == ["x[0]", "x[1]", "x[2]"]
    assert [entry["value"] for entry in found] == pytest.approx(reference.tolist(), rel=0.05, abs=0.01)
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in found)
    assert torch.equal(inputs["x"], torch.from_numpy(rows))


def test_shuffling_is_of_the_seed_alone() -> None:
    inputs = {"x": torch.randn(100, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
    decode = lambda found: found["x"].sum(dim=1, keepdim=True).numpy()  # noqa: E731
    _, figure = main_figure("regression", decode(inputs), decode(inputs))
    before = torch.random.get_rng_state()
    first = permutation_importance(inputs, columns_of(4), decode, figure)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first == permutation_importance(inputs, columns_of(4), decode, figure)
    assert first != permutation_importance(inputs, columns_of(4), decode, figure, seed=1)


def test_the_figure_is_roc_auc_where_one_of_two_classes_is_rare() -> None:
    decoded = np.tile([0.5, 0.5], (100, 1))
    assert main_figure("binary", (np.arange(100) < 20).astype(int), decoded)[0] == "roc_auc"
    assert main_figure("binary", (np.arange(100) < 40).astype(int), decoded)[0] == "accuracy"
    assert main_figure("binary", np.zeros(100, int), decoded)[0] == "accuracy"
    assert main_figure("multilabel", np.zeros((100, 2), int), decoded)[0] == "f1_micro"


@pytest.mark.parametrize("rare", [1, 2])
def test_the_figure_is_that_of_the_headline(rare: int) -> None:
    draw = np.random.default_rng(0)
    true = np.minimum((np.arange(300) % 20 == 0) * (1 + np.arange(300) % 3), rare)
    decoded = draw.dirichlet(np.ones(rare + 1), size=300)
    if rare == 2:
        name, figure = main_figure("multiclass", true, decoded, "balanced_accuracy")
        assert name == "balanced_accuracy"
        assert figure(decoded) == pytest.approx(balanced_accuracy_score(true, decoded.argmax(axis=1)))
        return
    for name, function in (("average_precision", average_precision_score), ("roc_auc", roc_auc_score)):
        found, figure = main_figure("binary", true, decoded, name)
        assert found == name
        assert figure(decoded) == pytest.approx(function(true, decoded[:, 1]))
    assert main_figure("binary", np.zeros(300, int), decoded, "average_precision")[0] == "accuracy"


def test_what_a_raw_column_became_is_shuffled_together() -> None:
    module = TablePreparation(["category", "date", "number", "boolean"], [3, 0, 0, 0], [2], "none", False)
    generator = np.random.default_rng(1)
    raw = torch.from_numpy(
        np.column_stack(
            [
                generator.integers(0, 4, 50),
                generator.uniform(0, 9000, 50),
                generator.normal(size=50),
                generator.integers(0, 2, 50),
            ]
        ).astype(np.float64)
    )
    raw[::7, 2] = float("nan")
    order = torch.from_numpy(generator.permutation(50))
    prepared = module(raw)
    places = features_of_columns(module)
    assert sorted(place for part in places for place in part) == list(range(module.features()))
    for column in range(4):
        changed = raw.clone()
        changed[:, column] = raw[order, column]
        expected = prepared.clone()
        expected[:, list(places[column])] = prepared[order][:, list(places[column])]
        assert torch.equal(module(changed), expected)
    codes = TablePreparation(["category", "number"], [3, 0], [], "none", True)
    assert features_of_columns(codes) == [(1,), (0,)]


def test_too_many_columns_and_too_little_time_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"x": torch.zeros(10, 120)}
    decode = lambda found: found["x"][:, :1].numpy()  # noqa: E731
    _, figure = main_figure("regression", np.zeros((10, 1)), np.zeros((10, 1)))
    found, remarks = permutation_importance(inputs, columns_of(120), decode, figure)
    assert len(found) == 100
    assert remarks == ["importance: the first 100 of 120 columns"]
    moments = iter([0.0, 0.0, 1.0, 6.0])
    monkeypatch.setattr(importance.time, "perf_counter", lambda: next(moments))
    found, remarks = permutation_importance(inputs, columns_of(5), decode, figure)
    assert len(found) == 2
    assert remarks == ["importance: 2 of 5 columns in 5 s; the others are left out"]


def test_drawn_rows_are_sorted_and_each_once() -> None:
    assert drawn_rows(5, 10).tolist() == [0, 1, 2, 3, 4]
    few = drawn_rows(1000, 100)
    assert len(np.unique(few)) == 100
    assert (np.diff(few) > 0).all()


class Corner(nn.Module):
    """Answers with what stands in the upper left corner."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0, :4, :4].sum(dim=(1, 2)), torch.full((len(x),), -100.0)], dim=1)


class Blind(nn.Module):
    """Answers likewise, through whole numbers that carry no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, :, :4, :4].sum(dim=(1, 2, 3)).unsqueeze(1) * 1000).round().long().float()


@pytest.mark.parametrize("network", [Corner(), Blind()])
def test_a_network_that_reads_a_corner_is_seen_to_look_there(network: nn.Module) -> None:
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    kept, state = images.clone(), torch.random.get_rng_state()
    heat = saliency(network, {"x": images}, "x")
    assert heat is not None
    assert heat.shape == (3, 16, 16)
    assert heat[:, 6:, 6:].max() < 0.05 * heat[:, :3, :3].min()  # parts that are covered are three pixels wide
    assert heat.min() >= 0
    assert torch.equal(images, kept)
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_gradient_of_a_linear_answer_is_its_weight() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 1))
    heat = saliency(model, {"x": torch.rand(2, 1, 5, 5)}, "x")
    expected = model[1].weight.detach().abs().reshape(5, 5).double().numpy()
    assert heat is not None
    np.testing.assert_allclose(heat[1], expected, rtol=1e-5)


def test_volumes_are_seen_from_the_front_and_what_fails_is_left_out() -> None:
    volume = torch.rand(2, 1, 4, 6, 7)
    heat = saliency(nn.Sequential(nn.Flatten(), nn.Linear(168, 3)), {"x": volume}, "x")
    assert heat is not None
    assert heat.shape == (2, 6, 7)
    assert saliency(nn.Linear(3, 3), {"x": volume}, "x") is None
    assert saliency(nn.Flatten(), {"x": torch.zeros(2, 4)}, "x") is None


def opened(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_bytes_stay_as_they_are_and_small_pictures_grow_in_whole_steps() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    picture = thumbnails.picture_of(pixels)
    assert picture is not None
    image = opened(thumbnails.data_uri(picture))
    assert image.size == (96, 96)
    assert np.array_equal(np.asarray(image)[::6, ::6], pixels[0])


def test_large_pictures_shrink_and_keep_their_sides() -> None:
    picture = thumbnails.picture_of(np.random.default_rng(0).integers(0, 256, (3, 300, 200), dtype=np.uint8))
    assert picture is not None
    assert opened(thumbnails.data_uri(picture)).size == (64, 96)


def test_other_numbers_are_stretched_and_volumes_are_projected() -> None:
    volume = np.zeros((1, 3, 2, 2))
    volume[0, 2, 1, 0] = 7.0
    assert thumbnails.picture_of(volume).tolist() == [[0, 0], [255, 0]]  # type: ignore[union-attr]
    assert thumbnails.picture_of(np.array([[[0.0, 0.5]]])).tolist() == [[0, 128]]  # type: ignore[union-attr]
    assert thumbnails.picture_of(np.array([[[-1.0, np.nan, 1.0]]])).tolist() == [[0, 128, 255]]  # type: ignore[union-attr]
    assert thumbnails.picture_of(np.zeros(4)) is None
    assert thumbnails.picture_of(np.zeros((4, 5, 6), dtype=np.uint8)).shape == (5, 6, 3)  # type: ignore[union-attr]


def test_heat_is_red_over_grey() -> None:
    heat = np.zeros((10, 10))
    heat[2, 3] = 5.0
    found = thumbnails.overlaid(np.zeros((10, 10), dtype=np.uint8), heat)
    assert found[2, 3, 0] > 180
    assert found[2, 3, 1] < 60
    assert found[5, 5].tolist() == [60, 60, 60]
    assert thumbnails.overlaid(np.zeros((4, 4, 3), dtype=np.uint8), np.zeros((4, 4))).shape == (4, 4, 3)


def test_a_series_is_drawn_from_low_to_high() -> None:
    uri = thumbnails.curves_uri(np.linspace(0, 1, 50)[:, None])
    assert uri is not None
    ink = 255 - np.asarray(opened(uri).convert("L")).astype(int)
    assert ink.shape == (48, 96)
    assert ink[:24, 60:].sum() > 10 * ink[:24, :30].sum() + 1
    assert thumbnails.curves_uri(np.zeros((0, 1))) is None
    assert thumbnails.curves_uri(np.full((1, 2), np.nan)) is not None
