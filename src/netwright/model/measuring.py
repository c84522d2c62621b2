"""What a layer gives for two rows: small layers are run on the CPU, large ones on the meta device. Floor 4."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from netwright.model.layers import Form
from netwright.seeding import forked

LARGEST_ROW = 1 << 20  # numbers in a row
MOST_WEIGHTS = 1 << 26
MOST_PRODUCTS = 1 << 30  # multiply-adds of a row, about


@contextmanager
def without_weights() -> Iterator[None]:
    """Let the modules that a block makes have shapes, but no weights: they are on the meta device."""
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Leaves out `torch.nn.init`: on the meta device there is nothing to fill, and its normal_ imports torch._dynamo."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else keywords["tensor"]
        return function(*arguments, **(keywords or {}))


def two_rows(module: nn.Module, form: Form, width: int | None) -> Any:
    """Call a layer with two rows; no generator is moved.

    torch's functions for the meta device are written in Python: the first convolution imports sympy, the first ReLU
    torch._dynamo, which together take longer than torch itself. So a small layer is run on the CPU, with weights of 0. What
    fails there is asked again on the meta device, and told in its words.

    Args:
        module: On the meta device; it may be left on the CPU.
        form: What comes in.
        width: Features or channels that a row of products reads; None for layers without weights to multiply with.

    Raises:
        Exception: Whatever the layer raises.
    """
    kind = torch.long if form.codes else torch.float32
    if _small(module, form, width):
        try:
            _fill(module)
            with forked(torch.device("cpu")), torch.no_grad():
                return module(torch.zeros(2, *form.shape, dtype=kind))
        except Exception:  # refused again below
            module = module.to(device="meta")
    return module(torch.empty(2, *form.shape, device="meta", dtype=kind))


def _small(module: nn.Module, form: Form, width: int | None) -> bool:
    """Tell whether a layer takes little time and memory; its multiply-adds are rather counted too high."""
    places = form.size // max(width or form.size, 1)
    weights = sum(parameter.numel() for parameter in module.parameters())
    attention = form.size * places if isinstance(module, nn.MultiheadAttention | nn.TransformerEncoderLayer) else 0
    return form.size <= LARGEST_ROW and weights <= MOST_WEIGHTS and weights * places + attention <= MOST_PRODUCTS


def _fill(module: nn.Module) -> None:
    """Give a module on the meta device weights and buffers of 0 on the CPU."""
    for part in module.modules():
        for name, value in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(torch.zeros(value.shape, dtype=value.dtype), requires_grad=False))
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, torch.zeros(buffer.shape, dtype=buffer.dtype))
