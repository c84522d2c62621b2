"""What is frozen in which epoch: resolved from patterns, held in training mode, refused where it makes no sense."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netwright.errors import ConfigError
from netwright.training.freezing import freezing_of


def network() -> nn.Sequential:
    """Layers with and without parameters and statistics."""
    return nn.Sequential(
        nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.BatchNorm1d(6, affine=False)),
        nn.LayerNorm(6),
        nn.Linear(6, 2),
    )


def learning(model: nn.Module) -> list[str]:
    return [name for name, value in model.named_parameters() if value.requires_grad]


def test_batch_norm_rests_while_all_its_parameters_are_frozen_and_without_any_where_a_pattern_names_it() -> None:
    whole = freezing_of(network(), ["0"], [])
    assert whole is not None
    assert whole.stages[0].resting == ("0.1", "0.2")
    half = freezing_of(network(), ["0.1.weight"], [])
    assert half is not None
    assert (half.stages[0].frozen, half.stages[0].resting) == (("0.1.weight",), ())


def test_stages_follow_the_epochs_in_order_whatever_order_they_are_written_in() -> None:
    found = freezing_of(network(), ["0", "1"], [(6, ["0"]), (3, ["1"]), (3, ["0.1"])])
    assert found is not None
    assert [(one.epoch, one.frozen, one.resting) for one in found.stages] == [
        (1, ("0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias", "1.weight", "1.bias"), ("0.1", "0.2")),
        (3, ("0.0.weight", "0.0.bias"), ("0.2",)),
        (6, (), ()),
    ]
    assert [found.stage(epoch).epoch for epoch in (0, 1, 2, 3, 5, 6, 99)] == [1, 1, 1, 3, 3, 6, 6]


def test_holding_an_epoch_sets_gradients_and_modes_and_dropout_goes_on() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)), nn.Linear(4, 2))
    found = freezing_of(model, ["0"], [(2, ["0"])])
    assert found is not None
    model[1](model[0](torch.randn(5, 4))).sum().backward()
    found.hold(model.train(), 1)
    assert learning(model) == ["1.weight", "1.bias"]
    assert model[0][0].weight.grad is None
    assert (model[0][1].training, model[0][2].training) == (False, True)
    found.hold(model.train(), 2)
    assert len(learning(model)) == 6
    assert model[0][1].training


def test_the_optimizer_gets_what_ever_learns_and_nothing_that_never_does() -> None:
    model = network()
    found = freezing_of(model, ["0", "1"], [(4, ["1"])])
    assert found is not None
    made = found.of_all(model, lambda of: torch.optim.SGD([one for one in of.parameters() if one.requires_grad], lr=1))
    held = {id(value) for value in made.param_groups[0]["params"]}
    names = [name for name, value in model.named_parameters() if id(value) in held]
    assert names == ["1.weight", "1.bias", "2.weight", "2.bias"]
    assert learning(model) == ["2.weight", "2.bias"]


def test_what_own_code_has_frozen_stays_frozen_unless_it_is_named() -> None:
    model = network()
    model[1].requires_grad_(False)
    found = freezing_of(model, ["0"], [(2, ["0"])])
    assert found is not None
    found.hold(model, 2)
    assert "1.weight" not in learning(model)
    again = freezing_of(model, ["0", "1"], [(2, ["1"])])
    assert again is not None
    again.hold(model, 2)
    assert learning(model) == ["1.weight", "1.bias", "2.weight", "2.bias"]
    assert freezing_of(model, [], []) is None


@pytest.mark.parametrize(
    ("freeze", "unfreeze", "told"),
    [
        (["0", "7"], [], "training.freeze: '7' matches no parameter"),
        (["*"], [(2, ["0"])], "training.freeze: ['*'] came; it leaves none of 8 parameters to train in epoch 1"),
        (["0"], [(3, ["2"])], "training.unfreeze: '2' came, none of whose parameters training.freeze names"),
        (["0"], [(3, ["9"])], "training.unfreeze: '9' matches no parameter"),
    ],
)
def test_what_makes_no_sense_is_one_line(freeze: list[str], unfreeze: list[tuple[int, list[str]]], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        freezing_of(network(), freeze, unfreeze)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)
