"""The losses of an epoch: all of them, in order, however many."""

from __future__ import annotations

import pytest
import torch

from netwright.training.journal import FOLDED, EpochLosses


@pytest.mark.parametrize("count", [0, 1, FOLDED - 1, FOLDED, 2 * FOLDED + 3])
def test_losses_are_read_in_the_order_in_which_they_came(count: int) -> None:
    losses = EpochLosses()
    for step in range(count):
        losses.add(torch.tensor(step / 7), 1.0 + step % 2)
    expected = (torch.arange(count) / 7).double().tolist()
    assert losses.read() == expected
    weights = [1.0 + step % 2 for step in range(count)]
    if count:
        assert losses.mean() == sum(loss * weight for loss, weight in zip(expected, weights, strict=True)) / sum(weights)
    else:
        assert losses.mean() != losses.mean()  # NaN
