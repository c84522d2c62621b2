"""Groups of parameters: which parameter is in which, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from netwright.errors import ConfigError
from netwright.training.groups import split_parameters
from netwright.training.optimizer import make_optimizer, resolve_optimizer

CPU = torch.device("cpu")


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_the_first_group_that_speaks_of_a_parameter_has_it_and_the_rest_comes_first() -> None:
    asked = [{"parameters": ["biases"], "weight_decay": 0.0}, {"parameters": ["0"], "lr": 0.1}]
    rest, biases, first = split_parameters(network(), asked)
    assert (rest.names, dict(rest.arguments)) == (("1.weight", "2.weight"), {})
    assert (biases.names, dict(biases.arguments)) == (("0.bias", "1.bias", "2.bias"), {"weight_decay": 0.0})
    assert (first.names, first.taken) == (("0.weight",), ("0.bias",))
    assert str(first) == "lr=0.1 for 1 parameter(s) (0.weight); 1 more that it speaks of are in a group before"


def test_an_optimizer_has_the_arguments_of_each_group() -> None:
    call = resolve_optimizer("AdamW(lr=0.01, weight_decay=0.1)", CPU)
    asked = [{"parameters": ["biases", "norms"], "weight_decay": 0.0}, {"parameters": ["2"], "lr": 0.5, "betas": [0.8, 0.9]}]
    made = make_optimizer(call, network(), asked)
    told = [(group["lr"], group["weight_decay"], group["betas"], len(group["params"])) for group in made.param_groups]
    assert told == [(0.01, 0.1, (0.9, 0.999), 1), (0.01, 0.0, (0.9, 0.999), 4), (0.5, 0.1, (0.8, 0.9), 1)]


def test_groups_of_all_parameters_leave_no_rest() -> None:
    made = make_optimizer(resolve_optimizer("SGD(lr=0.1)", CPU), network(), [{"parameters": ["*"], "lr": 0.2}])
    assert [group["lr"] for group in made.param_groups] == [0.2]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([{"parameters": ["7"], "lr": 0.1}], "training.parameter_groups.0: '7' matches no parameter"),
        (
            [{"parameters": ["0"], "lr": 0.1}, {"parameters": ["0.bias"], "lr": 0.2}],
            r"training.parameter_groups.1: \['0.bias'\] came; no parameter is left for it: group 0 before it has them all",
        ),
        (
            [{"parameters": ["0"], "lr": -0.1}],
            r"training.parameter_groups.0: SGD with \{'lr': -0.1\} cannot be built: Invalid learn",
        ),
    ],
)
def test_a_group_of_nothing_or_of_nonsense_is_refused(asked: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_optimizer(resolve_optimizer("SGD(lr=0.1)", CPU), network(), asked)


def test_frozen_parameters_are_in_no_group() -> None:
    model = network()
    model[0].requires_grad_(False)  # type: ignore[operator, index]
    rest, norms = split_parameters(model, [{"parameters": ["norms"], "lr": 0.1}])
    assert (rest.names, norms.names) == (("2.weight", "2.bias"), ("1.weight", "1.bias"))
    with pytest.raises(ConfigError, match="no parameter is left for it: they need no gradient"):
        split_parameters(model, [{"parameters": ["0"], "lr": 0.1}])


def test_muon_says_which_parameter_is_no_matrix() -> None:
    with pytest.raises(ConfigError, match=r"Muon came; it updates matrices only, and 0.bias has shape \(4,\)"):
        make_optimizer(resolve_optimizer("Muon()", CPU), network())
