"""What a user hands over in Python beside rows, network and loss: optimizer, figures, a training step, a stop condition.

The resolved config names each as ``object:NAME``; whoever goes on with the run hands it over again. Floor 12.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from netwright.config.calls import OBJECT
from netwright.config.metrics import problem_of
from netwright.config.schema import RunConfig
from netwright.config.updates import GRADIENTS
from netwright.data.batches import Batch, Examples, Rows
from netwright.engine.own_step import OwnStep
from netwright.engine.trial import Make
from netwright.errors import CheckpointError, ConfigError, first_line
from netwright.evaluation.metrics import VALIDATED
from netwright.evaluation.own_metrics import Metric, known_metric, own_metric
from netwright.evaluation.own_steps import evaluated
from netwright.model.task import Task
from netwright.pipeline.transferring import freezing_in
from netwright.seeding import all_forked, forked
from netwright.sources.datasets import is_dataset
from netwright.sources.objects import is_frame
from netwright.training.journal import EpochRecord
from netwright.training.optimizer import make_optimizer, resolve_optimizer
from netwright.training.own_optimizer import Factories, build_own, refuse_unusable
from netwright.training.own_schedule import Build

Step = Callable[..., torch.Tensor]
Evaluate = Callable[[nn.Module, Batch], Any]
Stop = Callable[[EpochRecord], bool | str | None]
KEYWORDS = ("optimizer", "metrics", "step", "evaluate", "stop", "schedule")
NO_FIGURES = "a run with step= but without evaluate= has no figures"


@dataclass(frozen=True)
class Custom:
    """Objects from Python; None, and no metrics, where nothing came.

    ``trial`` may end a run that is one trial of many; no config names it, and such a run draws no report. ``until`` is when
    it is stopped with a checkpoint, by `time.monotonic`. ``seat`` is its place among runs that train together.
    """

    optimizer: Factories | None = None
    metrics: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    step: Step | None = None
    evaluate: Evaluate | None = None
    stop: Stop | None = None
    schedule: Build | None = None
    trial: Stop | None = None
    until: float | None = None
    seat: Any = None  # a `netwright.lifecycle.populating.Seat`

    @property
    def reads_figures(self) -> bool:
        """Whether an object may read what the valid rows gave."""
        objects = (self.step, self.evaluate, self.stop, self.schedule)
        return bool(self.metrics) or any(item is not None for item in objects)

    @property
    def turns_rates(self) -> bool:
        """Whether the learning rate is that of an object."""
        return self.optimizer is not None or self.schedule is not None

    @property
    def own_step(self) -> OwnStep | None:
        """The training step as an engine takes it."""
        return None if self.step is None else OwnStep(self.step, name_of(self.step))

    def stopping(self, device: torch.device) -> Callable[[EpochRecord], str | None] | None:
        """Return the stop condition as the loop asks it: the reason to end, or None; it moves no generator."""
        own, trial = self._own_stopping(device), self.trial
        if trial is None:
            return own

        def reason(record: EpochRecord) -> str | None:
            found = None if own is None else own(record)
            with all_forked(), forked(device):
                told = trial(record)
            return found or (told if isinstance(told, str) else None)

        return reason

    def _own_stopping(self, device: torch.device) -> Callable[[EpochRecord], str | None] | None:
        """Return the stop condition of the user's own."""
        if self.stop is None:
            return None
        rule, name = self.stop, name_of(self.stop)

        def reason(record: EpochRecord) -> str | None:
            try:
                with all_forked(), forked(device):
                    told = rule(replace(record, valid=dict(record.valid)))
            except Exception as error:  # an own function may raise anything
                raise ConfigError(
                    f"stop: {name} fails after epoch {record.epoch}: {type(error).__name__}: {first_line(error)}; expected true, "
                    "false or a reason; mend it, and resume the run"
                ) from error
            if isinstance(told, str) and told:
                return f"stop: {told}"
            return f"stop: {name} said so" if told else None

        return reason


