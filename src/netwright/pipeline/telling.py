"""What a run says of itself: the lines before training, run.json at birth, how it ended. Floor 12."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch

from netwright.config.data_schema import DataConfig
from netwright.config.schema import RunConfig
from netwright.config.training_schema import EarlyStoppingConfig
from netwright.data.batches import Rows
from netwright.data.column import Column
from netwright.data.targets import Target
from netwright.engine.dense_fit import may_be_dense, may_update
from netwright.engine.dense_layers import convolutions_of, unknown_of
from netwright.engine.own_step import OwnStep
from netwright.engine.update import PLAIN
from netwright.model.task import Task
from netwright.numerals import counted, figure
from netwright.pipeline.bench import Bench
from netwright.pipeline.dealing import sharing_notes
from netwright.pipeline.drawing import batch_size_of, planned_steps
from netwright.pipeline.idle import idle
from netwright.pipeline.network import Start
from netwright.pipeline.rates import average_notes
from netwright.pipeline.stopping import monitored
from netwright.pipeline.transferring import freezing_in, freezing_json, frozen_told, groups_in, start_told
from netwright.rows.inputs import Inputs
from netwright.runfolder import folder as folders
from netwright.sources import labels
from netwright.sources.sequences import Sequences
from netwright.training.loop import Progress

MOST_NAMES = 12  # of target columns in one line
SEVERAL = (
    "few series: the mean of several networks has a lower log loss than its members have on average; --seeds 5 trains five "
    "(in Python: nw.repeat)"
)
COMPILED_PAYS = 10_000_000_000  # multiply-adds of a step from which torch.compile is worth its seconds on a GPU, about
LONG = 1_000_000_000_000  # multiply-adds of a run from which kernels of dense layers are worth theirs on the CPU, about
FEWEST_CHANNELS = 8  # of a convolution, from which on a vector of them is worth it
SMALL = 100_000_000  # multiply-adds of a step up to which those kernels are faster there, about
DENSE_PAYS = (
    "steps of dense layers {where} are {often} as fast with --set training.engine=compiled "
    "(kernels of their own, other last bits)"
)
TORCH_COMPILES = (
    "torch.compile takes the steps, since kernels of their own do not know {why} there: it compiles for some 10 to 30 s, and small "
    "networks are often faster with --set training.engine=captured"
)


@dataclass(frozen=True)
class Told:
    """A remark for the user; ``kind`` is line, advice (what to do next), note, or warning (a finding of the checks)."""

    text: str
    kind: str = "line"

    def __str__(self) -> str:
        return self.text if self.kind in ("line", "advice") else f"{self.kind}: {self.text}"


def ending(progress: Progress, config: RunConfig) -> str:
    """Return how the run ended and which weights it leaves, in words."""
    best = best_of(progress, config)
    if best is None:
        return f"{progress.ended}; the last weights are kept"
    return f"{progress.ended}; best epoch {best['epoch']} restored ({best['monitor']} {figure(best['value'])})"


def best_of(progress: Progress, config: RunConfig) -> dict[str, Any] | None:
    """Return the best epoch with the figure that chose it, for run.json; None without validation rows."""
    if progress.best is None:
        return None
    best = progress.best
    return {"epoch": best.epoch, "step": best.step, "monitor": monitored(config)[0], "value": best.value}


def first_record(bench: Bench) -> dict[str, Any]:
    """Return run.json at birth."""
    inputs, network, config = bench.inputs, bench.network, bench.config
    encoder = inputs.preparation.encoder
    name, values = next(iter(bench.examples.batch(torch.from_numpy(inputs.split.train[:1])).inputs.items()))
    return {
        "netwright": version(),
        "name": bench.name,
        "status": "running",
        "command": folders.command_line(),
        **({} if bench.world.launch is None else {"launch": bench.world.launch_told}),
        "started": folders.now(),
        "ended": None,
        "versions": folders.versions(),
        "device": str(bench.device),
        "threads": config.training.threads,
        "engine": config.training.engine,
        "lanes": config.training.lanes,
        "why_engine": bench.why_engine,
        "data": {
            "source": inputs.source,
            "digest": inputs.digest,
            "rows": inputs.raw.rows,
            "shape": list(values.shape[1:]),
            "layout": inputs.preparation.layout(name),
            "columns": []
            if encoder is None
            else [
                {"name": column.name, "kind": column.kind, "missing": column.missing, "levels": len(column.levels) or None}
                for column in encoder.columns
            ],
        },
        "split": {
            "digest": inputs.split.digest(),
            "how": inputs.split.how,
            **{part: len(getattr(inputs.split, part)) for part in ("train", "valid", "test")},
            **({"calibration": len(inputs.split.calibration)} if len(inputs.split.calibration) else {}),
        },
        "task": _task_told(inputs.target, network.task, inputs.split.train),
        "model": network.summary.to_json(),
        **({} if network.start is None else {"start": _start_json(network.start)}),
        **({"frozen": stages} if (stages := freezing_json(freezing_in(config, network.module))) else {}),
        "best": None,
        "epochs": 0,
        "steps": 0,
        **_groups_told(bench),
        "notes": [*inputs.notes, *network.notes],
        "findings": [finding.to_json() for finding in bench.findings],
    }


def _groups_told(bench: Bench) -> dict[str, Any]:
    """Return the groups of parameters by name with their arguments, for run.json; nothing where all are in one."""
    if not bench.config.training.parameter_groups:
        return {}
    split = groups_in(bench.config, bench.network.module)
    return {"parameter_groups": [{"parameters": list(group.names), "arguments": dict(group.arguments)} for group in split]}


def _step_told(bench: Bench) -> list[str]:
    """Return what a step does beside the loop of the tutorial, in words."""
    training = bench.config.training
    told = (
        (training.sharpness, "gradients are taken {} uphill, in two passes (sharpness-aware minimisation)"),
        (training.l1, "an l1 penalty of {} on the weights, which no loss that is told holds"),
        (training.clip_grad_norm, "gradients are clipped to a norm of {}"),
        (training.clip_grad_value, "numbers of gradients are clipped to {}"),
    )
    lines = [text.format(f"{value:g}") for value, text in told if value]
    lines += ["float16 with a scaled loss; a step whose gradients overflow is skipped"] * (training.precision == "float16")
    said = [f"each step: {'; '.join(lines)}"] if lines else []
    if training.parameter_groups:
        first, *others = groups_in(bench.config, bench.network.module)
        if first.arguments:
            others = [first, *others]
        said += [f"parameter group {number}: {group}" for number, group in enumerate(others)]
    return said


def _start_json(start: Start) -> dict[str, Any]:
    """Return the weights that a network starts from, for run.json."""
    told = {"source": start.source, "what": start.what, "digest": start.digest, "new": list(start.new), "why": start.why}
    return {**told, "parameters": start.parameters, "of": start.every}


def _task_told(target: Target, task: Task, train: Rows) -> dict[str, Any]:
    """Return what is learned, for run.json, and how many train rows each class has."""
    if isinstance(task.loss_function, OwnStep):
        return {"kind": "own step", "target": [], "classes": [], "loss": task.loss}
    classes = [labels.shown(label) for label in target.classes]
    told: dict[str, Any] = {"kind": task.kind, "target": list(target.names), "classes": classes, "loss": task.loss}
    if task.kind in ("binary", "multiclass"):
        told["train_rows"] = np.bincount(target.of(train), minlength=len(classes)).tolist()
    return told


def describe(bench: Bench) -> list[Told]:
    """Return what a user should see before training starts."""
    inputs, network, config = bench.inputs, bench.network, bench.config
    split, encoder = inputs.split, inputs.preparation.encoder
    lines = [Told(f"data: {inputs.source}, {counted(inputs.raw.rows, 'row')}")]
    if encoder is not None:
        lines += [Told(f"  {line}") for line in _column_lines(encoder.columns)]
        group = config.data.split.group
        if group is not None and group not in [column.name for column in encoder.columns]:
            lines.append(Told(f"  left out, group of the split: {group}"))
        if config.data.ignore:
            lines.append(Told(f"  left out, ignored: {', '.join(config.data.ignore)}"))
    elif not isinstance(inputs.raw, Sequences):
        shapes = ", ".join(f"{name} {shape}" for name, shape in bench.examples.shapes.items())
        lines.append(Told(f"  each row: {shapes}"))
    if isinstance(inputs.raw, Sequences):
        lines.append(Told(f"  {_steps_line(inputs.raw, config.data)}"))
    lines.append(Told(f"split: {len(split.train)} train, {len(split.valid)} valid, {len(split.test)} test ({split.how})"))
    lines.append(Told(_task_line(inputs.target, network.task)))
    usual = "" if inputs.recipe is None else f"the default for {inputs.recipe.of}, "
    counts = f"{network.summary.parameters:,} parameters, {network.summary.multiply_adds:,} multiply-adds a row"
    lines.append(Told(f"network: {usual}{counts}"))
    lines += [Told(start_told(network.start))] if network.start is not None else []
    freezing = freezing_in(config, network.module)
    lines += [Told(line) for line in frozen_told(freezing, network.module)] if freezing is not None else []
    training = config.training
    lines.append(
        Told(
            f"training: {_duration(config, inputs)}, batches of {batch_size_of(config, inputs)}, {training.optimizer}, "
            f"{_engine_line(bench)}"
        )
    )
    lines += [Told(line) for line in _step_told(bench)]
    shared = sharing_notes(config, network.module, bench.world)
    lines += [Told(line, "note" if place else "line") for place, line in enumerate(shared)]
    lines += [Told(note, "note") for note in (*faster_compiled(bench), *by_torch(bench), *idle(bench))]
    if config.data.sampling is not None:
        lines.append(Told("sampling: an epoch draws as many rows, with replacement, each class as often as any other"))
    if config.data.augmentation:
        lines.append(Told(f"augmentation of the train rows: {', '.join(config.data.augmentation)}"))
    lines += [Told(line, "note" if place else "line") for place, line in enumerate(bench.rates)]
    if training.average is not None:
        every = "step" if training.average.startswith("EMA") else "epoch"
        lines.append(Told(f"average: {training.average}, after every {every}; it is validated, tested and kept"))
        lines += [Told(note, "note") for note in average_notes(config, inputs)]
    if training.epochs == 0:
        lines.append(Told("0 epochs: the network stays as it was made", "note"))
    lines += [Told(note, "note") for note in (*inputs.notes, *network.notes)]
    few = inputs.recipe is not None and inputs.recipe.all_train
    lines += [Told(SEVERAL, "advice")] if few and bench.world.alone else []  # one launch of several processes trains one run
    return lines + [Told(str(finding), "warning") for finding in bench.findings if finding.refuses]


def faster_compiled(bench: Bench) -> list[str]:
    """Return why the steps of a run would be faster compiled, in words; nothing where they would not, or hardly."""
    network, training, rows = bench.network, bench.config.training, batch_size_of(bench.config, bench.inputs)
    on_gpu = bench.device.type == "cuda"
    step = 3 * network.summary.multiply_adds * rows
    if not bench.world.alone:
        return []
    if on_gpu and training.engine == "eager" and step > COMPILED_PAYS:
        return ["large steps on a GPU are often faster with --set training.engine=compiled (torch.compile)"]
    known = training.engine == "captured" and (bench.how.update == PLAIN if on_gpu else may_update(bench.how.update))
    if not known or not may_be_dense(network.module, network.task.loss_function, rows, bench.device):
        return []
    if on_gpu:
        return [DENSE_PAYS.format(where="on a GPU", often="two to three times")]
    whole = 3 * network.summary.multiply_adds * len(bench.inputs.split.train) * (training.epochs or 0)
    there = bench.device.type == "cpu" and training.average is None
    first = convolutions_of(network.module)[0]
    convolves = bool(first) and all(len(one.weight) >= FEWEST_CHANNELS for one in first) and bench.augmentation is None
    pays = there and whole > LONG and (step < SMALL or bool(network.summary.by_steps) or convolves)
    return (
        [DENSE_PAYS.format(where="and convolutions or recurrent layers before them", often="up to four times")]
        if pays
        else []
    )


def by_torch(bench: Bench) -> list[str]:
    """Return why steps that are to be compiled take torch.compile on the CPU, in words; nothing where they do not."""
    network, training, rows = bench.network, bench.config.training, batch_size_of(bench.config, bench.inputs)
    if training.engine != "compiled" or bench.device.type != "cpu":
        return []
    part = unknown_of(network.module)
    if part is not None:
        why = str(part).splitlines()[0].removesuffix("(")
    elif training.average is not None:
        why = f"average = {training.average}"
    elif not may_update(bench.how.update):
        why = "what a step does beside"
    elif not may_be_dense(network.module, network.task.loss_function, rows, bench.device):
        why = f"{network.task.loss}, or the sizes of the network"
    else:
        return []
    return [TORCH_COMPILES.format(why=why)]


def _engine_line(bench: Bench) -> str:
    """Return how the steps are executed, in words."""
    training = bench.config.training
    shared = f", each step shared by {training.lanes} cores" if (training.lanes or 1) > 1 else ""
    why = f" ({bench.why_engine})" if bench.why_engine and training.engine == "eager" else ""
    return f"{training.engine} engine{why} on {bench.device} with {counted(training.threads or 1, 'thread')}{shared}"


def time_line(seconds: Mapping[str, float], played: str) -> str:
    """Return where the time of the training went, in words: its steps, the wait for rows in them, the validation."""
    train, waiting = seconds.get("train", 0.0), seconds.get("waiting", 0.0)
    share = f", {100 * min(1.0, waiting / train):.0f} % of it waiting for rows" if train else ""
    return f"time: {train:.1f} s in steps ({played}){share}; {seconds.get('valid', 0.0):.1f} s in validation"


def skipped_line(skipped: int, steps: int) -> str:
    """Return in words how many steps in float16 moved no weight."""
    return f"float16: {skipped} of {steps} steps were skipped, because their gradients overflowed"


def _task_line(target: Target, task: Task) -> str:
    """Return what is learned from what, in words."""
    if isinstance(task.loss_function, OwnStep):
        return f"task: an own step, {task.loss_function.name}"
    told = f", {len(target.classes)} classes" if target.classes else ""
    if target.task == "multilabel":
        told = f", {counted(target.classes, 'label')} ({'a set a row' if len(target.names) == 1 else 'columns of 0 and 1'})"
    if task.decoding.rates:
        told = " (counts; predictions are expected counts)"
    names = ", ".join(target.names[:MOST_NAMES])
    names += f", ... ({len(target.names)} in all)" if len(target.names) > MOST_NAMES else ""
    return f"task: {target.task}{told}; target {names}; {task.loss}"


def _steps_line(raw: Sequences, data: DataConfig) -> str:
    """Return what a row of steps is, in words."""
    shortest, longest = int(raw.lengths.min()), int(raw.lengths.max())
    told = (
        f"each row: {counted(int(longest), 'step')}" if shortest == longest else f"each row: {shortest} to {longest} steps"
    )
    if shortest != longest:
        told += f", padded in batches to {', '.join(map(str, data.rungs or []))} and masked"
    if data.window is not None:
        told += (
            f"; the target lies {data.horizon or 1} later"
            if not raw.per_step
            else f"; each step's target lies {data.horizon or 1} later"
        )
    elif raw.per_step:
        told += "; a target per step"
    if raw.symbols:
        told += f"; {len(raw.symbols)} different symbols"
    return told


def _duration(config: RunConfig, inputs: Inputs) -> str:
    """Return how long a run may take, in words."""
    training = config.training
    steps = training.steps is not None and planned_steps(config, inputs)[1] == training.steps
    told = counted(training.steps or 0, "step") if steps else counted(training.epochs or 0, "epoch")
    if isinstance(training.early_stopping, EarlyStoppingConfig):
        return f"{told} at most, until {training.early_stopping.monitor} rests for {training.early_stopping.patience}"
    return told


def _column_lines(columns: Sequence[Column]) -> list[str]:
    """Return one line per kind of column."""
    lines = []
    for kind in ("number", "boolean", "date", "category", "identifier", "ignore"):
        members = [column for column in columns if column.kind == kind]
        if not members:
            continue
        shown = [
            column.name
            + (f" ({len(column.levels)})" if column.levels else "")
            + (f" [{column.missing} missing]" if column.missing else "")
            for column in members
        ]
        word = {"ignore": "left out", "identifier": "left out, identifier"}.get(kind, kind)
        more = f", ... ({len(shown)} in all)" if len(shown) > 12 else ""
        lines.append(f"{word}: {', '.join(shown[:12])}{more}")
    return lines


def version() -> str:
    """Return netwright's version."""
    return metadata.version("netwright")
