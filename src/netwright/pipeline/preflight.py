"""All checks of a run that is ready to start, network and data, and what they found as one object. Floor 12."""

from __future__ import annotations

import copy
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netwright.checks import code, description, ending, one_batch, own_step
from netwright.checks.ending import Purpose, purpose_of
from netwright.checks.findings import Finding, in_order
from netwright.checks.overfit import Overfit
from netwright.checks.rehearsal import Rehearsed
from netwright.config.slugs import ALL, BATCH, DATA, DESCRIPTION
from netwright.errors import ConfigError
from netwright.model.task import implied_task
from netwright.pipeline.asking import Asked
from netwright.pipeline.bench import Bench, as_given, executing
from netwright.pipeline.checking import check_data, refuse
from netwright.pipeline.custom import maker
from netwright.pipeline.drawing import batch_size_of
from netwright.pipeline.observing import Observer
from netwright.pipeline.resolving import execution_of
from netwright.pipeline.telling import Told
from netwright.rows.inputs import load
from netwright.seeding import all_forked

FEW_LEVELS = 5
HEADINGS = {"description": "network", "batch": "one batch", "code": "own code", "data": "data"}


@dataclass(frozen=True)
class Preflight:
    """What the checks found before any training; printed, it is grouped by what it is about."""

    name: str
    findings: tuple[Finding, ...]
    overfit: Overfit | None = None

    def __str__(self) -> str:
        """Return it as text."""
        lines = [self.heading]
        for family, heading in HEADINGS.items():
            own = [finding for finding in self.findings if finding.family == family]
            lines += ["", heading] if own else []
            for finding in own:
                lines.append(f"  {finding.severity:<8}{finding.check}  at {finding.where}  ({finding.confidence})")
                lines += textwrap.wrap(finding.why, 110, initial_indent=" " * 10, subsequent_indent=" " * 10)
                lines += textwrap.wrap(f"-> {finding.advice}", 110, initial_indent=" " * 10, subsequent_indent=" " * 13)
        return "\n".join([*lines, *(["", str(self.overfit)] if self.overfit is not None else [])])

    @property
    def heading(self) -> str:
        """The first line: how many findings of which kind."""
        counts = [
            (sum(finding.severity == severity for finding in self.findings), severity)
            for severity in ("error", "warning", "note")
        ]
        told = ", ".join(f"{count} {severity}{'s' if count > 1 else ''}" for count, severity in counts if count)
        return f"{self.name}: {told or 'nothing found'}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "findings": [finding.to_json() for finding in self.findings],
            "overfit": None if self.overfit is None else vars(self.overfit),
        }


def check_asked(asked: Asked) -> Preflight:
    """Check what a user asks for, also where it cannot be built; nothing is written and nothing of the user's changes.

    Args:
        asked: Settings and objects.

    Raises:
        DataError: The data cannot be read.
        SafetyError: Own code that nobody named.
    """
    with all_forked():  # an own module may draw from any generator when it is built and tried
        return _check_asked(asked)


def _check_asked(asked: Asked) -> Preflight:
    try:
        bench = asked.bench()
    except ConfigError as error:
        return _refused(asked, error)
    found, reached = _check_network(bench, thorough=True)
    data = check_data(bench.config, bench.inputs, thorough=True)
    found += [*_numbers_for_classes(bench), *_classes_in_columns(bench)]
    return Preflight(asked.name, in_order([*found, *data], bench.config.checks.skip), reached)


def be_strict(found: Sequence[Finding], observe: Observer) -> None:
    """Tell the findings that are no notes, and refuse them; see `netwright.pipeline.checking.refuse`."""
    for finding in found:
        if finding.refuses:
            observe(Told(str(finding), "warning"))
    refuse(tuple(found))


def check_bench(bench: Bench) -> Bench:
    """Return a bench with its findings: of those checks that take milliseconds."""
    found, _ = _check_network(bench)
    data = check_data(bench.config, bench.inputs)
    return replace(bench, findings=in_order([*found, *data, *_classes_in_columns(bench)], bench.config.checks.skip))


def _numbers_for_classes(bench: Bench) -> list[Finding]:
    """Tell a loss of numbers on a target that looks like classes."""
    target = bench.inputs.target
    if target.task != "regression" or len(target.names) != 1 or target.per_step:
        return []
    values = target.of(bench.inputs.split.train)[:, 0]
    levels = np.unique(values)
    if not 1 < len(levels) <= FEW_LEVELS or not bool((levels == np.round(levels)).all()):
        return []
    why = f"the target has only {len(levels)} different whole numbers, which {bench.network.task.loss} reads as amounts"
    advice = 'if they are names of classes write CrossEntropyLoss(), or data.task = "multiclass"'
    return [Finding("classes-as-numbers", "training.loss", why, advice, "note", "hint")]