def name_of(function: Any) -> str:
    """Return the qualified name of a function or class.

    Example:
        >>> name_of(torch.optim.Adam)
        'torch.optim.adam.Adam'
    """
    inner = function.func if isinstance(function, partial) else function
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}.{named.__qualname__}"


def sorted_out(keywords: dict[str, Any]) -> Custom:
    """Take the objects from Python out of keywords and return them; texts stay settings.

    Raises:
        ConfigError: Something that is neither.
    """
    found = {name: keywords.pop(name) for name in KEYWORDS if _is_object(name, keywords.get(name))}
    for name in KEYWORDS:
        if name in keywords and keywords[name] is None:
            del keywords[name]
    if "optimizer" in found:
        refuse_unusable(found["optimizer"])
    for name in ("step", "evaluate", "stop"):
        if name in found and not callable(found[name]):
            raise ConfigError(f"{name}: {type(found[name]).__name__} came; expected a function; hand one over")
    if "evaluate" in found and "step" not in found:
        raise ConfigError("evaluate: it came without step; expected both; figures of other trainings go into metrics=")
    for name, function in found.get("metrics", {}).items():
        if not isinstance(name, str) or not name.isidentifier() or not callable(function):
            raise ConfigError(
                f"metrics: {name!r}: {type(function).__name__} came; expected a function by a name of letters, digits and _; "
                "write metrics={'kappa': cohen_kappa_score}"
            )
    if "metrics" in found:
        keywords["metrics"] = [f"{OBJECT}{name}" for name in found["metrics"]]
    return Custom(**found)


def _is_object(name: str, value: Any) -> bool:
    if name == "metrics":
        return isinstance(value, Mapping)
    if name == "schedule":
        return callable(value)
    return value is not None and not isinstance(value, str)


def with_rows_alone(data: Any, custom: Custom) -> Any:
    """Return rows with a target of zeros where a step of one's own needs none and they came alone."""
    plain = hasattr(data, "shape") and not is_frame(data) and not is_dataset(data)
    if custom.step is None or not plain:
        return data
    return data, torch.zeros(len(data))


def refuse_objects_missing(
    config: RunConfig, custom: Custom, names: Sequence[str] = ("optimizer", "schedule", "step", "evaluate", "stop")
) -> None:
    """Refuse to go on without objects that a config names.

    Raises:
        CheckpointError: One was a Python object and is not there.
    """
    training = config.training
    missing = [
        name for name in names if (getattr(training, name) or "").startswith(OBJECT) and getattr(custom, name) is None
    ]
    lost = [name.removeprefix(OBJECT) for name in training.metrics if name.startswith(OBJECT)]
    if "stop" in names and set(lost) - set(custom.metrics):
        missing.append("metrics")
    if missing:
        named = missing[0]
        what = ", ".join(lost) if named == "metrics" else getattr(training, named).removeprefix(OBJECT)
        raise CheckpointError(
            f"training.{named}: {what} was a Python object; expected it again; hand it over in Python: nw.train(CONFIG, "
            f"{named}=...), or nw.resume(RUN, {named}=...) of a run"
        )


def refuse_misfits(config: RunConfig, custom: Custom, loss: Any) -> None:
    """Refuse objects that do not go together, and those that a config names and nobody handed over.

    Raises:
        ConfigError: A step of one's own with settings that only THE step reads.
        CheckpointError: The config is of a run with objects from Python.
    """
    refuse_objects_missing(config, custom)
    training = config.training
    if isinstance(custom.optimizer, Mapping) and custom.step is None:
        raise ConfigError("optimizer: several came by name; expected one, or step=, which takes them; hand over the step")
    if custom.optimizer is not None and training.parameter_groups:
        raise ConfigError(
            f"training.parameter_groups: {len(training.parameter_groups)} came with optimizer= from Python, which makes its own; "
            "leave them out"
        )
    if isinstance(custom.optimizer, Mapping) and (custom.schedule is not None or training.schedule is not None):
        raise ConfigError(
            "schedule: several optimizers by name came; expected one; leave the schedule out, or hand over one"
        )
    if custom.step is None:
        return
    for name in ("micro_batch", "precision", "freeze", *GRADIENTS):
        if getattr(training, name) != type(training).model_fields[name].get_default(call_default_factory=True):
            raise ConfigError(
                f"training.{name}: {getattr(training, name)} came with step=; an own step decides that; leave it out"
            )
    if loss is not None or (training.loss is not None and not training.loss.startswith(OBJECT)):
        raise ConfigError("loss: it came with step=, which computes its own; leave one of them out")
    if training.metrics:
        raise ConfigError("metrics: they came with step=; expected evaluate=, which returns the figures; move them there")
    if training.engine not in ("auto", "eager"):
        raise ConfigError(
            f"training.engine: {training.engine} came with step=, which is executed as it is written; write eager"
        )


