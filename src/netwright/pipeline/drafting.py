"""The heart of the verb draft: a data file looked at, and written down as a commented config to edit. Floor 12."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel

from netwright.config.calls import Call, parse_call
from netwright.config.training_schema import EarlyStoppingConfig
from netwright.config.values import is_address
from netwright.data.column import Column
from netwright.numerals import counted
from netwright.pipeline.bench import Bench
from netwright.pipeline.drawing import planned_steps

MOST_COLUMNS = 60  # that are listed
MOST_WIDTH = 90  # of a layer, in front of what comes out of it
PLACES = ("source", "train", "valid", "test")
MACHINE = ("device", "threads", "lanes", "engine")  # decided anew on each
DECIDED = ("rungs", "shuffle", "storage", "cache", "last_batch")  # anew by each run


@dataclass(frozen=True)
class Draft:
    """A config as text, and the name of the data it is for."""

    name: str
    text: str

    def __str__(self) -> str:
        return self.text


def draft_config(bench: Bench, output: Path | None, asked: Sequence[str]) -> Draft:
    """Return a commented config of what `prepare` decided for a data file.

    Args:
        bench: What was prepared.
        output: Where the text will lie; paths in it are relative to that folder. None: to the current one.
        asked: The words after ``netwright init``.
    """
    inputs, target = bench.inputs, bench.inputs.target
    classes = f", {len(target.classes)} classes" if target.classes else ""
    file = "CONFIG.toml" if output is None else str(output)
    lines = [
        f"# {bench.name}: {counted(inputs.raw.rows, 'row')}; {target.task}{classes}.",
        f"# Written by: netwright init {' '.join(asked)}",
        f"# Look at it: netwright show {file}, netwright check {file}. Train it: netwright train {file}",
        "# What is left out is decided as it was here; every setting: netwright schema, docs/settings.md.",
        "",
        *_data(bench, output),
        "",
        *_split(bench),
        "",
        *_preparation(bench),
        "[model]",
        *_layers(bench),
        "",
        *_training(bench),
        "",
        "[checkpoint]",
        "# every_steps = 200         # left out: about once a minute; a killed run goes on with netwright resume RUN",
        "keep = 2",
    ]
    return Draft(bench.name, "\n".join(lines) + "\n")


def _value(value: Any) -> str:
    """Return a value as TOML writes it."""
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _further(section: BaseModel, told: set[str]) -> Iterator[str]:
    """Yield the settings of a section that are not the usual ones, but for those told elsewhere."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if name not in told and value is not None and value != field.get_default(call_default_factory=True):
            yield f"{name} = {_value(value)}"


def _data(bench: Bench, output: Path | None) -> Iterator[str]:
    data, target = bench.config.data, bench.inputs.target
    yield "[data]"
    for key in PLACES:
        place = getattr(data, key)
        if place is not None:
            yield f"{key} = {_value(_relative(place, output))}"
    names = list(target.names) if len(target.names) > 1 else target.names[0]
    if data.target is not None:
        yield f"target = {_value(names)}"
    some = (
        f": {', '.join(map(str, target.classes[:6]))}{', ...' if len(target.classes) > 6 else ''}" if target.classes else ""
    )
    yield f"task = {_value(target.task)}{_note(f'{len(target.classes)} classes{some}' if target.classes else 'numbers')}"
    yield from _further(data, {*PLACES, *DECIDED, "target", "task", "batch_size", "split", "preparation"})
    yield f"batch_size = {data.batch_size}"
    encoder = bench.inputs.preparation.encoder
    if encoder is not None:
        yield '# The columns as they were read. To read one otherwise: kinds = { NAME = "category" }; to leave one out:'
        yield '# ignore = ["NAME"]'
        yield from _columns(encoder.columns)


def _columns(columns: Sequence[Column]) -> Iterator[str]:
    width = min(40, max(len(column.name) for column in columns[:MOST_COLUMNS]))
    for column in columns[:MOST_COLUMNS]:
        levels = f"   {counted(column.levels, 'value')}: {', '.join(map(str, column.levels[:4]))}" if column.levels else ""
        more = ", ..." if len(column.levels) > 4 else ""
        missing = f"   {column.missing} missing" if column.missing else ""
        name = " ".join(column.name.split())
        yield f"#   {name:<{width}}   {column.kind:<10}{levels}{more}{missing}".rstrip()
    if len(columns) > MOST_COLUMNS:
        yield f"#   ... ({len(columns)} in all)"


def _relative(place: str, output: Path | None) -> str:
    """Return a path as seen from the folder of the config, an address or a bundled set as it is."""
    if place.startswith("sklearn:") or is_address(place):
        return place
    return os.path.relpath(place, Path() if output is None else output.parent)


