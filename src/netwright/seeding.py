"""One seed in, named independent streams of random numbers out.

``stream(seed, name, *keys)`` is SeedSequence([seed, index(name), *keys]) of NumPy: the same numbers on every
machine, and no stream disturbs another. Printed by eject. Floor 0: imports nothing of the project.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

# The position is part of the seed: append new names, never reorder.
STREAMS = ("initialisation", "order", "training", "split", "resampling", "augmentation", "folds", "checks", "tuning")

ALONE = threading.RLock()  # generators and torch's number of threads are of the process: one thread trains at a time

P = ParamSpec("P")
R = TypeVar("R")


def stream(seed: int, name: str, *keys: int) -> np.random.Generator:
    """Return the generator of one named stream.

    Args:
        seed: The user's seed, 0 or more.
        name: One of `STREAMS`.
        keys: Further coordinates, such as the epoch.

    Returns:
        A fresh ``numpy.random.Generator``; equal arguments give equal numbers.

    Example:
        >>> bool((stream(1, "order", 3).permutation(5) == stream(1, "order", 3).permutation(5)).all())
        True
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, STREAMS.index(name), *keys])))


def torch_seed(seed: int, name: str, *keys: int) -> int:
    """Return the whole number that seeds torch's global generator for one stream (below 2**63)."""
    return int(stream(seed, name, *keys).integers(0, 2**63 - 1))


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that waits while another thread of this process trains."""

    @wraps(function)
    def waiting(*arguments: P.args, **keywords: P.kwargs) -> R:
        with ALONE:
            return function(*arguments, **keywords)

    return waiting


@contextmanager
def all_forked(gpus: Sequence[int] = ()) -> Iterator[None]:
    """Run a block without moving the global generators of torch (CPU, and some GPUs), NumPy and Python's random."""
    import torch

    ours, theirs = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(theirs)


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Run a block in which new tensors are float32, whatever the user's default is."""
    import torch

    before = torch.get_default_dtype()
    if before == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def seed_all(number: int) -> None:
    """Seed the global generators of torch (CPU), NumPy and Python's random, for code that draws from them."""
    import torch

    torch.default_generator.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)


@contextmanager
def initialising(seed: int) -> Iterator[None]:
    """Run a block that builds a network with all generators as they are where a run begins, and put them back afterwards.

    An own class may draw from NumPy's and Python's generators as from torch's: built again, it draws the same.

    Args:
        seed: Of the run.
    """
    import torch

    number = torch_seed(seed, "initialisation")
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    apple = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        with all_forked(gpus), float32_by_default():
            seed_all(number)
            if gpus:
                torch.cuda.manual_seed_all(number)
            if apple is not None:
                torch.mps.manual_seed(number)
            yield
    finally:
        if apple is not None:
            torch.mps.set_rng_state(apple)


def drawn_from() -> tuple[bytes, ...]:
    """Return the states of the three global generators: equal before and after, nothing was drawn."""
    import torch

    state = np.random.get_state(legacy=False)
    numbers = state["state"] if isinstance(state, dict) else state
    return (
        torch.default_generator.get_state().numpy().tobytes(),
        repr((numbers["key"].tobytes(), numbers["pos"])).encode(),
        repr(random.getstate()).encode(),
    )


@contextmanager
def forked(device: torch.device) -> Iterator[None]:
    """Run a block without moving torch's global generators: validating never changes training."""
    import torch

    if device.type == "cuda":
        with torch.random.fork_rng(devices=[device]):
            yield
        return
    state = torch.default_generator.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def generator_states(device: torch.device) -> dict[str, Any]:
    """Return the states of the global generators that training draws from: torch (CPU and device), NumPy, Python's random.

    Args:
        device: That the network is on.

    Returns:
        Tensors, numbers and tuples, for `restore_generators`.
    """
    import torch

    name, key, *rest = np.random.get_state()
    found: dict[str, Any] = {
        "torch": torch.default_generator.get_state(),
        "numpy": (name, torch.from_numpy(np.asarray(key).astype(np.int64)), *rest),
        "random": random.getstate(),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["mps"] = torch.mps.get_rng_state()
    return found


def restore_generators(states: Mapping[str, Any], device: torch.device) -> None:
    """Put the global generators where `generator_states` found them; a device of another kind keeps its own."""
    import torch

    torch.default_generator.set_state(states["torch"])
    name, key, *rest = states["numpy"]
    np.random.set_state((name, key.numpy().astype(np.uint32), *rest))
    random.setstate(states["random"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