def maker(config: RunConfig, custom: Custom, device: torch.device) -> Make:
    """Return what builds the optimizer of a network on a device."""
    if custom.optimizer is not None:
        make: Make = partial(build_own, custom.optimizer)
    else:
        call = resolve_optimizer(config.training.optimizer, device, bool(config.training.unfreeze))
        make = lambda model: make_optimizer(call, model, config.training.parameter_groups)  # noqa: E731

    def make_once_held(model: nn.Module) -> torch.optim.Optimizer:
        freezing = freezing_in(config, model)
        return make(model) if freezing is None else freezing.of_all(model, make)

    return make_once_held


def names_told(custom: Custom) -> dict[str, str]:
    """Return the resolved settings that name objects."""
    given = {name: getattr(custom, name) for name in ("step", "evaluate", "stop", "schedule")}
    return {name: f"{OBJECT}{name_of(value)}" for name, value in given.items() if value is not None}


def factory_name(optimizer: Factories) -> str:
    """Return the name of what builds an optimizer, or of several."""
    if isinstance(optimizer, Mapping):
        return " and ".join(dict.fromkeys(map(name_of, optimizer.values())))
    return name_of(optimizer)


def metrics_of(names: Sequence[str], custom: Custom, kind: str) -> tuple[Metric, ...]:
    """Return the further figures of a task, those of objects that are there.

    Raises:
        ConfigError: One is of other tasks, or has the name of a figure that is there anyway.
    """
    found = []
    for name in names:
        own = name.removeprefix(OBJECT)
        if own in ("loss", *VALIDATED[kind], "seconds"):
            raise ConfigError(f"training.metrics: {own} is a figure that is there anyway; choose another name")
        if name.startswith(OBJECT):
            found += [own_metric(own, custom.metrics[own])] if own in custom.metrics else []
            continue
        problem = problem_of(name, kind)
        if problem is not None:
            raise ConfigError(f"training.metrics: {problem}")
        found.append(known_metric(name, kind))
    return tuple(found)


def valid_names(
    config: RunConfig, custom: Custom, task: Task, model: nn.Module, examples: Examples, parts: Sequence[Rows]
) -> tuple[str, ...]:
    """Return the names of the figures of each validation; of a step of one's own by asking for them, of a few rows at a time.

    Raises:
        ConfigError: Figures that cannot be had.
    """
    if custom.step is None:
        return ("loss", *VALIDATED[task.kind], *(one.name for one in metrics_of(config.training.metrics, custom, task.kind)))
    if custom.evaluate is None:
        return ()
    asked = [part for part in parts if len(part)]
    found = [evaluated(custom.evaluate, name_of(custom.evaluate), model, examples, part, len(part)) for part in asked]
    return tuple(dict.fromkeys(name for figures in found for name in figures))


def left_out(config: RunConfig, metrics: Sequence[Metric]) -> list[str]:
    """Return the figures of one's own that a config names and that are not there."""
    there = {metric.name for metric in metrics}
    names = [name.removeprefix(OBJECT) for name in config.training.metrics if name.startswith(OBJECT)]
    return [name for name in names if name not in there]
