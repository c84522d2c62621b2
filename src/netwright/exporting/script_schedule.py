"""The lines of an ejected script that make a schedule of the learning rate and averaged weights, and go on with them. Floor 10."""

from __future__ import annotations

from typing import Any

from netwright.config.calls import Call
from netwright.exporting.printing import printed
from netwright.exporting.recipe import Page, Recipe
from netwright.training.warmup import warmup_cosine


def write_schedule(page: Page, recipe: Recipe) -> None:
    """Write the sections of schedule and average, where the run has them."""
    schedule, average = recipe.learning.schedule, recipe.learning.average
    if schedule is not None:
        preset = schedule.name == "WarmupCosine"
        if preset:
            page.need("import math")
        every = "step" if recipe.learning.per_step else "epoch"
        made = f"scheduler = {_scheduler(schedule)}  # goes on after every {every}"
        page.section("The schedule of the learning rate", [*([printed(warmup_cosine)] if preset else []), made])
    if average is not None:
        function = ""
        if average.name == "EMA":
            function = f"multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn({average.keywords['decay']!r}), "
        made = f"average = torch.optim.swa_utils.AveragedModel(model, {function}use_buffers=True)"
        start = (
            [] if average.name == "EMA" else [f"AVERAGED_FROM = {average.keywords['start_epoch']}  # the first such epoch"]
        )
        page.section("Averaged weights: they are validated, tested and kept", ["\n".join([*start, made])])


def _scheduler(call: Call) -> str:
    """Return code that makes a scheduler of the optimizer."""
    if call.name == "WarmupCosine":
        values = ", ".join(repr(call.keywords[name]) for name in ("warmup", "total_steps", "final"))
        return f"torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, {values}))"
    module = "swa_utils" if call.name == "SWALR" else "lr_scheduler"
    parts = ["[" + ", ".join(map(_scheduler, call.keywords["schedulers"])) + "]"] if "schedulers" in call.keywords else []
    parts += [f"{name}={value!r}" for name, value in call.kwargs if name != "schedulers"]
    first = "" if call.name == "ChainedScheduler" else "optimizer, "
    return f"torch.optim.{module}.{call.name}({(first + ', '.join(parts)).removesuffix(', ')})"


def after_step(recipe: Recipe) -> list[str]:
    """Return the lines behind a step."""
    learning = recipe.learning
    lines = []
    if learning.schedule is not None and learning.per_step:
        short = "if scheduler.last_epoch < scheduler.total_steps - 1:\n    " if learning.short else ""
        lines += f"{short}scheduler.step()".splitlines()
    if learning.average is not None and learning.average.name == "EMA":
        lines.append("average.update_parameters(model)")
    return lines


def after_steps(recipe: Recipe) -> list[str]:
    """Return the lines behind the steps of an epoch, before its validation."""
    average = recipe.learning.average
    if average is None or average.name == "EMA":
        return []
    return ["if epoch >= AVERAGED_FROM:", "    average.update_parameters(model)"]


def after_epoch(recipe: Recipe, figure: str) -> list[str]:
    """Return the lines behind an epoch with its validation; ``figure`` is code for the monitored one."""
    schedule = recipe.learning.schedule
    if schedule is None or recipe.learning.per_step:
        return []
    return [f"scheduler.step({figure if schedule.name == 'ReduceLROnPlateau' else ''})"]


def validated(recipe: Recipe) -> str:
    """Return code for the network that is validated."""
    average = recipe.learning.average
    if average is None:
        return "model"
    return "average.module" if average.name == "EMA" else "(average.module if epoch >= AVERAGED_FROM else model)"


def kept(recipe: Recipe) -> list[str]:
    """Return the lines that put the averaged weights in place of those that trained."""
    average: Any = recipe.learning.average
    if average is None:
        return []
    load = "model.load_state_dict(average.module.state_dict())"
    return [load] if average.name == "EMA" else ["if average.n_averaged > 0:", f"    {load}"]
