"""One seed in, named independent streams of random numbers out.

``stream(seed, name, *keys)`` is SeedSequence([seed, index(name), *keys]) of NumPy: the same numbers on every
machine, and no stream disturbs another. Floor 0: imports nothing of the project.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

# The position is part of the seed: append new names, never reorder.
STREAMS = ("initialisation", "order", "training", "split", "resampling", "augmentation", "folds", "checks")


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


@contextmanager
def all_forked() -> Iterator[None]:
    """Run a block without moving the global generators of torch (CPU), NumPy and Python's random."""
    import torch

    ours, theirs = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(theirs)


def seed_all(number: int) -> None:
    """Seed the global generators of torch (CPU), NumPy and Python's random, for code that draws from them."""
    import torch

    torch.default_generator.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)


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

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
