"""The heart of the verb lr: a learning-rate range test on copies of a network, train rows only, nothing kept. Floor 15.

Smith, "Cyclical learning rates for training neural networks" (2017): the rate grows with every step, and the losses tell where
learning begins and where it breaks down. Copies that see the rows in other orders, and smoothing, keep noise out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.errors import ConfigError, DivergedError, NetwrightError, first_line
from netwright.foresight.trying import endless, on_copies
from netwright.numerals import counted
from netwright.pipeline.bench import Bench
from netwright.pipeline.drawing import batch_size_of
from netwright.pipeline.job import Job

Floats = npt.NDArray[np.float64]
STEPS, COPIES = 300, 3
LOWEST, HIGHEST = 1e-6, 10.0
FEWEST_STEPS = 30
APART = 100_000  # epochs between the orders of two copies
FORGETS = 0.9  # of the running mean that tells when to stop
BROKEN = 4.0  # times what was gained, that the loss is above its best
MEDIAN, WIDTH = 5, 0.02  # steps of the running median; share of the steps of the Gaussian's deviation
BEGUN = 0.1  # share of what is gained, from which on the fall counts and no longer the noise of the beginning
GAINED = 4.0  # deviations of the noise that the smoothed loss must fall, so that there is something to suggest
METHOD = (
    "median of the copies, running median of 5 steps, Gaussian of a fiftieth of the steps; the rate where this curve falls "
    "most steeply over the logarithm of the rate, before its lowest point"
)
WITHOUT = ("LBFGS", "Rprop")  # optimizers whose rate is no rate of gradient steps


@dataclass(frozen=True)
class Sweep:
    """What a learning-rate range test found; printed, it is drawn.

    Args:
        name: Of the run.
        rates: Of each step, float64 ``(steps,)``.
        losses: The median of the copies before each step, ``(steps,)``.
        smoothed: The curve, ``(steps,)``.
        suggested: The rate where it falls most steeply; None where it does not fall.
        spread: The lowest and highest of what each copy alone would suggest.
        lowest: The rate at which it is lowest.
        broken: The rate at which a copy broke down and the test ended; None where none did.
        optimizer: The optimizer as resolved.
        written: Its learning rate.
        copies: How many networks were trained.
        batch_size: Rows of a step.
    """

    name: str
    rates: Floats
    losses: Floats
    smoothed: Floats
    suggested: float | None
    spread: tuple[float, float] | None
    lowest: float
    broken: float | None
    optimizer: str
    written: float
    copies: int
    batch_size: int

    def __str__(self) -> str:
        """Return the drawing and what it says."""
        from netwright.reporting.chart import chart

        ceiling = _ceiling(self.smoothed)
        drawn = chart(np.minimum(self.smoothed, ceiling).tolist(), [f"{rate:.1e}" for rate in self.rates])
        return "\n".join([f"{self.name}: training loss by learning rate, {self.optimizer}", *drawn, *self.lines])

    @property
    def lines(self) -> list[str]:
        """What the curve says, a line each."""
        tried = f"{counted(self.copies, 'copy', 'copies')}, {counted(self.rates, 'step')} of {counted(self.batch_size, 'row')} each"
        told = [f"tried: {tried}, lr {self.rates[0]:.1e} to {self.rates[-1]:.1e}; nothing is kept of them"]
        if self.suggested is None:
            told.append(
                "suggested: none, the loss does not fall at any rate in so few steps; take more of them (--steps), or look at the "
                "network: netwright check"
            )
        else:
            between = f" (the copies alone: {self.spread[0]:.1e} to {self.spread[1]:.1e})" if self.spread else ""
            told.append(f"suggested: lr={self.suggested:.1e}{between}; lr={self.written:g} is written")
            told.append(f"how: {METHOD}")
            told.append(
                f"lowest loss: at lr={self.lowest:.1e}; a tenth of it to all of it is what max_lr of OneCycleLR may be"
            )
        if self.broken is not None:
            told.append(f"broken down: at lr={self.broken:.1e}")
        return told

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "suggested": self.suggested,
            "spread": self.spread,
            "lowest": self.lowest,
            "broken": self.broken,
            "method": METHOD,
            "optimizer": self.optimizer,
            "written": self.written,
            "copies": self.copies,
            "batch_size": self.batch_size,
            "rates": self.rates.tolist(),
            "losses": self.losses.tolist(),
            "smoothed": self.smoothed.tolist(),
        }

    def picture(self) -> bytes:
        """Return a PNG of losses and curve."""
        from netwright.reporting.sweep import sweep_png

        marks = {"lowest": self.lowest, **({} if self.suggested is None else {"suggested": self.suggested})}
        return sweep_png(self.rates, self.losses, self.smoothed, marks, _ceiling(self.losses), self.name)


def sweep_rates(bench: Bench, rates: tuple[float, float], steps: int, copies: int) -> Sweep:
    """Train copies of a network with a rate that grows from step to step, and say which rate to take.

    Args:
        bench: A run ready to start; it stays as it is.
        rates: The first and the last.
        steps: Of each copy, while it does not break down.
        copies: How many, each with another order of the rows.

    Raises:
        ConfigError: The numbers make no sweep, or the optimizer has no rate of gradient steps.
    """
    _refuse(bench, rates, steps, copies)
    every = np.geomspace(*rates, steps)
    found = [_losses(bench, every, 1 + APART * number) for number in range(copies)]
    count = min(map(len, (losses for losses, _ in found)))
    if count < FEWEST_STEPS // 2:
        raise ConfigError(
            f"lr: the loss breaks down after {count} steps, at a rate of {every[count]:.1e}; expected some steps of learning; "
            "begin lower with --from"
        )
    broken = float(every[count]) if count < steps else None
    tables = np.stack([losses[:count] for losses, _ in found])
    written = found[0][1]
    median = np.median(tables, axis=0)
    smoothed = _smoothed(median)
    suggested = _steepest(every[:count], median, smoothed)
    alone = [_steepest(every[:count], losses, _smoothed(losses)) for losses in tables]
    known = [rate for rate in alone if rate is not None]
    return Sweep(
        bench.name,
        every[:count],
        median,
        smoothed,
        suggested,
        (min(known), max(known)) if known and suggested is not None else None,
        float(every[int(smoothed.argmin())]),
        broken,
        bench.config.training.optimizer,
        written,
        copies,
        batch_size_of(bench.config, bench.inputs),
    )


def _refuse(bench: Bench, rates: tuple[float, float], steps: int, copies: int) -> None:
    low, high = rates
    if not (0 < low < high < math.inf):
        raise ConfigError(f"lr: rates from {low:g} to {high:g} came; expected two above 0, the first below the second")
    if steps < FEWEST_STEPS:
        raise ConfigError(
            f"lr: {steps} steps came; expected at least {FEWEST_STEPS} for a curve; write for instance {STEPS}"
        )
    if copies < 1:
        raise ConfigError(f"lr: {copies} copies came; expected 1 or more; write for instance {COPIES}")
    name = bench.config.training.optimizer.partition("(")[0]
    if isinstance(bench.custom.optimizer, Mapping) or name in WITHOUT:
        came = "several optimizers by name" if isinstance(bench.custom.optimizer, Mapping) else name
        raise ConfigError(f"lr: {came} came; expected one optimizer of gradient steps, such as Adam or SGD; choose another")


def _losses(bench: Bench, rates: Floats, first: int) -> tuple[Floats, float]:
    """Train a copy until it breaks down; return the losses before its steps and the learning rate that is written."""
    found: list[float] = []
    training = bench.config.training.model_copy(update={"schedule": None, "average": None})
    plain = replace(
        bench,
        config=bench.config.model_copy(update={"training": training}),
        custom=replace(bench.custom, schedule=None),
    )
    with on_copies(plain) as job:
        groups = job.engine.optimizer.param_groups
        written = [float(group["lr"]) for group in groups]
        shares = [rate / written[0] if written[0] else 1.0 for rate in written]
        batches = endless(job, first)
        for rate in rates:
            for group, share in zip(groups, shares, strict=True):
                group["lr"] = float(rate) * share
            try:
                found.append(_step(job, batches))
            except DivergedError:
                break
            if not math.isfinite(found[-1]) or _is_broken(found):
                break
    if found and not math.isfinite(found[-1]):
        found.pop()
    return np.asarray(found), written[0]


def _step(job: Job, batches: Any) -> float:
    """Take a step as it is written, and return its loss.

    Raises:
        DivergedError: The loss is not finite.
        ConfigError: The step fails.
    """
    batch = next(batches)
    try:
        return float(job.engine.eager.train_step(batch))
    except NetwrightError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"lr: a step fails: {first_line(error)}; mend the network; look with netwright check") from error


def _is_broken(losses: Sequence[float]) -> bool:
    """Tell whether the running mean of the losses is far above its best: four times what was gained since the beginning."""
    if len(losses) < 10:
        return False
    mean, best, beginning = 0.0, math.inf, float(np.median(losses[:10]))
    for step, loss in enumerate(losses, 1):
        mean = FORGETS * mean + (1 - FORGETS) * loss
        best = min(best, mean / (1 - FORGETS**step))
    now = mean / (1 - FORGETS ** len(losses))
    return now > best + BROKEN * max(beginning - best, 0.25 * abs(beginning))


def _smoothed(losses: Floats) -> Floats:
    """Return losses without outliers and noise; nothing is put off to later steps, as a running mean would."""
    from scipy.ndimage import gaussian_filter1d, median_filter

    plain = median_filter(losses, size=MEDIAN, mode="nearest")
    return np.asarray(gaussian_filter1d(plain, sigma=max(1.0, WIDTH * len(losses)), mode="nearest"))


def _steepest(rates: Floats, losses: Floats, smoothed: Floats) -> float | None:
    """Return the rate where a curve falls most steeply, before its lowest point; None where it does not fall beyond noise."""
    lowest = int(smoothed.argmin())
    tenth = max(3, len(losses) // 10)
    noise = 1.4826 * float(np.median(np.abs(losses - smoothed))) / math.sqrt(tenth)  # of outliers nothing is seen so
    if lowest < 2 or smoothed[:tenth].mean() - smoothed[lowest] <= GAINED * noise:
        return None
    level = smoothed[:tenth].mean() - BEGUN * (smoothed[:tenth].mean() - smoothed[lowest])
    begin = min(int(np.flatnonzero(smoothed[:lowest] >= level).max(initial=0)), lowest - 1)
    slope = np.gradient(smoothed[begin : lowest + 1], np.log(rates[begin : lowest + 1]))
    return float(rates[begin + int(slope.argmin())])


def _ceiling(values: Floats) -> float:
    """Return up to where losses are drawn: a little above those of the beginning."""
    beginning, best = float(np.median(values[: max(3, len(values) // 10)])), float(values.min())
    return beginning + 0.3 * max(beginning - best, 1e-12)
