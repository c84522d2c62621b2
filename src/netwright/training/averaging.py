"""Averaged weights by their text: EMA(decay=0.999) after every step, SWA(start_epoch=15) after every epoch. Floor 9."""

from __future__ import annotations

import math

from torch import nn

from netwright.config import signatures
from netwright.config.calls import Call, parse_call
from netwright.engine.averaged import Averaged
from netwright.errors import ConfigError

WHERE = "training.average"
DECAY = 0.999  # torch's own default
BEGINS = 0.75  # share of the epochs before an equal average, as in the paper (Izmailov et al. 2018, section 4)


def resolve_average(text: str, epochs: int, planned: int | None = None) -> Call:
    """Return the call with every argument by keyword.

    Args:
        text: ``EMA(decay=0.999)`` or ``SWA(start_epoch=15)``.
        epochs: Of the run.
        planned: Of these, where a number of steps ends it earlier; where nothing is written the last quarter of them.

    Raises:
        ConfigError: A name or a value that makes no average.

    Example:
        >>> str(resolve_average("SWA()", 20))
        'SWA(start_epoch=15)'
    """
    call = parse_call(text, WHERE)
    problem = signatures.averages().problem(call, WHERE)
    if problem:
        raise ConfigError(problem)
    given = signatures.named(call, signatures.averages(), WHERE).keywords
    if call.name == "EMA":
        decay = given.get("decay", DECAY)
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise ConfigError(f"{WHERE}: decay={decay!r} came; expected a number from 0 to below 1; write EMA(decay=0.999)")
        return Call("EMA", (), (("decay", float(decay)),))
    start = given.get("start_epoch", max(1, math.ceil(BEGINS * (epochs if planned is None else planned))))
    if isinstance(start, bool) or not isinstance(start, int) or start < 1 or start > max(epochs, 1):
        raise ConfigError(
            f"{WHERE}: start_epoch={start!r} came; expected the first epoch whose weights are averaged, from 1 to {epochs}, the "
            "last of the run; write SWA()"
        )
    return Call("SWA", (), (("start_epoch", start),))


def make_averaged(text: str | None, model: nn.Module) -> Averaged | None:
    """Return the average of a resolved text, with nothing in it yet; None without a text."""
    if text is None:
        return None
    given = parse_call(text, WHERE).keywords
    return Averaged(model, decay=given["decay"]) if "decay" in given else Averaged(model, start=given["start_epoch"])