def _classes_in_columns(bench: Bench) -> list[Finding]:
    """Tell a target of numbers that are classes with a column each: one 1 a row, and else 0."""
    target = bench.inputs.target
    if target.task != "regression" or len(target.names) < 2 or target.per_step or bench.custom.step is not None:
        return []
    values = target.of(bench.inputs.split.train)
    if not len(values) or not bool(((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()):
        return []
    why = (
        f"every train row has one 1 and else 0 in {len(target.names)} columns, as classes written one-hot have, and "
        f"{bench.network.task.loss} reads them as amounts"
    )
    return [
        Finding(
            "classes-as-numbers", "training.loss", why, "hand over argmax(axis=1) of them, a class a row", confidence="sure"
        )
    ]


def _refused(asked: Asked, error: ConfigError) -> Preflight:
    """Return the refusal as a finding, with what can be seen of code and data without a network."""
    where, _, told = str(error).partition(": ")
    why, _, advice = told.rpartition("; ")
    found = [Finding("refused", where, why or told, advice if why else "mend it", "error", "sure")]
    kind = asked.module[0] if isinstance(asked.module, tuple) else type(asked.module)
    if asked.module is not None:
        found += code.read(code.sources_of([kind]))
    elif asked.config.model.module is not None:
        file, _, name = asked.config.model.module.rpartition(":")
        text = Path(file).read_text(encoding="utf-8", errors="replace") if Path(file).is_file() else ""
        found += code.read([source for source in code.sources_in(text, file) if source.tree.name == name])
    config = as_given(asked.config, asked.data)
    watched = asked.config.tune is not None or asked.custom.reads_figures
    implied, own = implied_task(config.training.loss, asked.loss), asked.module is not None
    try:
        inputs = load(config, asked.data, implied, own=own, watched=watched)
        found += check_data(config, inputs, thorough=True)
    except ConfigError:
        pass  # the same refusal, told above
    return Preflight(asked.name, in_order(found, config.checks.skip))


def _check_network(bench: Bench, thorough: bool = False) -> tuple[list[Finding], Overfit | None]:
    """Look at the network, its code, and what one batch shows.

    Args:
        bench: Nothing of it is changed.
        thorough: Also for networks so large that it takes longer, and whether one batch can be learned by heart.
    """
    config, network = bench.config, bench.network
    skipped = set(config.checks.skip)
    if ALL in skipped or set(DATA) | skipped == {*DATA, *DESCRIPTION, *BATCH}:
        return [], None
    if bench.custom.step is not None:  # what it does with the network is its own
        found = code.read(code.sources_of(type(module) for module in network.module.modules()))
        return [*found, *_own_step(bench)], None
    make = maker(config, bench.custom, torch.device("cpu"))
    made = make(copy.deepcopy(network.module))
    update = replace(execution_of(config).update, autocast=None, micro_batch=None)
    found = description.optimizer(type(made).__name__, made.param_groups[0])
    found += description.step(type(made).__name__, made.param_groups[0], update.l1, update.clip_grad_norm)
    micro = config.training.micro_batch
    rows = min(micro or config.data.batch_size, batch_size_of(config, bench.inputs))
    found += description.few_rows(network.module, rows, "training.micro_batch" if micro else "data.batch_size")
    sources = code.sources_of(type(module) for module in network.module.modules())
    found += code.read(sources)
    work = network.summary.multiply_adds
    if not thorough and not one_batch.waited_for(work, network.summary.parameters):
        return found, None
    purpose = _purpose(bench)
    found += ending.broadcasts(network.task.loss_function, purpose)
    found += ending.own_parameters(network.task.loss_function)
    batch = bench.examples.batch(one_batch.drawn_from(np.asarray(bench.inputs.split.train), work))
    owned = sorted({source.file for source in sources})

    def rehearsed() -> Rehearsed:
        module, loss, own = copy.deepcopy((network.module, network.task.loss_function, batch))
        return Rehearsed(module, loss, make, own, purpose, owned, update)

    threads = 1 if one_batch.quick(work) else config.training.threads
    alone = config.model_copy(update={"training": config.training.model_copy(update={"threads": threads})})
    with executing(alone, torch.device("cpu")):
        return one_batch.look(rehearsed, found, network.summary.trainable, thorough and "cannot-overfit" not in skipped)


def _own_step(bench: Bench) -> list[Finding]:
    """Look at what a step of one's own does to a copy of the network."""
    network, step = bench.network, bench.custom.own_step
    work = network.summary.multiply_adds
    if step is None or not one_batch.waited_for(work, network.summary.parameters):
        return []
    with executing(bench.config, torch.device("cpu")), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = copy.deepcopy(network.module)
        batch = bench.examples.batch(one_batch.drawn_from(np.asarray(bench.inputs.split.train), work))
        optimizer = maker(bench.config, bench.custom, torch.device("cpu"))(model)
        return own_step.changes_nothing(step.name, model, lambda: step.take(model, batch, optimizer))


def _purpose(bench: Bench) -> Purpose:
    task, target = bench.network.task, bench.examples.target
    rows = bench.inputs.split.train[: one_batch.TARGETS]
    some: Tensor = (
        target[: one_batch.TARGETS] if task.per_step else target[torch.from_numpy(np.sort(rows)).to(target.device)]
    )
    return purpose_of(task, some.cpu())