def _note(text: str) -> str:
    return f"  # {text}"


def _split(bench: Bench) -> Iterator[str]:
    split, made = bench.config.data.split, bench.inputs.split
    yield "[data.split]" + _note(made.how)
    for part in ("test", "valid"):
        value, rows = getattr(split, part), len(getattr(made, part))
        if isinstance(value, list) or (value is None and getattr(bench.config.data, part) is not None):
            yield f"# {part}: {counted(rows, 'row')}, as they were given"
        else:
            yield f"{part} = {_value(0.2 if value is None else value)}{_note(counted(rows, 'row'))}"
    yield from _further(split, {"test", "valid", "train", "seed"})
    yield f"seed = {split.seed}{_note('of the split alone; rows of one patient, site or day belong together: group = COLUMN')}"


def _preparation(bench: Bench) -> Iterator[str]:
    preparation = bench.config.data.preparation
    if isinstance(preparation, str) or bench.inputs.preparation.encoder is None:
        return
    yield "[data.preparation]" + _note("fitted on the train rows alone")
    yield f"numbers = {_value(preparation.numbers)}{_note('standardize, quantile or none')}"
    yield from _further(preparation, {"numbers"})
    yield ""


def _layers(bench: Bench) -> Iterator[str]:
    """Yield the layers as they would be written by hand, with what comes out of each."""
    texts = [_short(text) for text in bench.config.model.layers or []]
    texts[-1] = "Linear()" if texts[-1].startswith("Linear(") else texts[-1]
    told = bench.network.summary.layers
    yield "layers = [" + _note("as in nn.Sequential; sizes left out are worked out")
    width = min(MOST_WIDTH, max(len(text) for text in texts)) + 3
    for place, text in enumerate(texts):
        outputs = [layer.output for layer in told if str(layer.path) == str(place)]
        shape = (
            _note(f"(N, {', '.join(map(str, outputs[0]))})")
            if outputs and all(isinstance(x, int) for x in outputs[0])
            else ""
        )
        yield f"  {_value(text) + ',':<{width + 2}}{shape}".rstrip()
    yield "]"


INFERRED = (
    "in_features",
    "in_channels",
    "num_features",
    "input_size",
    "normalized_shape",
    "levels",
    "dimensions",
    "columns",
)


def _short(text: str) -> str:
    """Return a layer text without the sizes that are worked out, inside of it too."""
    call = parse_call(text, "layers")
    if call.children():
        return str(replace(call, args=tuple(_shortened(value) for value in call.args)))
    kept = tuple((name, value) for name, value in call.kwargs if name not in INFERRED)
    if call.name == "Linear" and [name for name, _ in kept] == ["out_features"]:
        return f"Linear({kept[0][1]})"
    return str(replace(call, kwargs=kept))


def _shortened(value: Any) -> Any:
    """Return the layers of a list without the sizes that are worked out; other values as they are."""
    if isinstance(value, Call):
        return parse_call(_short(str(value)), "layers")
    return [_shortened(item) for item in value] if isinstance(value, list) else value


def _training(bench: Bench) -> Iterator[str]:
    training = bench.config.training
    yield "[training]"
    if isinstance(training.early_stopping, EarlyStoppingConfig):
        patience = training.early_stopping.patience
        yield f"epochs = {training.epochs}{_note('at most')}"
        yield f"early_stopping = {{ monitor = {_value(training.early_stopping.monitor)}, patience = {patience} }}"
    else:
        yield f"epochs = {training.epochs}"
    yield f"optimizer = {_value(_plain(training.optimizer, ('fused', True)))}{_note('torch.optim in its own spelling')}"
    yield f"loss = {_value(training.loss)}{_note('torch.nn in its own spelling')}"
    if training.schedule is not None:
        yield f"schedule = {_value(_schedule(bench, training.schedule))}"
    yield from _further(training, {"epochs", "early_stopping", "optimizer", "loss", "schedule", "seed", *MACHINE})
    yield f"seed = {training.seed}{_note('of initial weights, order and dropout')}"


def _schedule(bench: Bench, resolved: str) -> str:
    """Return a schedule as it was given, by a recipe or written, without what the length of the run decided."""
    recipe = bench.inputs.recipe
    if (
        recipe is not None
        and recipe.schedule is not None
        and recipe.schedule.partition("(")[0] == resolved.partition("(")[0]
    ):
        return recipe.schedule
    return _plain(resolved, ("total_steps", planned_steps(bench.config, bench.inputs)[1]))


def _plain(text: str, decided: tuple[str, Any]) -> str:
    """Return a call without an argument that this machine, or the length of this run, decided."""
    call = parse_call(text, "training")
    return str(replace(call, kwargs=tuple(pair for pair in call.kwargs if pair != decided)))
