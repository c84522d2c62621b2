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
HELD = ("_parameters", "_buffers", "_modules")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@final
class Watched:
    """A network as it is now, and whether it still is so: asked before each answer, which takes a few microseconds.

    Watched are modules and their classes, the objects that they hold by name (not what changes within a list of an own one),
    their hooks, and address, shape and strides of parameters and buffers; not the numbers of these. ``computes`` tells that all
    that runs is code of torch.nn and ours, which draws from torch's generators, if at all, and no others; ``rests`` that it
    does so in eval mode. A network that is no tree of plain modules and tensors is not ``seen``, and never as it was.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self.seen = self.computes = self.rests = False
        try:
            self._see(model)
        except (AttributeError, KeyError, RuntimeError, TypeError):  # of torch.jit, or a tensor that has no address
            return
        self.seen = True

    def _see(self, model: nn.Module) -> None:
        self._parts = parts = parts_of(model)
        self._held = [vars(part) for part in parts]
        kept: list[dict[Any, Any]] = [held[name] for held in self._held for name in HELD]
        hooks: list[dict[Any, Any]] = [held[name] for held in self._held for name in HOOKS]
        hooks += [of_all._global_forward_hooks, of_all._global_forward_pre_hooks]
        hooks += [of_all._global_backward_hooks, of_all._global_backward_pre_hooks]
        self._empty = [values for values in (*kept, *hooks) if not values]
        self._read = [*self._held, *(values for values in (*kept, *hooks) if values)]
        self._sizes = [*map(len, self._read)]
        self._kinds = [*map(type, parts)]
        self._objects = [*self._values()]
        self._tensors = [value for values in kept for value in dict.values(values) if isinstance(value, Tensor)]
        self._places = self._lie()
        built = not own_code(model, nn.Identity()) and all(map(_plain, parts))
        self.computes = built and not any(hooks)
        self.rests = self.computes and not any(part.training for part in parts)

    def still(self) -> bool:
        """Tell whether the network is as it was."""
        try:
            return (
                self.seen
                and not any(self._empty)
                and [*map(len, self._read)] == self._sizes
                and [*map(type, self._parts)] == self._kinds
                and all(map(operator.is_, map(vars, self._parts), self._held))
                and all(map(operator.is_, self._values(), self._objects))
                and self._lie() == self._places
            )
        except RuntimeError:  # a tensor has no address any more
            return False

    def _values(self) -> chain[Any]:
        return chain.from_iterable(map(dict.values, self._read))

    def _lie(self) -> tuple[list[Any], ...]:
        tensors = self._tensors
        return [*map(Tensor.data_ptr, tensors)], [*map(Tensor.size, tensors)], [*map(Tensor.stride, tensors)]


def _plain(part: nn.Module) -> bool:
    """Tell whether a module runs the forward of its class, has plain tensors, and no functions but torch's."""
    tensors = [value for value in (*part._parameters.values(), *part._buffers.values()) if value is not None]
    functions = [value for value in vars(part).values() if callable(value)]
    return (
        "forward" not in vars(part)
        and all(type(value) in TENSORS for value in tensors)
        and all(str(getattr(value, "__module__", None)).split(".")[0] == "torch" for value in functions)
    )
