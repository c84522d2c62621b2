"""What is learned: the loss of each task, the spelling of targets, weights, decoding, and exact means over ragged batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from netwright.config.calls import parse_call
from netwright.distributed.world import ALONE
from netwright.engine.shared import SharedLoss
from netwright.errors import ConfigError
from netwright.model.decisions import decide, decide_each
from netwright.model.losses import loss_weight
from netwright.model.task import Task, implied_task, make_loss, make_task

LABELS = np.array([0, 1, 2, 2, 2, 1], dtype=np.int64)
YES_NO = np.array([0, 0, 0, 1], dtype=np.int64)
TAGS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=np.int64)
VALUES = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 60.0]])


def a_task(kind: str, loss: str | None = None, **changes: Any) -> Task:
    values = {"binary": YES_NO, "multiclass": LABELS, "multilabel": TAGS, "regression": VALUES}[kind]
    settings: dict[str, Any] = {
        "classes": {"binary": 2, "multiclass": 3, "multilabel": 3, "regression": 0}[kind],
        "columns": {"regression": 2, "multilabel": 3}.get(kind, 1),
        "train_values": values,
        "scaling": None,
    }
    return make_task(kind, loss, **(settings | changes))


@pytest.mark.parametrize(
    ("kind", "loss", "text", "outputs", "form"),
    [
        ("binary", None, "BCEWithLogitsLoss()", 1, "sigmoid"),
        ("binary", "CrossEntropyLoss()", "CrossEntropyLoss()", 2, "softmax"),
        ("binary", "BCELoss()", "BCELoss()", 1, "probability"),
        ("binary", "NLLLoss()", "NLLLoss()", 2, "exp"),
        ("binary", "MultiMarginLoss()", "MultiMarginLoss()", 2, "score"),
        ("multiclass", None, "CrossEntropyLoss()", 3, "softmax"),
        ("multiclass", "nn.CrossEntropyLoss(label_smoothing=0.1)", "CrossEntropyLoss(label_smoothing=0.1)", 3, "softmax"),
        ("multiclass", "NLLLoss()", "NLLLoss()", 3, "exp"),
        ("multiclass", "MultiMarginLoss(2)", "MultiMarginLoss(p=2)", 3, "score"),
        ("multilabel", None, "BCEWithLogitsLoss()", 3, "sigmoids"),
        ("multilabel", "BCELoss()", "BCELoss()", 3, "probabilities"),
        ("multilabel", "MultiLabelSoftMarginLoss()", "MultiLabelSoftMarginLoss()", 3, "sigmoids"),
        ("regression", None, "MSELoss()", 2, "value"),
        ("regression", "L1Loss()", "L1Loss()", 2, "value"),
        ("regression", "HuberLoss(delta=0.5)", "HuberLoss(delta=0.5)", 2, "value"),
        ("regression", "SmoothL1Loss()", "SmoothL1Loss()", 2, "value"),
        ("regression", "PoissonNLLLoss()", "PoissonNLLLoss()", 2, "count"),
        ("regression", "PoissonNLLLoss(log_input=False)", "PoissonNLLLoss(log_input=False)", 2, "rate"),
    ],
)
def test_the_task_decides_loss_outputs_and_decoding(kind: str, loss: str | None, text: str, outputs: int, form: str) -> None:
    task = a_task(kind, loss)
    assert (task.kind, task.loss, task.outputs, task.decoding.form) == (kind, text, outputs, form)
    assert type(task.loss_function) is getattr(nn, text.partition("(")[0])
    assert task.decoding.probabilistic == (form in ("sigmoid", "softmax", "probability", "exp", "sigmoids", "probabilities"))
    assert task.decoding.rates == (form in ("count", "rate"))


@pytest.mark.parametrize(
    ("kind", "loss", "target", "expected"),
    [
        ("binary", "MSELoss()", "class numbers (int64)", "BCEWithLogitsLoss or BCELoss or CrossEntropyLoss"),
        ("multiclass", "MSELoss()", "class numbers (int64)", "CrossEntropyLoss or NLLLoss or MultiMarginLoss"),
        ("multiclass", "BCEWithLogitsLoss()", "class numbers (int64)", "CrossEntropyLoss or NLLLoss"),
        ("regression", "CrossEntropyLoss()", "numbers (float32)", "L1Loss or MSELoss"),
        ("regression", "BCELoss()", "numbers (float32)", "L1Loss or MSELoss"),
        ("multilabel", "CrossEntropyLoss()", "0 and 1 per label (float32)", "BCEWithLogitsLoss or BCELoss or MultiLabel"),
        (
            "binary",
            "MultiLabelSoftMarginLoss()",
            "class numbers (int64)",
            "BCEWithLogitsLoss or BCELoss or CrossEntropyLoss",
        ),
    ],
)
def test_a_loss_that_does_not_fit_the_target_is_refused_with_those_that_do(
    kind: str, loss: str, target: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        a_task(kind, loss)
    message = f"training.loss: {loss[:-2]} came; the task is {kind}, its target holds {target}; expected {expected}"
    assert str(caught.value).startswith(message)


def test_a_yes_no_target_fits_networks_of_one_and_of_two_outputs() -> None:
    assert a_task("binary", found_outputs=1).loss == "BCEWithLogitsLoss()"
    assert a_task("binary", found_outputs=2).loss == "CrossEntropyLoss()"
    assert a_task("binary", "BCEWithLogitsLoss()", found_outputs=2).outputs == 1


@pytest.mark.parametrize(
    ("kind", "loss", "dtype", "shape"),
    [
        ("binary", None, torch.float32, (4, 1)),
        ("binary", "CrossEntropyLoss()", torch.int64, (4,)),
        ("multiclass", None, torch.int64, (6,)),
        ("multiclass", "NLLLoss()", torch.int64, (6,)),
        ("multilabel", None, torch.float32, (5, 3)),
        ("multilabel", "MultiLabelSoftMarginLoss()", torch.float32, (5, 3)),
        ("regression", None, torch.float32, (3, 2)),
    ],
)
def test_the_target_is_spelled_as_its_loss_reads_it(kind: str, loss: str | None, dtype: torch.dtype, shape: tuple) -> None:
    task = a_task(kind, loss)
    values = {"binary": YES_NO, "multiclass": LABELS, "multilabel": TAGS, "regression": VALUES}[kind]
    target = task.spell_target(values)
    assert (target.dtype, tuple(target.shape)) == (dtype, shape)
    if kind != "regression":
        assert target.flatten().tolist() == values.flatten().tolist()
    assert torch.isfinite(task.loss_function(torch.full((len(values), task.outputs), -0.5), target)) or loss == "BCELoss()"


def test_a_regression_trains_on_scaled_values_and_answers_in_the_units_of_the_user() -> None:
    task = a_task("regression")
    scaled = task.spell_target(VALUES)
    assert scaled.mean(dim=0).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert scaled.std(dim=0, correction=0).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert task.decoding(scaled).dtype == torch.float64
    np.testing.assert_allclose(task.decoding(scaled).numpy(), VALUES, rtol=1e-6)
    assert task.decoding.mean.tolist() == VALUES.mean(axis=0).tolist()


@pytest.mark.parametrize(("loss", "scaling"), [(None, "none"), ("PoissonNLLLoss()", None), ("PoissonNLLLoss()", "none")])
def test_unscaled_targets_stay_as_they_are(loss: str | None, scaling: str | None) -> None:
    task = a_task("regression", loss, scaling=scaling)
    assert task.spell_target(VALUES).tolist() == VALUES.tolist()


def test_a_constant_target_is_not_divided_by_zero() -> None:
    task = a_task("regression", train_values=np.full((4, 1), 7.0), columns=1)
    assert task.spell_target(np.array([[7.0], [9.0]])).tolist() == [[0.0], [2.0]]
    assert task.decoding(torch.tensor([[0.0]])).tolist() == [[7.0]]
    rounded = a_task("regression", train_values=np.full((1000, 1), 1e9 / 3), columns=1)  # its mean is not exactly it
    assert rounded.decoding.scale.tolist() == [1.0]


def test_a_small_unit_of_the_target_makes_no_constant_of_it() -> None:
    coulombs = np.array([[1.6e-19], [3.2e-19], [4.8e-19]])
    scaled = a_task("regression", train_values=coulombs, columns=1).spell_target(coulombs)
    assert scaled.flatten().tolist() == pytest.approx([-(1.5**0.5), 0.0, 1.5**0.5], abs=1e-6)


def test_counts_are_not_scaled_and_come_out_as_rates() -> None:
    with pytest.raises(ConfigError, match="PoissonNLLLoss reads plain counts; leave target_scaling out"):
        a_task("regression", "PoissonNLLLoss()", scaling="standardize")
    decoded = a_task("regression", "PoissonNLLLoss()").decoding(torch.tensor([[0.0, 2.0]]))
    assert decoded.tolist() == [[1.0, pytest.approx(np.exp(2.0))]]
    decoded = a_task("regression", "PoissonNLLLoss(log_input=False)").decoding(torch.tensor([[0.5, 2.0]]))
    assert decoded.tolist() == [[0.5, 2.0]]


@pytest.mark.parametrize(
    ("kind", "loss", "outputs", "decoded"),
    [
        ("binary", None, [[0.0], [40.0], [-40.0]], [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]),
        ("binary", "BCELoss()", [[0.25], [1.0], [0.0]], [[0.75, 0.25], [0.0, 1.0], [1.0, 0.0]]),
        ("multiclass", None, [[0.0, 0.0, 0.0], [90.0, 0.0, 0.0]], [[1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]]),
        ("multiclass", "NLLLoss()", [[np.log(0.5), np.log(0.3), np.log(0.2)]], [[0.5, 0.3, 0.2]]),
    ],
)
def test_probabilities_are_those_of_the_classes_and_sum_to_one(
    kind: str, loss: str | None, outputs: list, decoded: list
) -> None:
    found = a_task(kind, loss).decoding(torch.tensor(outputs))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), decoded, atol=1e-7)
    np.testing.assert_allclose(found.sum(dim=1).numpy(), 1.0, atol=1e-6)


def test_each_label_has_a_probability_of_its_own() -> None:
    found = a_task("multilabel").decoding(torch.tensor([[0.0, 40.0, -40.0]]))
    np.testing.assert_allclose(found.numpy(), [[0.5, 1.0, 0.0]], atol=1e-7)
    assert a_task("multilabel", "BCELoss()").decoding(torch.tensor([[0.25, 1.0, 0.0]])).tolist() == [[0.25, 1.0, 0.0]]
    assert decide_each(np.array([[0.5, 0.51, 1.0], [0.0, 0.49, 0.2]])).tolist() == [[0, 1, 1], [0, 0, 0]]


def test_a_margin_loss_decodes_to_its_scores() -> None:
    assert a_task("multiclass", "MultiMarginLoss()").decoding(torch.tensor([[2.0, -1.0, 0.5]])).tolist() == [
        [2.0, -1.0, 0.5]
    ]


def test_the_label_of_the_largest_probability_is_decided_for() -> None:
    assert decide(np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]]), ["no", "yes"]) == ["yes", "no", "no"]


def test_balanced_weights_come_from_the_train_rows() -> None:
    task = a_task("multiclass", 'CrossEntropyLoss(weight="balanced")')
    assert task.loss == f"CrossEntropyLoss(weight=[{6 / 3}, {6 / 6}, {6 / 9}])"
    assert task.loss_function.weight.tolist() == pytest.approx([2.0, 1.0, 2 / 3])
    assert task.loss_function.weight.dtype == torch.float32
    assert a_task("binary", 'BCEWithLogitsLoss(pos_weight="balanced")').loss == "BCEWithLogitsLoss(pos_weight=[3.0])"
    task = a_task("multilabel", 'BCEWithLogitsLoss(pos_weight="balanced")')
    assert task.loss == "BCEWithLogitsLoss(pos_weight=[1.5, 0.25, 5.0])"  # the last label stands in no row
    with pytest.raises(ConfigError, match="has no class weights; write BCEWithLogitsLoss\\(pos_weight"):
        a_task("multilabel", 'MultiLabelSoftMarginLoss(weight="balanced")')


@pytest.mark.parametrize(
    ("loss", "task"),
    [
        ("BCELoss()", "binary"), ("MultiLabelSoftMarginLoss()", "multilabel"), ("PoissonNLLLoss()", "regression"),
        ("NLLLoss()", None),
    ],
)  # fmt: skip
def test_some_losses_leave_no_doubt_about_the_task(loss: str, task: str | None) -> None:
    assert implied_task(loss, None) == task
    assert implied_task(None, getattr(nn, loss[:-2])()) == task


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("CrossEntropyLoss(weight=[1.0, 2.0])", "training.loss: weight has 2 numbers; the network has 3 outputs"),
        (
            "CrossEntropyLoss(weight='heavy')",
            "training.loss: weight='heavy' came; expected a list of numbers or \"balanced\"",
        ),
        ("CrossEntropyLoss(weight=2.0)", 'training.loss: weight=2.0 came; expected a list of numbers or "balanced"'),
        (
            "CrossEntropyLoss(weight=['a', 'b', 'c'])",
            "training.loss: weight=['a', 'b', 'c'] came; expected a list of numbers",
        ),
        ("MultiMarginLoss(p=3)", "training.loss: MultiMarginLoss(p=3) cannot be built"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_what_came(loss: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        a_task("multiclass", loss)
    assert str(caught.value).startswith(message)


def test_weights_change_the_loss_as_torch_defines_it() -> None:
    task = a_task("multiclass", "CrossEntropyLoss(weight=[1.0, 2.0, 4.0])")
    outputs, target = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), torch.from_numpy(LABELS)
    expected = nn.functional.cross_entropy(outputs, target, weight=torch.tensor([1.0, 2.0, 4.0]))
    assert torch.equal(task.loss_function(outputs, target), expected)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("multiclass", "CrossEntropyLoss()"),
        ("multiclass", "CrossEntropyLoss(weight=[0.2, 1.0, 5.0])"),
        ("multiclass", "CrossEntropyLoss(label_smoothing=0.2)"),
        ("multiclass", "CrossEntropyLoss(weight=[0.2, 1.0, 5.0], label_smoothing=0.2)"),
        ("multiclass", "CrossEntropyLoss(ignore_index=1)"),
        ("multiclass", "CrossEntropyLoss(weight=[0.2, 1.0, 5.0], ignore_index=1, label_smoothing=0.3)"),
        ("multiclass", "NLLLoss(weight=[0.2, 1.0, 5.0])"),
        ("multiclass", "NLLLoss(ignore_index=0)"),
        ("multiclass", "MultiMarginLoss(weight=[0.2, 1.0, 5.0])"),
        ("binary", "BCEWithLogitsLoss()"),
        ("binary", "BCEWithLogitsLoss(pos_weight=[3.0])"),
        ("binary", "BCEWithLogitsLoss(weight=[3.0])"),
        ("binary", "BCELoss()"),
        ("binary", "CrossEntropyLoss(weight=[0.2, 3.0])"),
        ("multilabel", "BCEWithLogitsLoss()"),
        ("multilabel", "BCEWithLogitsLoss(pos_weight=[3.0, 0.5, 2.0])"),
        ("multilabel", "BCELoss()"),
        ("multilabel", "MultiLabelSoftMarginLoss(weight=[1.0, 2.0, 0.5])"),
        ("regression", "MSELoss()"),
        ("regression", "L1Loss()"),
        ("regression", "HuberLoss()"),
        ("regression", "SmoothL1Loss()"),
        ("regression", "PoissonNLLLoss()"),
        ("regression", "PoissonNLLLoss(full=True)"),
    ],
)
def test_the_weighted_mean_over_ragged_batches_is_the_loss_over_all_rows(kind: str, loss: str) -> None:
    generator = np.random.default_rng(0)
    rows = 50
    values: Any = {
        "multiclass": generator.choice(3, rows, p=[0.2, 0.3, 0.5]),
        "binary": (generator.random(rows) < 0.2).astype(np.int64),
        "multilabel": (generator.random((rows, 3)) < 0.3).astype(np.int64),
        "regression": generator.poisson(3.0, (rows, 2)).astype(float),
    }[kind]
    task = a_task(kind, loss, train_values=values, scaling="none")
    target = task.spell_target(values)
    outputs = torch.from_numpy(generator.random((rows, task.outputs)))
    function = task.loss_function.double()
    target = target.double() if target.is_floating_point() else target
    first = 8 if "ignore" in loss else 1  # torch's mean over ignored rows alone is no number
    total = weight = 0.0
    for part in torch.split(torch.arange(rows), [first, 20, 7, rows - 27 - first]):
        each = float(loss_weight(function, target[part]))
        total, weight = total + each * float(function(outputs[part], target[part])), weight + each
    assert total / weight == pytest.approx(float(function(outputs, target)), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "target", "weight"),
    [
        (nn.CrossEntropyLoss(), torch.tensor([0, 1, 2]), 3),
        (nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0])), torch.tensor([0, 2, 2]), 4.5),
        (nn.CrossEntropyLoss(ignore_index=1), torch.tensor([0, 1, 2, 1]), 2),
        (nn.CrossEntropyLoss(), torch.tensor([0, -100, 2]), 2),
        (nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0])), torch.tensor([-100, 2, 0]), 2.5),
        (nn.MSELoss(), torch.zeros(5, 2), 5),
        (lambda output, target: (output - target).abs().mean(), torch.zeros(4, 1), 4),
    ],
)
def test_the_weight_of_a_batch_is_what_its_mean_divides_by(loss: Any, target: torch.Tensor, weight: float) -> None:
    assert float(loss_weight(loss, target)) == weight


class Focal(nn.Module):
    """A mean over rows, whatever the loss that it holds divides by."""

    def __init__(self) -> None:
        super().__init__()
        self.loss_function = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 10.0, 1.0]), reduction="none")

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        each: torch.Tensor = self.loss_function(output, target)
        return ((1 - torch.exp(-each)) ** 2 * each).mean()


def test_a_loss_of_ones_own_weighs_by_rows_whatever_its_parts_are_called_and_one_around_another_as_that() -> None:
    loss, target, output = Focal(), torch.tensor([0, 1, 1, 2, 0, 0, 1, 0]), torch.randn(8, 3)
    assert loss_weight(loss, target) == 8
    parts = [slice(0, 3), slice(3, 8)]
    mean = sum(loss(output[part], target[part]) * loss_weight(loss, target[part]) for part in parts) / 8
    torch.testing.assert_close(mean, loss(output, target))
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 10.0, 1.0]))
    assert float(loss_weight(SharedLoss(weighted, ALONE), target)) == 4 + 30 + 1


def test_a_loss_from_python_is_used_as_it_is_and_named() -> None:
    own = nn.HuberLoss(delta=0.3)
    task = a_task("regression", own_loss=own)
    assert task.loss_function is own
    assert (task.loss, task.outputs) == ("object:HuberLoss", 2)

    def my_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output - target).abs().mean()

    assert a_task("multiclass", own_loss=my_loss).loss == "object:my_loss"
    assert a_task("multiclass", own_loss=nn.NLLLoss()).decoding.form == "exp"
    with pytest.raises(ConfigError, match="came with reduction='sum'; expected the mean; leave reduction out"):
        a_task("regression", own_loss=nn.MSELoss(reduction="sum"))
    with pytest.raises(ConfigError, match="MSELoss came; the task is multiclass"):
        a_task("multiclass", own_loss=nn.MSELoss())


def test_a_loss_is_made_again_from_the_text_of_its_task() -> None:
    task = a_task("multiclass", 'CrossEntropyLoss(weight="balanced", label_smoothing=0.1)')
    again = make_loss(parse_call(task.loss, "training.loss"), task.outputs)
    assert torch.equal(again.weight, task.loss_function.weight)
    assert again.label_smoothing == 0.1


@pytest.mark.parametrize("log_input", [True, False])
def test_a_poisson_loss_from_python_says_what_its_outputs_are(log_input: bool) -> None:
    counts = np.arange(8.0).reshape(4, 2)
    own = a_task("regression", own_loss=nn.PoissonNLLLoss(log_input=log_input), train_values=counts)
    written = a_task("regression", f"PoissonNLLLoss(log_input={log_input})", train_values=counts)
    assert own.decoding.form == written.decoding.form == ("count" if log_input else "rate")


@pytest.mark.parametrize("loss", [nn.SoftMarginLoss(), nn.HingeEmbeddingLoss(), nn.KLDivLoss()])
def test_losses_of_torch_that_read_no_classes_are_refused_as_texts_and_from_python(loss: nn.Module) -> None:
    name = type(loss).__name__
    with pytest.raises(ConfigError, match=f"training.loss: {name} came; .*; expected .*CrossEntropyLoss"):
        a_task("binary", own_loss=loss, classes=2)
    with pytest.raises(ConfigError, match=f"training.loss: {name} came; "):
        a_task("binary", f"{name}()", classes=2)
    assert a_task("regression", own_loss=loss).decoding.form == "value"
