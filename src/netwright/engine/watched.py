"""Whether a network is as it was: its modules, their settings and hooks, and where its tensors lie. Floor 7."""

from __future__ import annotations

import operator
from itertools import chain
from typing import Any, final

from torch import Tensor, nn
from torch.nn.modules import module as of_all

from netwright.engine.own_code import own_code
from netwright.recording.state import parts_of

TENSORS = (Tensor, nn.Parameter)
EVERY = {*vars(nn.Module()), *vars(nn.Sequential())} - {"training"}  # what each module holds, beside its mode


@final
class Watched:
    """A network as it is now, and whether it still is so: asked before each answer, which takes a few microseconds.

    Watched are modules, the values that they hold by name (not what changes within a list of an own one), their hooks, and the
    addresses and strides of ``tensors``, the parameters and buffers; not the numbers of these. ``computes`` tells that all that
    runs is code of torch.nn and ours, which draws from torch's generators, if at all, and no others; ``rests`` that it
    does so in eval mode.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        parts = parts_of(model)
        self._held = [vars(part) for part in parts]
        names = [[name for name in held if name not in EVERY] for held in self._held]
        self._read = [operator.itemgetter(*some, "training") for some in names]
        self._values = [*map(operator.call, self._read, self._held)]
        loose = [(held, name) for held, some in zip(self._held, names, strict=True) for name in some]
        self._loose = [
            (held, name, held[name]) for held, name in loose if isinstance(held[name], Tensor)
        ]  # == compares numbers
        kept: list[dict[str, Any]] = [kept for part in parts for kept in (part._parameters, part._buffers, part._modules)]
        self._full = [values for values in kept if values]
        self._sized: list[dict[str, Any]] = [*self._held, *self._full]
        self._sizes = [*map(len, self._sized)]
        self._inside: list[Any] = [*chain.from_iterable(map(dict.values, self._full))]
        hooks = [
            hooks
            for part in parts
            for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
        ]
        hooks += [of_all._global_forward_hooks, of_all._global_forward_pre_hooks]
        hooks += [of_all._global_backward_hooks, of_all._global_backward_pre_hooks]
        self._empty = [*(values for values in kept if not values), *(each for each in hooks if not each)]
        self.tensors = [value for value in self._inside if isinstance(value, Tensor)]
        self._places, self._strides = self._lie()
        built = not own_code(model, nn.Identity()) and all(map(_plain, parts))
        self.computes = built and not any(hooks)
        self.rests = self.computes and not any(part.training for part in parts)

    def still(self) -> bool:
        """Tell whether the network is as it was."""
        return self.alike() and self._lie() == (self._places, self._strides)

    def alike(self) -> bool:
        """Tell the same but for where tensors lie."""
        try:
            same = [*map(operator.call, self._read, self._held)] == self._values
        except (
            KeyError,
            RuntimeError,
            TypeError,
            ValueError,
        ):  # one is gone, or has become what == compares number by number
            return False
        return (
            same
            and not any(self._empty)
            and [*map(len, self._sized)] == self._sizes
            and all(map(operator.is_, chain.from_iterable(map(dict.values, self._full)), self._inside))
            and all(held[name] is value for held, name, value in self._loose)
        )

    def _lie(self) -> tuple[list[int], list[tuple[int, ...]]]:
        return [*map(Tensor.data_ptr, self.tensors)], [*map(Tensor.stride, self.tensors)]


def _plain(part: nn.Module) -> bool:
    """Tell whether a module runs the forward of its class, has plain tensors, and no functions but torch's."""
    tensors = [value for value in (*part._parameters.values(), *part._buffers.values()) if value is not None]
    functions = [value for value in vars(part).values() if callable(value)]
    return (
        "forward" not in vars(part)
        and all(type(value) in TENSORS for value in tensors)
        and all(str(getattr(value, "__module__", None)).split(".")[0] == "torch" for value in functions)
    )
