"""What Python users call before a long run: its learning rate, its batch size, what it will take; nothing is kept. Floor 15."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from netwright.foresight.budgeting import FAILURES, Budget, budget
from netwright.foresight.ranging import COPIES, HIGHEST, LOWEST, STEPS, Sweep, sweep_rates
from netwright.foresight.sizing import Sizes, measured_sizes
from netwright.pipeline.asking import gather_all


def find_learning_rate(
    config: Any = None,
    *,
    rates: tuple[float, float] = (LOWEST, HIGHEST),
    steps: int = STEPS,
    copies: int = COPIES,
    model: Any = None,
    data: Any = None,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    **keywords: Any,
) -> Sweep:
    """Train copies with a learning rate that grows from step to step, and say which to take (Smith, 2017).

    Args:
        config, model, data: As for `netwright.train`; a module is not changed.
        rates: The first and the last.
        steps: Of each copy, while it does not break down.
        copies: How many, each with another order of the train rows.
        code, settings: Python files that may run; texts such as ``"training.optimizer='SGD(lr=0.1)'"``.
        **keywords: As for `netwright.train`, ``loss=`` and ``optimizer=`` too.

    Returns:
        ``sweep.suggested``, ``sweep.rates``, ``sweep.smoothed``; printed, it is drawn. ``sweep.picture()`` is a PNG.

    Raises:
        ConfigError, DataError: See `netwright.train`.

    Example:
        >>> import netwright as nw
        >>> sweep = nw.find_learning_rate("sklearn:iris", steps=60, copies=1)
        >>> 1e-5 < sweep.suggested < 1.0
        True
    """
    asked = gather_all(config, model, data, keywords.pop("loss", None), code, settings, keywords)
    return sweep_rates(asked.bench(), rates, steps, copies)


def find_batch_size(
    config: Any = None,
    *,
    memory: int | None = None,
    most: int | None = None,
    model: Any = None,
    data: Any = None,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    **keywords: Any,
) -> Sizes:
    """Take steps with larger and larger batches, and say which fit and how fast they train.

    Args:
        config, model, data: As for `netwright.train`; a module is not changed.
        memory: Bytes that a step may take; None for half of the free memory of the CPU, all of a GPU's.
        most: The largest size to try; None for the train rows.
        code, settings: Python files that may run; texts such as ``"training.engine=eager"``.
        **keywords: As for `netwright.train`, ``loss=`` and ``optimizer=`` too.

    Returns:
        ``sizes.largest``, ``sizes.enough``, ``sizes.sizes``; printed, it is drawn.

    Raises:
        ConfigError, DataError: See `netwright.train`.

    Example:
        >>> import netwright as nw
        >>> nw.find_batch_size("sklearn:iris", most=16).largest
        16
    """
    asked = gather_all(config, model, data, keywords.pop("loss", None), code, settings, keywords)
    return measured_sizes(asked.bench(), asked.config, memory, most)


def plan(
    config: Any = None,
    *,
    failure_hours: float = FAILURES,
    model: Any = None,
    data: Any = None,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    **keywords: Any,
) -> Budget:
    """Take some steps, a validation and a checkpoint on copies, and say what the whole run will take.

    Args:
        config, model, data: As for `netwright.train`; a module is not changed.
        failure_hours: Hours between two failures of the machine, for the interval of the checkpoints.
        code, settings: Python files that may run; texts such as ``"training.epochs=50"``.
        **keywords: As for `netwright.train`, ``loss=`` and ``optimizer=`` too.

    Returns:
        ``budget.whole_seconds``, ``budget.epoch_seconds``, ``budget.disk_bytes``, ``budget.young``; printed, it is a table.

    Raises:
        ConfigError, DataError: See `netwright.train`.

    Example:
        >>> import netwright as nw
        >>> nw.plan("sklearn:iris", epochs=3).steps
        9
    """
    begun = time.perf_counter()
    asked = gather_all(config, model, data, keywords.pop("loss", None), code, settings, keywords)
    bench = asked.bench()
    return budget(bench, time.perf_counter() - begun, failure_hours)
