"""Calls in several processes, answered in order: what reads items and changes images side by side. Floor 2."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, final

import torch
from torch.utils.data import DataLoader, Dataset

from netwright.errors import DataError, NetwrightError, first_line

Key = TypeVar("Key")
Value = TypeVar("Value")


@final
class _Calls(Dataset[Any]):
    """A function as the Dataset of its keys; errors that explain themselves travel whole."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self.call = call

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.call(key)
        except NetwrightError as error:
            return error


def in_order(call: Callable[[Key], Value], keys: Iterable[Key], workers: int) -> Iterator[Value]:
    """Yield what a function gives for each key, in the order of the keys.

    Args:
        call: A function of one key, that may be pickled where processes are spawned.
        keys: What it is called with.
        workers: Processes, at most one per core; 0 for this one. The answers are the same for any.

    Raises:
        NetwrightError: What the function raised.
        DataError: A process died.
    """
    if not workers:
        yield from map(call, keys)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside torch's threads, which wait meanwhile
        answers = iter(
            DataLoader(
                _Calls(call),
                batch_size=None,
                sampler=keys,
                num_workers=min(workers, os.cpu_count() or 1),
                collate_fn=_as_it_is,
                generator=torch.Generator(),
            )
        )
    while True:
        try:
            answer = next(answers)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"data.workers: {first_line(error)}; expected a process that lives; free memory, use fewer workers, or set "
                "data.workers = 0 to see what kills it"
            ) from error
        if isinstance(answer, NetwrightError):
            raise answer
        yield answer


def _as_it_is(value: Any) -> Any:
    return value
