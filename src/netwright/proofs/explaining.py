"""The heart of the verb explain: the training loop of a run, line by line, with its own shapes and numbers. Floor 16."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netwright.config.calls import parse_call
from netwright.config.schema import RunConfig
from netwright.data.batches import Batch
from netwright.engine.eager import train_step
from netwright.engine.scaling import scaler_for
from netwright.evaluation.metrics import VALIDATED
from netwright.model.summary import call_model
from netwright.numerals import counted
from netwright.pipeline.bench import Bench, executing, prepare
from netwright.pipeline.custom import maker
from netwright.pipeline.drawing import batch_size_of, planned_steps
from netwright.pipeline.rates import make_schedule
from netwright.pipeline.resolving import execution_of, plan_of
from netwright.pipeline.stopping import monitored
from netwright.pipeline.transferring import freezing_in, frozen_told, start_of
from netwright.proofs.ejecting import refuse_objects
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import read_config
from netwright.seeding import all_forked, seed_all, torch_seed
from netwright.training.loop import Progress
from netwright.training.schedulers import PLATEAU, goes_by_steps

MOVES = {  # layers that change train rows, and how
    "RandomShift": "moves every row by some places at random",
    "RandomStretch": "stretches or narrows every row at random",
    "RandomMirror": "mirrors about half of the rows",
    "RandomTurn": "turns every row by some quarters at random",
}


@dataclass(frozen=True)
class Line:
    """A line of code, or an empty one, and what it does, in lines of its own."""

    code: str
    comment: str = ""


@dataclass(frozen=True)
class FirstStep:
    """What the first step of a run was: the form of what each layer gave, the loss, a gradient, how far a weight went."""

    layers: tuple[tuple[str, str, tuple[int, ...]], ...]
    output: tuple[int, ...]
    loss: float
    weight: str
    gradient: float
    moved: float


def explain(run: Path, code: Sequence[Path] = ()) -> list[Line]:
    """Return the training loop of a run with its own shapes and the numbers of its first step.

    Args:
        run: The run folder.
        code: Python files that may run, for an own class.

    Raises:
        ConfigError: The run was made from Python objects.
        SafetyError: An own class whose file was not named.
    """
    config = read_config(run)
    refuse_objects(run, config)
    bench = prepare(config, run.name, code=code, command=f"netwright explain {run}")
    batch, first = _first_step(bench)
    steps = [*_step_lines(bench, batch, first), *_rate_lines(bench, "step"), *_rate_lines(bench, "epoch")]
    return [*_data_lines(bench, batch), *steps, *_valid_lines(bench), *_rate_lines(bench, "end"), *_record_lines(run)]


def _first_step(bench: Bench) -> tuple[Batch, FirstStep]:
    """Take the first step of the run on a copy of its network, and look at it."""
    config, task = bench.config, bench.network.task
    plan = plan_of(config, bench.inputs)
    feed = plan.feed(bench.examples, Progress(epoch=1))
    batch = feed.next()
    with executing(config, torch.device("cpu")):
        seed_all(torch_seed(config.training.seed, "training"))
        model = copy.deepcopy(bench.network.module).train()
        optimizer = maker(config, bench.custom, torch.device("cpu"))(model)
        update = execution_of(config).update
        make_schedule(config, bench.custom, optimizer)  # which sets the learning rate of the first step
        seen: list[tuple[str, str, tuple[int, ...]]] = []
        handles = [
            module.register_forward_hook(_noting(seen, path))
            for path, module in model.named_modules()
            if path and not any(True for _ in module.children())
        ]
        with all_forked():
            output = call_model(model, batch.inputs, batch.lengths)
        for handle in handles:
            handle.remove()
        before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
        loss = train_step(model, task.loss_function, optimizer, batch, update, scaler_for(update, model))
        name, weight = next((name, value) for name, value in model.named_parameters() if name in before)
    gradient = float(weight.grad.abs().max()) if weight.grad is not None else 0.0
    moved = float((weight.detach() - before[name]).abs().max())
    return batch, FirstStep(tuple(seen), tuple(output.shape), float(loss), name, gradient, moved)


def _noting(seen: list[tuple[str, str, tuple[int, ...]]], path: str) -> Any:
    def note(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((path, type(module).__name__, tuple(output.shape)))

    return note


def _shapes(batch: Batch) -> str:
    shapes = {name: tuple(value.shape) for name, value in batch.inputs.items()}
    return ", ".join(f"{name} {shape}" if len(shapes) > 1 else f"{shape}" for name, shape in shapes.items())


def _data_lines(bench: Bench, batch: Batch) -> list[Line]:
    config, inputs = bench.config, bench.inputs
    rows, size = len(inputs.split.train), batch_size_of(config, inputs)
    rest, steps = rows % size, planned_steps(config, inputs)[2]
    left = f", the last of {counted(rest, 'row')}" if rest and config.data.last_batch == "keep" else ""
    dropped = f"; {rest} rows are left out of each" if rest and config.data.last_batch == "drop" else ""
    through = "goes once through" if config.data.sampling is None else "draws as many rows as there are from"
    return [
        Line(
            f"for epoch in range(1, {config.training.epochs} + 1):",
            f"{bench.name}: an epoch {through} the {rows} train rows; {len(inputs.split.valid)} validate, "
            f"{len(inputs.split.test)} test.",
        ),
        Line("    model.train()", _modes(bench.network.module)),
        *_held_lines(bench),
        _order_line(config),
        Line(
            f"    for rows in torch.from_numpy(order).split({size}):",
            f"{counted(steps, 'step')} an epoch: batches of {counted(size, 'row')}{left}{dropped}. "
            "A step looks at one batch only, which is fast, and the noise of its gradient helps out of bad places.",
        ),
        Line(
            "        inputs, target = X[rows], y[rows]",
            f"inputs {_shapes(batch)} {next(iter(batch.inputs.values())).dtype}, target {tuple(batch.target.shape)} "
            f"{batch.target.dtype}: the first axis is the rows of the batch.",
        ),
    ]


def _held_lines(bench: Bench) -> list[Line]:
    """Say what does not learn, where something does not."""
    freezing = freezing_in(bench.config, bench.network.module)
    if freezing is None:
        return []
    told = "\n".join(f"{line}." for line in frozen_told(freezing, bench.network.module))
    return [
        Line(
            "    hold_still(model, *HELD[epoch])",
            f"{told}\nThese parameters get no gradient (requires_grad_(False)), so the optimizer passes them over: no update, no "
            "momentum, no weight decay. Dropout among them goes on.",
        )
    ]


def _order_line(config: RunConfig) -> Line:
    """Say in which order an epoch trains on its rows."""
    same = "the same in every run of this seed: epoch and seed decide it, nothing else."
    made = f'    order = stream({config.training.seed}, "order", epoch)'
    if config.data.sampling is None:
        return Line(f"{made}.permutation(train_rows)", f"Another order each epoch, {same}")
    return Line(
        f"{made}.choice(train_rows, len(train_rows), p=chances)",
        "As many rows are drawn, with replacement, and each class as often as any other (torch's WeightedRandomSampler): rows of "
        f"rare classes come several times, others in some epochs not at all. Others are drawn each epoch, {same}",
    )


def _modes(model: nn.Module) -> str:
    """Say what train() changes in this network."""
    kinds = {type(module).__name__ for module in model.modules()}
    found = []
    if any("Dropout" in kind for kind in kinds):
        found.append("dropout puts numbers to 0 at random")
    found += [f"{name} {does}" for name, does in MOVES.items() if name in kinds]
    if any(kind.startswith(("BatchNorm", "SyncBatchNorm")) for kind in kinds):
        found.append("batch norm takes mean and deviation of the batch")
    if not found:
        return "No layer of this network behaves otherwise in training; others (dropout, batch norm) do."
    return f"In training {' and '.join(found)}."


def _as_column(bench: Bench) -> str:
    """Return code that makes a column of one number a row, where a network gives it without that axis."""
    return ".reshape(-1, 1)" if bench.network.summary.squeezed else ""


def _step_lines(bench: Bench, batch: Batch, first: FirstStep) -> list[Line]:
    config = bench.config
    layers = "\n".join(f"  {path:<8} {kind:<18} {shape}" for path, kind, shape in first.layers)
    micro = config.training.micro_batch
    lines = [
        Line(
            f"        output = model(inputs){_as_column(bench)}",
            f"Forward: every layer in turn. What each gave for the first batch:\n{layers}",
        ),
        Line(
            "        loss = loss_function(output, target)",
            f"{config.training.loss}: one number that says how far {first.output} outputs are from the target. In the first "
            f"step of this run: {first.loss:.6g}.",
        ),
        Line(
            "        optimizer.zero_grad()",
            "backward() adds to the gradients that are there. Those of the step before have done their work: without this line "
            "they would be added to the new ones.",
        ),
        Line(
            "        loss.backward()",
            "Backpropagation: the chain rule from the loss back through every layer. Each weight gets in .grad how the loss "
            f"changes with it. After the first step the largest of {first.weight}.grad was {first.gradient:.4g}.",
        ),
    ]
    if micro is not None and micro < len(batch):
        lines[3] = Line(lines[3].code, f"{lines[3].comment}\nHere {micro} rows go at a time; gradients add up.")
    return [*lines, *_gradient_lines(config), *_update_lines(config, first)]


def _gradient_lines(config: RunConfig) -> list[Line]:
    """Say what is done to gradients before the optimizer reads them."""
    training = config.training
    asked = (
        (
            training.sharpness,
            "        with uphill(model, {}): output, loss, zero_grad, backward as above",
            "Sharpness-aware minimisation: the weights go so far uphill along their gradient, the same batch goes forward and "
            "backward again there, and the weights come back. The gradient from there avoids narrow valleys, which hold for the "
            "train rows only.",
        ),
        (
            training.precision == "float16",
            "        scaler.unscale_(optimizer)",
            "float16 loses small gradients: the loss was multiplied by a large number before backward(), and the gradients are "
            "divided by it again. Where they overflow, the step is skipped and the number is halved.",
        ),
        (
            training.l1,
            "        add_l1(model, {})",
            "So much times the sign of each weight is added to its gradient: weights that the data do not need go to 0. Biases "
            "and norms are left alone; the loss that is told is that of the data.",
        ),
        (
            training.clip_grad_norm,
            "        torch.nn.utils.clip_grad_norm_(model.parameters(), {})",
            "All gradients together are made no longer than that, their direction kept: one bad batch does not throw them far.",
        ),
        (
            training.clip_grad_value,
            "        torch.nn.utils.clip_grad_value_(model.parameters(), {})",
            "Each number of a gradient is made no larger than that by magnitude.",
        ),
    )
    return [Line(code.format(value), comment) for value, code, comment in asked if value]


def _update_lines(config: RunConfig, first: FirstStep) -> list[Line]:
    """Say how the weights are moved."""
    training = config.training
    moved = f"In the first step {first.weight} moved by at most {first.moved:.4g}."
    groups = ""
    for number, group in enumerate(training.parameter_groups):
        own = ", ".join(f"{name} = {value}" for name, value in group.items() if name != "parameters")
        groups += f"\nGroup {number} ({', '.join(group['parameters'])}) has for itself: {own}."
    code = "scaler.step(optimizer); scaler.update()" if training.precision == "float16" else "optimizer.step()"
    return [Line(f"        {code}", f"{training.optimizer}: moves every weight against its gradient. {moved}{groups}")]


def _rate_lines(bench: Bench, after: str) -> list[Line]:
    """Return the line of a schedule, and that of an average, that stands after a step, the steps of an epoch or its end."""
    schedule, average = bench.config.training.schedule, bench.config.training.average
    lines = []
    if average is not None and after == ("step" if average.startswith("EMA") else "epoch"):
        means = {
            "step": "the weights of each step count a little, so noise is averaged out",
            "epoch": "the weights of each such epoch count the same",
        }
        told = f"{average}: {means[after]}. The average is validated, tested and kept."
        lines.append(Line("average.update_parameters(model)", told))
    per_step = schedule is not None and goes_by_steps(parse_call(schedule, "training.schedule"))
    if schedule is not None and after == ("step" if per_step else "end"):
        figure = monitored(bench.config)[0] if schedule.startswith(PLATEAU) else ""
        lines.append(Line(f"scheduler.step({figure})", f"{bench.rates[0]}."))
    indent = " " * (8 if after == "step" else 4)
    return [Line(indent + line.code, line.comment) for line in lines]


def _valid_lines(bench: Bench) -> list[Line]:
    config, inputs = bench.config, bench.inputs
    if not len(inputs.split.valid):
        return [Line("", "There are no valid rows: the weights of the last epoch are kept.")]
    size = len(inputs.split.valid)
    stopping: Any = config.training.early_stopping
    lines = [
        Line(""),
        Line("    model.eval()", _resting(bench.network.module)),
        Line(
            "    with torch.no_grad():",
            "No gradients are needed where nothing is learned: less memory, less time, the same figures.",
        ),
        Line(
            f"        outputs = model(X[valid_rows]){_as_column(bench)}",
            f"{size} rows choose the best epoch; no weight is learned from them.",
        ),
        Line(
            "    valid_loss = total / count",
            "The mean over rows, not over batches: each batch's mean counts as often as it has rows, else the rows of a smaller "
            f"last batch would count more. Beside the loss: {', '.join(VALIDATED[inputs.target.task])}.",
        ),
        Line(
            "    if valid_loss < best: best, best_weights = valid_loss, copy(model.state_dict())",
            "The weights of the best epoch are kept: after it the network may learn its train rows by heart.",
        ),
    ]
    if hasattr(stopping, "patience"):
        lines.append(
            Line(
                f"    if epoch - best_epoch >= {stopping.patience}: break",
                f"Early stopping: {counted(stopping.patience, 'epoch')} without a better {stopping.monitor}.",
            )
        )
    return lines


def _resting(model: nn.Module) -> str:
    """Say what eval() changes in this network."""
    kinds = {type(module).__name__ for module in model.modules()}
    found = []
    if any("Dropout" in kind for kind in kinds):
        found.append("dropout lets everything pass")
    moves = [name for name in MOVES if name in kinds]
    if moves:
        found.append(f"{' and '.join(moves)} {'moves' if len(moves) == 1 else 'move'} nothing")
    if any(kind.startswith("BatchNorm") for kind in kinds):
        found.append("batch norm takes the means it has gathered, so a row's output does not depend on the rows beside it")
    return f"Now {' and '.join(found)}." if found else "No layer of this network behaves otherwise now; others do."


def _record_lines(run: Path) -> list[Line]:
    """Say how the run ended."""
    record = folders.read_record(run)
    best = record.get("best")
    started = start_of(record)
    begin = [Line("", f"This run did not begin from nothing: {started}.")] if started else []
    told = f"This run took {counted(record.get('steps') or 0, 'step')} in {counted(record.get('epochs') or 0, 'epoch')}"
    told += f"; its best epoch was {best['epoch']}." if best else "."
    if (members := record.get("members", 1)) > 1:
        told += (
            f" Its steps were taken together with those of {members - 1} other runs, by torch.func.vmap over the networks: the "
            "same within rounding."
        )
    return [*begin, Line(""), Line("model.load_state_dict(best_weights)" if best else "", told)]
