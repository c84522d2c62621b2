"""Weights of another network: what fits is taken, the head begins new, all else is refused with names and shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netwright.errors import CheckpointError, ConfigError
from netwright.model.transfer import Transfer, last_layer, transfer


def made(outputs: int, width: int = 8, deeper: bool = False) -> nn.Sequential:
    more = [nn.Linear(width, width)] if deeper else []
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), *more, nn.Linear(width, outputs))


def test_the_last_layer_is_taken_where_its_shape_fits_and_new_where_it_does_not() -> None:
    old, same, other = made(3), made(3), made(5)
    begun = other[2].weight.detach().clone()
    assert transfer(same, old.state_dict(), None, "old").new == ()
    assert all(torch.equal(same.state_dict()[name], value) for name, value in old.state_dict().items())
    found = transfer(other, old.state_dict(), None, "old")
    assert found.new == ("2",)
    assert found.taken == tuple(name for name in old.state_dict() if not name.startswith("2."))
    assert torch.equal(other[2].weight, begun)
    assert torch.equal(other[0].weight, old[0].weight)


def test_a_head_that_is_named_begins_new_though_it_fits_and_may_be_deeper_here_or_there() -> None:
    old, new = made(3), made(3)
    assert transfer(new, old.state_dict(), ["2"], "old").new == ("2",)
    assert not torch.equal(new[2].weight, old[2].weight)
    assert transfer(made(3, deeper=True), old.state_dict(), ["2", "3"], "old").new == ("2", "3")
    assert transfer(made(3), made(3, deeper=True).state_dict(), ["[23]"], "old").new == ("2",)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_a_prefix_before_all_names_is_left_out_and_old_files_may_lack_the_counter(prefix: str) -> None:
    old, new = made(3), made(3)
    weights = {f"{prefix}{name}": value for name, value in old.state_dict().items() if "num_batches" not in name}
    assert len(transfer(new, weights, None, "old").taken) == 8
    assert torch.equal(new[0].weight, old[0].weight)


@pytest.mark.parametrize(
    ("weights", "head", "told"),
    [
        (
            made(3, width=9).state_dict(),
            None,
            "0.weight is (9, 4) there and (8, 4) here, 0.bias is (9,) there and (8,) here, ",
        ),
        (made(3, deeper=True).state_dict(), None, "fit the network: 3.weight is there only, 3.bias is there only; expected"),
        ({"a.weight": torch.ones(2)}, None, "0.weight is missing there"),
        ({"a.weight": torch.ones(2)}, ["*"], "none of its weights is for this network"),
        ({**made(3).state_dict(), "0.bias": torch.full((8,), torch.nan)}, None, "old: 0.bias is not finite"),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(
    weights: dict[str, torch.Tensor], head: list[str] | None, told: str
) -> None:
    model = made(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        transfer(model, weights, head, "old")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_a_head_that_is_nowhere_is_told_with_the_layers_there_are() -> None:
    with pytest.raises(ConfigError, match="model.head: 'fc' matches no layer of the network or of old; .* known: 0, 1, 2"):
        transfer(made(3), made(3).state_dict(), ["fc"], "old")


def test_the_last_layer_is_the_last_with_parameters() -> None:
    assert last_layer(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Softmax(1))) == "1.0"
    assert transfer(made(3), made(3).state_dict(), [], "old") == Transfer(tuple(made(3).state_dict()), ())
