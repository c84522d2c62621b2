"""The focal loss against its formula and torch's own losses, and weights of rare classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from netwright.config.calls import parse_call
from netwright.errors import ConfigError
from netwright.model.focal import FocalLoss
from netwright.model.losses import PerStep, loss_of_each, loss_weight, loss_weights
from netwright.model.task import make_task
from netwright.model.weighing import balanced, with_class_weight

OUTPUT = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [-1.0, 3.0, 0.0], [0.0, 0.0, 9.0]])
TARGET = torch.tensor([0, 2, 0, 2])


def task_of(kind: str, loss: str, values: np.ndarray, classes: int):  # type: ignore[no-untyped-def]
    return make_task(kind, loss, classes=classes, columns=1, train_values=values, scaling=None)


def test_the_focal_loss_is_its_formula() -> None:
    true = OUTPUT.softmax(dim=1)[torch.arange(4), TARGET]
    expected = (-((1 - true) ** 2.0) * true.log()).mean()
    assert torch.isclose(FocalLoss()(OUTPUT, TARGET), expected)
    answers = torch.tensor([[1.0], [0.0], [0.0], [1.0]])
    chance = OUTPUT[:, :1].sigmoid()
    true = torch.where(answers == 1, chance, 1 - chance)
    weighed = torch.where(answers == 1, torch.tensor(3.0), torch.tensor(1.0))
    expected = (-weighed * (1 - true) ** 1.5 * true.log()).mean()
    assert torch.isclose(FocalLoss(1.5, pos_weight=torch.tensor([3.0]))(OUTPUT[:, :1], answers), expected)


def test_without_focus_it_is_torchs_loss() -> None:
    weight = torch.tensor([1.0, 2.0, 5.0])
    assert torch.isclose(FocalLoss(0.0, weight)(OUTPUT, TARGET), nn.CrossEntropyLoss(weight)(OUTPUT, TARGET))
    answers = (OUTPUT > 0.2).float()
    expected = nn.BCEWithLogitsLoss(pos_weight=weight)(OUTPUT, answers)
    assert torch.isclose(FocalLoss(0.0, pos_weight=weight)(OUTPUT, answers), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_of_sure_answers_are_finite(gamma: float) -> None:
    output = torch.tensor([[200.0, -200.0], [0.3, 0.1]], requires_grad=True)
    FocalLoss(gamma)(output, torch.tensor([0, 1])).backward()
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()
    single = torch.tensor([[200.0], [-0.3]], requires_grad=True)
    FocalLoss(gamma)(single, torch.tensor([[1.0], [1.0]])).backward()
    assert single.grad is not None
    assert torch.isfinite(single.grad).all()
    assert single.grad[1] != 0


def test_means_over_ragged_batches_are_the_mean_over_all_rows() -> None:
    loss = FocalLoss(weight=torch.tensor([1.0, 2.0, 5.0]))
    whole = loss(OUTPUT, TARGET)
    parts = [slice(0, 3), slice(3, 4)]
    sums = [loss(OUTPUT[part], TARGET[part]) * loss_weight(loss, TARGET[part]) for part in parts]
    assert torch.isclose(torch.stack(sums).sum() / loss_weight(loss, TARGET), whole)
    rows = torch.tensor([[0, 1], [2, 3]])
    assert loss_weights(loss, TARGET, rows).tolist() == [6.0, 6.0]
    each = loss_of_each(FocalLoss(), OUTPUT, TARGET)
    assert each is not None
    assert torch.isclose(each.mean().float(), FocalLoss()(OUTPUT, TARGET))


def test_padded_steps_do_not_count() -> None:
    output, target = OUTPUT.reshape(2, 2, 3), torch.tensor([[0, 2], [0, -100]])
    expected = FocalLoss()(OUTPUT[:3], TARGET[:3])
    assert torch.isclose(PerStep(FocalLoss())(output, target), expected)
    answers = torch.tensor([[[1.0], [0.0]], [[1.0], [float("nan")]]])
    expected = FocalLoss()(OUTPUT[:3, :1], torch.tensor([[1.0], [0.0], [1.0]]))
    assert torch.isclose(PerStep(FocalLoss())(output[:, :, :1], answers), expected)


def test_the_task_chooses_the_form_and_the_outputs() -> None:
    assert task_of("multiclass", "FocalLoss()", np.array([0, 1, 2]), 3).decoding.form == "softmax"
    binary = task_of("binary", "FocalLoss(gamma=1)", np.array([0, 1, 0, 0]), 2)
    assert (binary.outputs, binary.decoding.form) == (1, "sigmoid")
    labels = task_of("multilabel", 'FocalLoss(pos_weight="balanced")', np.array([[0, 1], [0, 0], [1, 0], [0, 0]]), 2)
    assert labels.loss == "FocalLoss(pos_weight=[3.0, 3.0])"


@pytest.mark.parametrize(
    ("kind", "loss", "words"),
    [
        ("binary", "FocalLoss(weight=[1.0, 2.0])", 'FocalLoss(pos_weight="balanced")'),
        ("multiclass", "FocalLoss(pos_weight=[1.0])", 'FocalLoss(weight="balanced")'),
        ("multiclass", "FocalLoss(gamma=-1)", "gamma=-1 came"),
        ("multiclass", "FocalLoss(weight=[1.0])", "weight has 1 numbers"),
        ("regression", "FocalLoss()", "FocalLoss came; the task is regression"),
        ("binary", 'BCELoss(weight="balanced")', 'BCEWithLogitsLoss(pos_weight="balanced")'),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, loss: str, words: str) -> None:
    with pytest.raises(ConfigError, match="training.loss") as problem:
        task_of(kind, loss, np.array([0, 1, 2, 1]), 3)
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    values = np.array([0, 0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=values)
    found = balanced(parse_call('CrossEntropyLoss(weight="balanced")', "loss"), values, 3, "multiclass")
    assert np.allclose(found.keywords["weight"], expected)
    two = compute_class_weight("balanced", classes=np.arange(2), y=values[:5])
    found = balanced(parse_call('BCEWithLogitsLoss(pos_weight="balanced")', "loss"), values[:5], 2, "binary")
    assert np.allclose(found.keywords["pos_weight"], two[1] / two[0])


@pytest.mark.parametrize(
    ("loss", "kind", "words"),
    [
        ("MSELoss()", "regression", "the task is regression"),
        ("BCELoss()", "binary", "BCELoss() "),
        ("CrossEntropyLoss(weight=[1, 2])", "multiclass", "which has a weight already"),
    ],
)
def test_class_weight_says_where_it_cannot_go(loss: str, kind: str, words: str) -> None:
    with pytest.raises(ConfigError) as problem:
        with_class_weight(loss, kind, "balanced", ["a", "b"])
    assert words.strip() in str(problem.value)
    assert 'training.class_weight: "balanced" came' in str(problem.value)


@pytest.mark.parametrize(
    ("loss", "kind", "given", "expected"),
    [
        ("CrossEntropyLoss()", "multiclass", {"c": 3.0}, "CrossEntropyLoss(weight=[1.0, 1.0, 3.0])"),
        ("FocalLoss()", "multiclass", [1, 2, 3], "FocalLoss(weight=[1.0, 2.0, 3.0])"),
        ("BCEWithLogitsLoss()", "multilabel", {"a": 2.0}, "BCEWithLogitsLoss(pos_weight=[2.0, 1.0, 1.0])"),
    ],
)
def test_weights_of_ones_own_are_written_into_the_loss(loss: str, kind: str, given: Any, expected: str) -> None:
    assert with_class_weight(loss, kind, given, ["a", "b", "c"]) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sleep": 2.0}, "{'sleep': 2.0} came; 'sleep' is no class; did you mean asleep?"),
        ([1.0, 2.0, 3.0], "[1.0, 2.0, 3.0] came; expected 2 numbers, of asleep, awake"),
    ],
)
def test_weights_of_other_classes_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ConfigError) as problem:
        with_class_weight("CrossEntropyLoss()", "binary", given, ["asleep", "awake"])
    assert f"training.class_weight: {words}" in str(problem.value)
