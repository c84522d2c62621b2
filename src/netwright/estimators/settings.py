"""The parameters of an estimator as they are checked at the beginning of ``fit``; errors in scikit-learn's kind. Floor 17."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from netwright.config import signatures
from netwright.config.calls import Call, layer_texts, parse_call
from netwright.engine.choose import choose_device
from netwright.errors import NetwrightError, warn_of
from netwright.training.journal import EpochRecord

LAYERS = ("Linear(100)", "ReLU()", "Linear()")  # where none are given
ENGINES = ("auto", "captured", "compiled", "eager")
INSIDE = {  # parameters that have some of their own, by two underscores
    "optimizer": "Adam(lr=0.001)",
    "loss": "CrossEntropyLoss(label_smoothing=0.1)",
    "module_arguments": "",
}
MOST_ROWS = 200  # of a step, where nothing is written


class EstimatorError(NetwrightError, ValueError):
    """Parameters or data that an estimator cannot use; a ValueError, as scikit-learn expects."""

    exit_code = 2


@contextmanager
def as_value_errors() -> Iterator[None]:
    """Turn the errors of the parts an estimator uses into its own, which name its parameters."""
    try:
        yield
    except EstimatorError:
        raise
    except NetwrightError as error:
        raise EstimatorError(in_own_words(str(error))) from error


def in_own_words(text: str) -> str:
    """Return a text of the parts an estimator uses with the names of its parameters."""
    for ours, theirs in PLACES.items():
        text = re.sub(ours, theirs, text)
    return text


PLACES = {  # what the parts call it, and what an estimator does
    r"model\.layers\.": "layers.",
    r"model\.arguments": "module_arguments",
    r"model\.module": "module",
    r"training\.": "",
    r" or set data\.task": "",
    r', or set data\.layout = "\w+"': "",
}


@dataclass(frozen=True)
class Settings:
    """What a fit is asked for.

    ``batch_size`` and ``threads`` are None where they are to be chosen, ``patience`` is None without early stopping.
    """

    layers: tuple[Call, ...]
    module: nn.Module | Callable[..., nn.Module] | None
    module_arguments: Mapping[str, Any]
    optimizer: str
    loss: Any
    epochs: int
    batch_size: int | None
    standardize: bool
    patience: int | None
    validation_fraction: float
    engine: str
    threads: int | None
    device: torch.device
    observers: tuple[Callable[[EpochRecord], None], ...]

    def rows_of(self, rows: int) -> int:
        """Return the rows of a step, of so many train rows."""
        return min(self.batch_size or MOST_ROWS, rows)


def with_inner(name: str, given: Any, inner: str, value: Any) -> Any:
    """Return a parameter with something in it changed.

    Args:
        name: One of `INSIDE`.
        given: Its value: the text of an optimizer or loss, or a dictionary of arguments.
        inner: An argument's name.
        value: That of the argument.

    Raises:
        EstimatorError: The optimizer or loss is no text.

    Example:
        >>> with_inner("optimizer", "Adam(lr=0.001)", "lr", 0.1), with_inner("module_arguments", None, "hidden", 8)
        ('Adam(lr=0.1)', {'hidden': 8})
    """
    if name == "module_arguments":
        return {**(given or {}), inner: value}
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if not isinstance(given, str):
        raise _unfit(f"{name}__{inner}", value, f"{name} to be a text, such as {INSIDE[name]!r}, in which it stands")
    registry = signatures.optimizers() if name == "optimizer" else signatures.losses()
    return str(signatures.named(parse_call(given, name), registry, name).with_keyword(inner, value))


def read_settings(parameters: Mapping[str, Any]) -> Settings:
    """Check the parameters of an estimator.

    Args:
        parameters: What ``get_params`` gives.

    Raises:
        EstimatorError: A parameter cannot be used.
    """
    given = dict(parameters)
    threads, size = given["threads"], given["batch_size"]
    fraction = given["validation_fraction"]
    if not isinstance(fraction, numbers.Real) or not 0.0 < float(fraction) < 1.0:
        raise _unfit("validation_fraction", fraction, "a number above 0 and below 1")
    if given["engine"] not in ENGINES:
        raise _unfit("engine", given["engine"], f"one of {', '.join(ENGINES)}")
    if not isinstance(given["optimizer"], str):
        raise _unfit("optimizer", given["optimizer"], 'a text such as "Adam(lr=0.001)"')
    signatures.read_call(given["optimizer"], signatures.optimizers(), "optimizer")
    if given["loss"] is not None and not isinstance(given["loss"], str) and not callable(given["loss"]):
        raise _unfit("loss", given["loss"], 'a text such as "MSELoss()", a loss of torch.nn, a function or None')
    if isinstance(given["loss"], str):
        signatures.read_call(given["loss"], signatures.losses(), "loss")
    observers = given["observers"]
    if not isinstance(observers, list | tuple) or not all(map(callable, observers)):
        raise _unfit("observers", observers, "a list of functions, such as [print]")
    module = given["module"]
    if module is not None and not callable(module):
        raise _unfit("module", module, "a torch.nn.Module, its class or None")
    layers = given["layers"]
    usual = isinstance(layers, Iterable) and tuple(layers) == LAYERS
    if module is not None and layers is not None and not usual:
        warn_of(
            f"layers: {given['layers']!r} came beside module, which is the network, and does nothing; leave one of them out"
        )
    if given["module_arguments"] and (module is None or isinstance(module, nn.Module)):
        beside = "no module" if module is None else "a module that is made already"
        warn_of(
            f"module_arguments: {given['module_arguments']!r} came beside {beside}, and does nothing; hand over its class"
        )
    return Settings(
        () if module is not None else read_layers(given["layers"]),
        module,
        dict(given["module_arguments"] or {}),
        given["optimizer"],
        given["loss"],
        _whole("epochs", given["epochs"]),
        None if size == "auto" else _whole("batch_size", size),
        bool(given["standardize"]),
        _whole("n_iter_no_change", given["n_iter_no_change"]) if given["early_stopping"] else None,
        float(fraction),
        given["engine"],
        None if threads is None else _whole("threads", threads),
        choose_device(given["device"]),
        tuple(observers),
    )


def read_layers(layers: Any) -> tuple[Call, ...]:
    """Read layers: texts, or one text with several.

    Raises:
        EstimatorError: There are none, or one is no text.
        ConfigError: A text is no call.
    """
    texts = layer_texts(layers, "layers") if isinstance(layers, str) else layers
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise _unfit("layers", layers, 'texts such as ("Linear(64)", "ReLU()", "Linear()")')
    return tuple(parse_call(text, f"layers.{place}") for place, text in enumerate(texts))


def own_name(module: Any) -> str:
    """Return the name of an own module or of what makes it."""
    kind = type(module) if isinstance(module, nn.Module) else module
    return str(getattr(kind, "__qualname__", type(module).__name__))


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise _unfit(name, value, "a whole number from 1")
    return int(value)


def _unfit(name: str, value: Any, expected: str) -> EstimatorError:
    return EstimatorError(f"{name}: {value!r} came; expected {expected}; change it")
