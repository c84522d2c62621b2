"""Recurrent layers step by step, as graphs of a free number of steps hold them: torch's own fix it while they are traced. Floor 10.

Source: torch's documentation of RNN, LSTM and GRU, whose formulas these are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from netwright.model import modules

State = tuple[Tensor, ...]
Cell = Callable[[State, Tensor, Tensor], State]


def read_step_by_step(network: nn.Module) -> None:
    """Let the recurrent layers of a network, which shall be a copy, be read by torch's operation ``scan``, step after step."""
    for part in network.modules():
        if type(part) in CELLS and isinstance(part, nn.RNNBase) and part.batch_first and not part.proj_size:
            part.forward = partial(_outputs, part)


def _outputs(layer: nn.RNNBase, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return what the last level gives at each step, ``(batch, time, directions * hidden)``, in eval mode.

    Args:
        layer: A recurrent layer.
        x: ``(batch, time, features)``.
        lengths: The real steps of each row, int64 ``(batch,)``: there its way back begins, and the others are 0; None where
            all are real.
    """
    for level in range(layer.num_layers):
        found = [_direction(layer, f"_l{level}", x)]
        if layer.bidirectional:
            found.append(_turned(_direction(layer, f"_l{level}_reverse", _turned(x, lengths)), lengths))
        x = torch.cat(found, dim=2)
    if lengths is None:
        return x
    return x.masked_fill((torch.arange(x.shape[1]) >= lengths.unsqueeze(1)).unsqueeze(2), 0)


def _direction(layer: nn.RNNBase, name: str, x: Tensor) -> Tensor:
    """Return the outputs of one direction of a level."""
    from torch._higher_order_ops.scan import scan  # imports the compiler

    cell = CELLS[type(layer)]
    inputs = nn.functional.linear(x, getattr(layer, f"weight_ih{name}"), getattr(layer, f"bias_ih{name}", None))
    weight, bias = getattr(layer, f"weight_hh{name}"), getattr(layer, f"bias_hh{name}", None)
    if getattr(layer, "nonlinearity", "tanh") == "relu":
        cell = _relu

    def step(state: State, given: Tensor) -> tuple[State, Tensor]:
        after = cell(state, given, nn.functional.linear(state[0], weight, bias))
        return after, after[0].clone()

    begin = tuple(x.new_zeros(x.shape[0], layer.hidden_size) for _ in range(2 if cell is _lstm else 1))
    _, outputs = scan(step, begin, inputs.transpose(0, 1), dim=0)
    sequence: Tensor = outputs.transpose(0, 1)
    return sequence


def _turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return rows with their real steps in turned order."""
    if lengths is None:
        return x.flip(1)
    place = torch.arange(x.shape[1]).unsqueeze(0)
    last = lengths.unsqueeze(1) - 1
    order = torch.where(place <= last, last - place, place)
    return x.gather(1, order.unsqueeze(2).expand(-1, -1, x.shape[2]))


def _tanh(state: State, given: Tensor, kept: Tensor) -> State:
    return (torch.tanh(given + kept),)


def _relu(state: State, given: Tensor, kept: Tensor) -> State:
    return (torch.relu(given + kept),)


def _lstm(state: State, given: Tensor, kept: Tensor) -> State:
    enter, forget, new, leave = (given + kept).chunk(4, dim=1)
    memory = torch.sigmoid(forget) * state[1] + torch.sigmoid(enter) * torch.tanh(new)
    return torch.sigmoid(leave) * torch.tanh(memory), memory


def _gru(state: State, given: Tensor, kept: Tensor) -> State:
    reset, update, new = given.chunk(3, dim=1)
    reset_kept, update_kept, new_kept = kept.chunk(3, dim=1)
    candidate = torch.tanh(new + torch.sigmoid(reset + reset_kept) * new_kept)
    return (candidate + torch.sigmoid(update + update_kept) * (state[0] - candidate),)


CELLS: dict[Any, Cell] = {modules.RNN: _tanh, modules.LSTM: _lstm, modules.GRU: _gru}
