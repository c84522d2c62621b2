"""Figures of a training by a step of one's own: what a plain function of network and batch says, over rows. Floor 8."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from netwright.data.batches import Batch, Examples, Rows, batches
from netwright.errors import ConfigError, first_line
from netwright.evaluation.scoring import evaluating
from netwright.seeding import all_forked, seed_all, torch_seed


def evaluated(
    function: Callable[[nn.Module, Batch], Any], name: str, model: nn.Module, examples: Examples, rows: Rows, batch_size: int
) -> dict[str, float]:
    """Return the mean figures of some rows; neither the mode of the network nor a generator is moved.

    A figure that the function leaves out for some batches, such as the area under a curve where all rows are of one class, is the
    mean over the others.

    What the function draws at random is the same each time: the generators are seeded before, and put back afterwards.

    Args:
        function: Of the network in eval mode, without gradients, and a batch, to one number (the loss) or to numbers by name.
        name: Of the function.
        model: The network.
        examples: All prepared rows, on its device.
        rows: The row numbers, in order.
        batch_size: Rows at a time.

    Raises:
        ConfigError: The function fails, or gives no such figures.
    """

    def parts() -> Iterable[tuple[dict[str, float], int]]:
        for batch in batches(examples, rows, batch_size):
            yield figures_of(function(model, batch), name), len(batch)

    with all_forked(), evaluating(model, examples.device):
        seed_all(torch_seed(0, "checks"))
        torch.manual_seed(torch_seed(0, "checks"))
        try:
            return weighted(parts())
        except ConfigError:
            raise
        except Exception as error:  # an own function may raise anything
            raise ConfigError(
                f"evaluate: {name} fails: {type(error).__name__}: {first_line(error)}; expected figures; mend the function"
            ) from error


def figures_of(found: Any, name: str) -> dict[str, float]:
    """Return what a function says of a batch as figures by name; one number is the ``loss``.

    Raises:
        ConfigError: It is neither a number nor figures with a loss among them.
    """
    figures = dict(found) if isinstance(found, Mapping) else {"loss": found}
    try:
        told = {str(key): float(value) for key, value in figures.items()}
    except (TypeError, ValueError, RuntimeError):
        told = {}
    if "loss" not in told:
        kind = f"figures {', '.join(map(str, figures))}" if isinstance(found, Mapping) else type(found).__name__
        raise ConfigError(
            f'evaluate: {name} returned {kind}; expected a number, or numbers by name with "loss" among them, which chooses the '
            "best epoch; return such"
        )
    return told


def weighted(parts: Iterable[tuple[dict[str, float], int]]) -> dict[str, float]:
    """Return the mean of figures over batches, each with its rows; of one that some batches lack over the rows that have it.

    Example:
        >>> weighted([({"loss": 1.0, "area": 0.5}, 3), ({"loss": 5.0}, 1)])
        {'loss': 2.0, 'area': 0.5}
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for figures, rows in parts:
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value * rows
            counts[name] = counts.get(name, 0) + rows
    return {name: value / counts[name] for name, value in sums.items()}
