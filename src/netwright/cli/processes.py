"""Commands that several processes run together: one of them prints. Floor 18."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from netwright.distributed.joining import join, launched

if TYPE_CHECKING:
    from netwright.distributed.world import World


@contextmanager
def processes(timeout: float) -> Iterator[World | None]:
    """Be one of the processes that a launcher started, for a command.

    Args:
        timeout: Seconds that one process waits for another.

    Yields:
        The processes; None, and nothing is imported, where there is no launcher.
    """
    if not launched():
        yield None
        return
    with join(timeout) as world:
        yield world
