"""The heart of the verb explain: the training loop of a run, line by line, with its own shapes and numbers. Floor 9."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netwright.config.calls import parse_call
from netwright.data.batches import Batch
from netwright.engine.eager import train_step
from netwright.evaluation.metrics import VALIDATED
from netwright.model.summary import call_model
from netwright.numerals import counted
from netwright.pipeline import folder as folders
from netwright.pipeline.bench import Bench, executing, execution_of, plan_of, prepare
from netwright.pipeline.ejecting import refuse_objects
from netwright.pipeline.run import read_config
from netwright.seeding import all_forked, seed_all, torch_seed
from netwright.training.loop import Progress
from netwright.training.optimizer import make_optimizer


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
    return [*_data_lines(bench, batch), *_step_lines(bench, batch, first), *_valid_lines(bench), *_record_lines(run)]


def _first_step(bench: Bench) -> tuple[Batch, FirstStep]:
    """Take the first step of the run on a copy of its network, and look at it."""
    config, task = bench.config, bench.network.task
    plan = plan_of(config, bench.inputs)
    feed = plan.feed(bench.examples, Progress(epoch=1))
    batch = feed.next()
    with executing(config, torch.device("cpu")):
        seed_all(torch_seed(config.training.seed, "training"))
        model = copy.deepcopy(bench.network.module).train()
        call = parse_call(config.training.optimizer, "training.optimizer")
        optimizer = make_optimizer(call, model.parameters())
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
        loss = train_step(
            model, task.loss_function, optimizer, batch, config.training.micro_batch, execution_of(config).autocast
        )
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
    rows, size = len(inputs.split.train), min(config.data.batch_size, len(inputs.split.train))
    whole, rest = divmod(rows, size)
    steps = whole + (1 if rest and config.data.last_batch == "keep" else 0)
    left = f", the last of {counted(rest, 'row')}" if rest and config.data.last_batch == "keep" else ""
    dropped = f"; {rest} rows are left out of each" if rest and config.data.last_batch == "drop" else ""
    return [
        Line(
            f"for epoch in range(1, {config.training.epochs} + 1):",
            f"{bench.name}: an epoch goes once through the {rows} train rows; {len(inputs.split.valid)} validate, "
            f"{len(inputs.split.test)} test.",
        ),
        Line("    model.train()", _modes(bench.network.module)),
        Line(
            f'    order = stream({config.training.seed}, "order", epoch).permutation(train_rows)',
            "Another order each epoch, the same in every run of this seed: epoch and seed decide it, nothing else.",
        ),
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


def _modes(model: nn.Module) -> str:
    """Say what train() changes in this network."""
    kinds = {type(module).__name__ for module in model.modules()}
    found = []
    if any("Dropout" in kind for kind in kinds):
        found.append("dropout puts numbers to 0 at random")
    if any(kind.startswith(("BatchNorm", "SyncBatchNorm")) for kind in kinds):
        found.append("batch norm takes mean and deviation of the batch")
    if not found:
        return "No layer of this network behaves otherwise in training; others (dropout, batch norm) do."
    return f"In training {' and '.join(found)}."


def _step_lines(bench: Bench, batch: Batch, first: FirstStep) -> list[Line]:
    config = bench.config
    layers = "\n".join(f"  {path:<8} {kind:<18} {shape}" for path, kind, shape in first.layers)
    micro = config.training.micro_batch
    lines = [
        Line(
            "        output = model(inputs)", f"Forward: every layer in turn. What each gave for the first batch:\n{layers}"
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
        Line(
            "        optimizer.step()",
            f"{config.training.optimizer}: moves every weight against its gradient. In the first step {first.weight} moved by at "
            f"most {first.moved:.4g}.",
        ),
    ]
    if micro is not None and micro < len(batch):
        lines[3] = Line(lines[3].code, f"{lines[3].comment}\nHere {micro} rows go at a time; gradients add up.")
    return lines


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
            "        outputs = model(X[valid_rows])",
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
    if any(kind.startswith("BatchNorm") for kind in kinds):
        found.append("batch norm takes the means it has gathered, so a row's output does not depend on the rows beside it")
    return f"Now {' and '.join(found)}." if found else "No layer of this network behaves otherwise now; others do."


def _record_lines(run: Path) -> list[Line]:
    """Say how the run ended."""
    record = folders.read_record(run)
    best = record.get("best")
    told = f"This run took {counted(record.get('steps') or 0, 'step')} in {counted(record.get('epochs') or 0, 'epoch')}"
    told += f"; its best epoch was {best['epoch']}." if best else "."
    return [Line(""), Line("model.load_state_dict(best_weights)" if best else "", told)]
