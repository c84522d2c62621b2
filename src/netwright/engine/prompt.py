"""Few rows answered in little time: the recording of a call that is trusted, and what must still hold before it is played.

Floor 7.
"""

from __future__ import annotations

import threading
from typing import Any, final

import numpy.typing as npt
import torch

from netwright.engine.watched import Watched
from netwright.recording.native import Program
from netwright.recording.recorded import Recorded


@final
class Prompt:
    """Answers arrays of one shape and dtype, or says that a call is to be made: a few checks and one call of native code.

    Args:
        known: The recording, which draws no random numbers and gathers the one input.
        watched: The network that it is of, which rests.
        threads: Of each operation; None for the caller's.
        products: As exact as torch.get_float32_matmul_precision() tells.
        alone: Held while it answers: a recording has one place for its output.
    """

    def __init__(self, known: Recorded, watched: Watched, threads: int | None, products: str, alone: threading.Lock) -> None:
        if not isinstance(known.player, Program):
            raise TypeError("a recording that is played from Python answers no arrays")
        self._known, self._player, self._threads, self._products = known, known.player, threads or 0, products
        self._still, self._alone = watched.still, alone
        self._result: npt.NDArray[Any] = known.tape.results[0].numpy()

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """Return the output for rows that nobody checked, or None."""
        flags = values.flags
        if not flags.c_contiguous or not flags.aligned:
            return None
        with self._alone:
            if self._known.player is not self._player or not self._still() or torch.is_autocast_enabled("cpu"):
                return None
            try:
                as_exact = torch.get_float32_matmul_precision() == self._products
            except RuntimeError:  # a backend was told apart: a call tells
                return None
            if as_exact and self._player.answers(values.__array_interface__["data"][0], self._threads):
                return self._result.copy()
            return None
