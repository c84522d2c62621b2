"""Steps in float16 whose batch several processes share: what of it overflows is what would in one process."""

from __future__ import annotations

import torch
from torch import nn

from netwright.distributed.world import ALONE
from netwright.engine.scaling import Scaler
from netwright.engine.shared import SharedLoss


def stepped(factor: float, processes: int) -> tuple[torch.Tensor, int]:
    """Take a step whose loss in float16 is so many times as large, shared by so many processes; return weights and skips."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer, scaler = torch.optim.SGD([weight], lr=0.01), Scaler("cpu", processes)
    with torch.autocast("cpu", torch.float16):
        loss = (weight.half() * torch.tensor([0.7, 0.4]).half()).sum().float() * factor
    scaler.scale(loss).backward()
    scaler.unscale(optimizer)
    if processes > 1:
        assert weight.grad is not None
        weight.grad /= processes  # the mean over processes, as DistributedDataParallel takes it
    scaler.step(optimizer)
    return weight.detach(), scaler.skipped


def test_the_gradients_of_a_part_overflow_where_those_of_one_process_would() -> None:
    (one, none), (four, nothing) = stepped(0.5, 1), stepped(2.0, 4)
    assert (none, nothing) == (0, 0)
    assert torch.equal(one, four)
    assert stepped(2.0, 1)[1] == 1  # as it would be, were the loss of each process scaled as it is
    assert stepped(8.0, 4)[1] == 1


def test_a_process_without_a_row_adds_nothing_to_a_scaled_step() -> None:
    loss = SharedLoss(nn.functional.cross_entropy, ALONE)
    output = torch.ones(1, 3, dtype=torch.float16, requires_grad=True)
    loss.begin(0.0, 5.0)
    (loss(output, torch.tensor([0])) * 65536.0).backward()
    assert output.grad is not None
    assert torch.equal(output.grad, torch.zeros(1, 3, dtype=torch.float16))
