"""From settings to the learning rates of a run: its schedule resolved, made, and told before it begins. Floor 12."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from netwright.checkpoint import trees
from netwright.config.calls import OBJECT, parse_call
from netwright.config.schema import RunConfig
from netwright.engine.trial import Make
from netwright.errors import CheckpointError, ConfigError, first_line
from netwright.pipeline.custom import Custom
from netwright.pipeline.drawing import planned_steps
from netwright.pipeline.stopping import monitored
from netwright.recording.rates import why_not_held, why_not_turned
from netwright.rows.inputs import Inputs
from netwright.seeding import all_forked
from netwright.training.averaging import resolve_average
from netwright.training.own_schedule import build_own_schedule
from netwright.training.schedule import AHEAD, Fixed, Schedule, double_of
from netwright.training.schedulers import WHERE, Length, goes_by_steps, make_scheduler, resolve_schedule

Own = tuple[dict[str, str], bool]  # see own_rates
RATED = {"training.optimizer", "training.parameter_groups"}  # settings that hold learning rates
MOST = 20_000  # steps of a scheduler that are taken to tell what it will do


def with_rates(
    config: RunConfig, custom: Custom, inputs: Inputs, optimizer: torch.optim.Optimizer | None, watched: bool
) -> tuple[RunConfig, tuple[str, ...]]:
    """Return settings with schedule and average written out, and what the learning rate will do; all else is resolved already.

    Args:
        config: The settings.
        custom: A schedule from Python.
        inputs: The rows.
        optimizer: One like that of the run; None where there is no schedule.
        watched: Whether validation gives figures.

    Raises:
        ConfigError: A schedule or an average that this run cannot have.
    """
    training = config.training
    schedule, average = training.schedule, training.average
    if schedule is not None and custom.schedule is None and optimizer is not None:
        schedule = str(resolve_schedule(schedule, length_of(config, inputs, optimizer, watched)))
    if average is not None:
        average = str(resolve_average(average, training.epochs or 0, planned_steps(config, inputs)[0]))
    changed = training.model_copy(update={"schedule": schedule, "average": average})
    resolved = config.model_copy(update={"training": changed})
    if optimizer is None or not has_schedule(config, custom):
        return resolved, ()
    return resolved, preview(resolved, custom, inputs, optimizer, watched)


def has_schedule(config: RunConfig, custom: Custom) -> bool:
    """Tell whether something turns the learning rate."""
    return config.training.schedule is not None or custom.schedule is not None


def length_of(config: RunConfig, inputs: Inputs, optimizer: torch.optim.Optimizer, watched: bool) -> Length:
    """Return how long a run with resolved settings is planned to be, and what it watches."""
    epochs, steps, each = planned_steps(config, inputs)
    monitor, mode = monitored(config)
    rate = float(optimizer.defaults.get("lr", optimizer.param_groups[0]["lr"]))
    rates = tuple(float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups)
    return Length(epochs, steps, each, rate, monitor, mode, watched, rates)


def make_schedule(config: RunConfig, custom: Custom, optimizer: torch.optim.Optimizer) -> Schedule | Fixed:
    """Return the schedule of resolved settings for an optimizer.

    Raises:
        ConfigError: The scheduler cannot be built for it.
    """
    text, monitor = config.training.schedule, monitored(config)[0]
    if custom.schedule is not None:
        return Schedule(optimizer, partial(build_own_schedule, custom.schedule), monitor)
    if text is None:
        return Fixed()
    return Schedule(optimizer, partial(make_scheduler, parse_call(text, WHERE)), monitor)


def why_not_replayed(config: RunConfig, custom: Custom, optimizer: torch.optim.Optimizer | None) -> str | None:
    """Return why steps with this schedule cannot be replayed; None where they can, and without one."""
    if optimizer is None or not has_schedule(config, custom):
        return None
    if custom.schedule is not None:
        per_step = build_own_schedule(custom.schedule, optimizer).per_step
    else:
        per_step = goes_by_steps(parse_call(config.training.schedule or "", WHERE))
    return why_not_turned(optimizer) if per_step else None


def why_not_in_a_graph(
    config: RunConfig, custom: Custom, inputs: Inputs, optimizer: torch.optim.Optimizer | None
) -> str | None:
    """Return why a CUDA graph cannot hold the steps of a resolved schedule; None where it can, and without one.

    Args:
        config: Resolved settings, with the schedule written out.
        custom: A schedule from Python.
        inputs: The rows.
        optimizer: One like that of the run, which stays as it is; None where there is no schedule.

    Raises:
        ConfigError: A scheduler of one's own fails.
    """
    steps = planned_steps(config, inputs)[1]
    if optimizer is None or not steps:
        return None
    try:
        rates = make_schedule(config, custom, double_of(optimizer)).ahead(min(steps, AHEAD))
    except Exception as error:  # a scheduler of one's own may raise anything
        raise ConfigError(f"{WHERE}: it fails: {type(error).__name__}: {first_line(error)}; mend it") from error
    return None if rates is None else why_not_held(rates)


def preview(
    config: RunConfig, custom: Custom, inputs: Inputs, optimizer: torch.optim.Optimizer, watched: bool
) -> tuple[str, ...]:
    """Return what the learning rate will do, in words: a line, and one more where the schedule ends before the run.

    Raises:
        ConfigError: The scheduler fails, watches figures that are not there, or has a state that no checkpoint holds.
    """
    schedule, length = make_schedule(config, custom, optimizer), length_of(config, inputs, optimizer, watched)
    if isinstance(schedule, Fixed):
        return ()
    try:
        trees.encode(schedule.state(), {}, "schedule")
    except CheckpointError as error:
        raise ConfigError(f"{WHERE}: {first_line(error)}") from None
    text = str(config.training.schedule).removeprefix(OBJECT)
    if schedule.by_figures:
        if not watched:
            raise ConfigError(
                f"{WHERE}: {text} watches {length.monitor}, and there are no valid rows or no figures of them; expected some; set "
                "data.split.valid, or take another schedule"
            )
        return (f"schedule: {text}, after every epoch by its {length.monitor}; learning rate {length.rate:.4g} at first",)
    count, word = (length.steps, "step") if schedule.per_step else (length.epochs, "epoch")
    told = f"schedule: {text}, after every {word}"
    if not count or (count > MOST and not schedule.jumps):
        return (told,)
    places = [0, count // 2, count - 1]
    try:
        rates = schedule.rates_at(places)
    except Exception as error:  # a scheduler of one's own may raise anything
        raise ConfigError(f"{WHERE}: {text} fails: {type(error).__name__}: {first_line(error)}; mend it") from error
    pairs = zip(rates, places, strict=True)
    told += "; learning rate " + ", ".join(dict.fromkeys(f"{rate:.4g} in {word} {place + 1}" for rate, place in pairs))
    if schedule.last is None or schedule.last + 1 >= length.steps:
        return (told,)
    return told, f"schedule: it ends after {schedule.last + 1} of {length.steps} steps; the others keep its last rate"


def average_notes(config: RunConfig, inputs: Inputs) -> list[str]:
    """Return a remark where an average never begins, or reaches back beyond half of the run, so that its beginning stays in it."""
    average = config.training.average
    if average is None:
        return []
    told, (epochs, steps, _) = parse_call(average, "training.average").keywords, planned_steps(config, inputs)
    if "decay" not in told:
        late = told["start_epoch"] > max(epochs, 1)
        return [f"average: {average} never begins: training.steps ends the run in epoch {epochs}"] if late else []
    decay = float(told["decay"])
    reach = 1 / (1 - decay) if decay < 1 else math.inf
    if reach <= steps / 2:
        return []
    return [
        f"average: {average} reaches about {reach:,.0f} steps back and the run has {steps:,}; the weights of its beginning stay in "
        f"it; a smaller decay, such as {max(0.5, 1 - 10 / max(steps, 1)):.2g}, forgets them"
    ]


def own_rates(config: RunConfig, custom: Custom, make: Make, model: nn.Module) -> Own:
    """Return which parts of a schedule do not read the optimizer's learning rate, and whether none does.

    Args:
        config: Resolved settings.
        custom: A schedule from Python.
        make: Builds the optimizer of a network.
        model: Whose parameters it would turn; nothing of it is changed.
    """
    if not has_schedule(config, custom):
        return {}, False
    with all_forked():
        schedule = make_schedule(config, custom, make(model))
    return ({}, False) if isinstance(schedule, Fixed) else schedule.own_rates()


def schedule_kept(schedule: str | None, changed: Sequence[str], own: Own = ({}, False)) -> list[str]:
    """Return what a run that goes on with other settings does with its schedule.

    Args:
        schedule: Of the run, as it is written out.
        changed: Paths of the settings that were changed.
        own: See `own_rates`.

    Example:
        >>> schedule_kept("StepLR(step_size=3)", ["training.optimizer"])
        ['the schedule StepLR(step_size=3) goes on, in proportion to the new learning rate']
    """
    if schedule is None:
        return []
    text = schedule.removeprefix(OBJECT)
    found = []
    if "training.epochs" in changed and not schedule.startswith(OBJECT):
        found.append(f"the schedule stays {text}, also where it was worked out for fewer or more epochs")
    if RATED & set(changed):
        parts, whole = own
        told = "goes on, in proportion to the new learning rate"
        if whole:
            told = f"goes on with its own {' and '.join(parts.values())}: the new learning rate changes nothing"
        elif parts:
            told += f"; {' and '.join(f'{name} in it with its own {rate}' for name, rate in parts.items())}"
        found.append(f"the schedule {text} {told}")
    return found
