"""The heart of the verb eject: what a run was made from, as the recipe of a script, or one line that says why not. Floor 16."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from netwright import files
from netwright.config.backbones import read_backbone
from netwright.config.calls import OBJECT, parse_call
from netwright.config.data_schema import DataConfig, PreparationConfig
from netwright.config.schema import RunConfig
from netwright.config.training_schema import EarlyStoppingConfig
from netwright.errors import CheckpointError, ConfigError
from netwright.evaluation.metrics import VALIDATED
from netwright.evaluation.scoring import at_once
from netwright.exporting import script_rows
from netwright.exporting.bundle import Outcome, load_preparation
from netwright.exporting.recipe import Learning, OwnClass, Recipe, Source, Steps
from netwright.exporting.script import write_script
from netwright.exporting.script_model import own_source
from netwright.pipeline.drawing import batch_size_of, planned_steps
from netwright.pipeline.job import AT_ONCE
from netwright.pipeline.resolving import execution_of
from netwright.pipeline.stopping import monitored
from netwright.pipeline.transferring import stages_of, start_of, write_start
from netwright.proofs.finding import find_arrays, find_images, find_table
from netwright.rows.inputs import Inputs
from netwright.rows.reading import BRACES, markers_of
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import read_config
from netwright.sources.arrays import Arrays
from netwright.sources.sequences import Sequences
from netwright.sources.tables import Table
from netwright.trained.testing import own_inputs
from netwright.training.groups import Group, tupled
from netwright.training.schedulers import goes_by_steps, last_step

MOST_SEGMENTS = 60
ADVICE = "docs/eject.md lists what it writes"


def eject(run: Any, output: str | Path | None = None) -> str:
    """Write a run as a standalone script in plain PyTorch.

    Args:
        run: The run, or its folder.
        output: The script's file; the run's split.npz is put beside it. None to write nothing.

    Returns:
        The script.

    Raises:
        ConfigError: What the run was made from cannot be written so, or another split.npz lies there.
        CheckpointError: The data changed since training.

    Example:
        >>> import tempfile, netwright as nw
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = nw.train("sklearn:iris", epochs=2, run_dir=folder + "/iris")
        ...     "optimizer.step()" in nw.eject(run)
        True
    """
    folder = Path(getattr(run, "folder", run))
    text = write_script(recipe_of(folder))
    if output is not None:
        _write(folder, Path(output), text)
    return text


def _write(folder: Path, output: Path, text: str) -> None:
    """Write the script, with the split beside it."""
    beside = output.parent / folders.SPLIT
    if beside.exists() and files.digest_file(beside) != files.digest_file(folder / folders.SPLIT):
        raise ConfigError(f"{beside}: another split lies there; expected that of {folder}; name a file in another folder")
    if not output.parent.is_dir():
        raise ConfigError(f"{output.parent}: no such folder; expected one for the script; make it, or name another")
    if not beside.exists():
        files.copy_file(folder / folders.SPLIT, beside)
    write_start(folder, output.parent)
    files.write_bytes(output, text.encode("utf-8"))


def recipe_of(folder: Path) -> Recipe:
    """Return everything that the script of a run says.

    Raises:
        ConfigError, CheckpointError: See `eject`.
    """
    record, config = folders.read_record(folder), read_config(folder)
    refuse_what_is_not_written(folder, config, record)
    inputs = own_inputs(folder, config, record)
    preparation, outcome = load_preparation(folder)
    if len(inputs.preparation.modules) != 1 or preparation.steps != inputs.preparation.steps:
        raise _not_written(folder, "several inputs came", "one input")
    source = _source(folder, config.data, inputs)
    steps = _steps(folder, config.data, inputs)
    calls = config.layer_calls()
    settings = config.data.preparation
    temperature = record.get("temperature")
    if len(inputs.split.valid) > AT_ONCE:
        raise _not_written(folder, f"{len(inputs.split.valid):,} valid rows came", f"at most {AT_ONCE:,}")
    return Recipe(
        name=re.sub(r"[^A-Za-z0-9._-]", "_", folder.absolute().name),
        source=_with_answer(source, inputs),
        steps=steps,
        preparation=inputs.preparation,
        target=inputs.target,
        decoding=outcome.decoding,
        class_target=_class_target(outcome),
        layers=None if calls is None else tuple(calls),
        own=_own(folder, config, bool((record.get("model") or {}).get("squeezed"))),
        loss=parse_call(config.training.loss or "", "training.loss"),
        optimizer=parse_call(config.training.optimizer, "training.optimizer"),
        learning=_learning(folder, config, inputs),
        rare=settings.rare if isinstance(settings, PreparationConfig) else 1,
        valid=bool(len(inputs.split.valid)),
        test=bool(len(inputs.split.test)),
        temperature=None if temperature is None else float(temperature),
        groups=groups_of(record),
        start=start_of(record),
        stages=stages_of(record),
        backbone=None if config.model.backbone is None else read_backbone(config.model.backbone),
    )


def _not_written(folder: Path, came: str, expected: str) -> ConfigError:
    return ConfigError(f"{folder}: {came}, of which eject writes no script; expected {expected}; {ADVICE}")


def refuse_what_is_not_written(folder: Path, config: RunConfig, record: Mapping[str, Any]) -> None:
    """Refuse a run of which no script can be written.

    Raises:
        ConfigError: It says of what.
    """
    data, training = config.data, config.training
    refuse_objects(folder, config)
    for wrong, came, expected in (
        (data.storage == "map", "a table in a map came", "one that fits into memory"),
        (bool(data.augmentation), "augmentation came", "rows as they are"),
        (data.text is not None, "texts came", "tables, arrays or sequences of numbers"),
        (data.join is not None, "joined tables came", "one table"),
        (data.label_separator is not None, "sets of labels came", "a column of 0 and 1 for each label"),
        ((training.device or "cpu") != "cpu", f"a run on {training.device} came", "one on the CPU"),
        (
            training.engine == "compiled",
            "compiled steps came",
            "engine eager or captured, whose bits are those of plain PyTorch",
        ),
    ):
        if wrong:
            raise _not_written(folder, came, expected)


def refuse_objects(folder: Path, config: RunConfig) -> None:
    """Refuse a run that was made from Python objects.

    Raises:
        ConfigError: Rows, network, loss, optimizer, step, figures or stop condition came from Python, or time ended it.
    """
    training = config.training
    written = [
        config.data.source,
        training.loss,
        training.optimizer,
        training.step,
        training.stop,
        training.schedule,
        *training.metrics,
    ]
    if config.model.object or any(text is not None and text.startswith(OBJECT) for text in written):
        raise ConfigError(
            f"{folder}: a part of it came from Python, which no file holds; expected a run of files; save the rows as .npz, name "
            "network, loss and optimizer by their texts, and train from these"
        )
    if training.seconds is not None:
        raise ConfigError(
            f"{folder}: training.seconds came; a script has no such clock; expected epochs or steps; train "
            "with --set training.steps=N"
        )


def refuse_inexact(folder: Path, record: Mapping[str, Any]) -> None:
    """Refuse a run that is not what its settings say.

    Raises:
        CheckpointError: It has not ended by itself, or trained together with others.
    """
    if record["status"] != "done":
        raise CheckpointError(
            f"{folder}: {record['status']}; expected a run that ended by itself; netwright resume {folder}"
        )
    if any(entry.get("changed") for entry in record.get("resumed", [])):
        raise CheckpointError(
            f"{folder}: settings were changed when it was resumed; expected a run of one config; verify another"
        )
    if (members := record.get("members", 1)) > 1:
        raise CheckpointError(
            f"{folder}: trained together with {members - 1} other runs, whose config alone gives the same within rounding, not bit "
            "by bit; expected a run that trained alone; netwright train its config.toml, and verify that"
        )


def groups_of(record: Mapping[str, Any]) -> tuple[Group, ...]:
    """Return the groups of parameters that the record of a run names."""
    return tuple(
        Group(tuple(told["parameters"]), {name: tupled(value) for name, value in told["arguments"].items()})
        for told in record.get("parameter_groups", [])
    )


def _class_target(outcome: Outcome) -> bool:
    return outcome.decoding.form in ("softmax", "exp", "score") and bool(outcome.classes)


def _learning(folder: Path, config: RunConfig, inputs: Inputs) -> Learning:
    training, data = config.training, config.data
    monitor, mode = monitored(config)
    known = ["train_loss", "valid_loss", *(f"valid_{name}" for name in VALIDATED[inputs.target.task])]
    if monitor not in known:
        raise _not_written(folder, f"epochs chosen by {monitor} came", f"by one of {', '.join(known)}")
    stopping = training.early_stopping
    module = next(iter(inputs.preparation.modules.values()))
    shape = getattr(module, "output_shape", (1,))
    axes = 3 if inputs.preparation.steps is not None else len(shape) + 1
    return Learning(
        seed=training.seed,
        epochs=training.epochs or 0,
        steps=training.steps,
        batch_size=batch_size_of(config, inputs),
        scored=at_once(axes, data.batch_size),
        last_batch=data.last_batch or "keep",
        monitor=monitor,
        mode=mode,
        patience=stopping.patience if isinstance(stopping, EarlyStoppingConfig) else None,
        update=execution_of(config).update,
        precision=training.precision,
        threads=training.threads,
        channels_last=training.memory_format == "channels_last",
        balanced=data.sampling is not None,
        **_rates(config, inputs),
    )


def _rates(config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """Return schedule and average, and how the schedule goes on."""
    schedule, average = config.training.schedule, config.training.average
    found: dict[str, Any] = {"average": None if average is None else parse_call(average, "training.average")}
    if schedule is None:
        return found
    call = parse_call(schedule, "training.schedule")
    last = last_step(call)
    short = last is not None and last + 1 < planned_steps(config, inputs)[1]
    return {**found, "schedule": call, "per_step": goes_by_steps(call), "short": short}


def _own(folder: Path, config: RunConfig, squeezed: bool) -> OwnClass | None:
    """Return the own class with the code that it needs; nothing of it is run."""
    if config.model.module is None:
        return None
    original, _, name = config.model.module.rpartition(":")
    copy = folder / "model" / "source" / Path(original).name
    try:
        text = copy.read_text(encoding="utf-8")
        imports, code, _ = own_source(text, name)
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{copy}: cannot be read ({error}); expected the code of the run; check it") from error
    if not all(word.isidentifier() for word in (name, *config.model.arguments)) or f"class {name}" not in code:
        raise CheckpointError(f"{copy}: holds no class {name!r}; expected that of the run's config; check it")
    for line in imports:
        module = line.split()[1].rstrip(",")
        if (Path(original).parent / f"{module.split('.')[0]}.py").is_file() or module.startswith((".", "netwright")):
            raise _not_written(folder, f"{Path(original).name} with {line!r} came", "a file that stands alone")
    lazy = "nn.Lazy" in code or "Lazy" in " ".join(imports)
    return OwnClass(tuple(imports), code, name, dict(config.model.arguments), lazy, squeezed)


def _source(folder: Path, data: DataConfig, inputs: Inputs) -> Source:
    """Return how the rows are read."""
    raw = inputs.raw.steps if isinstance(inputs.raw, Sequences) else inputs.raw
    if isinstance(raw, Table):
        encoder = inputs.preparation.encoder
        used = () if encoder is None else encoder.used
        found = find_table(data, raw, used, inputs.target.names)
        gaps = any(column.missing for column in used)
        if found is not None:
            renamed = tuple(data.labels.items())
            return Source(**found, table=True, gaps=gaps, marks=markers_of(data), renamed=renamed)
    elif isinstance(raw, Arrays):
        values = next(iter(raw.inputs.values()))
        gaps = values.dtype.kind == "f" and bool(np.isnan(values).any())
        if data.image_mode is not None:
            classes = inputs.target.classes
            labels = [str(classes[int(number)]) for number in inputs.target.values.reshape(-1)] if classes else []
            if labels and (pictures := find_images(data, raw, labels)):
                return Source(**pictures, table=False, dtype=str(values.dtype), gaps=False)
            expected = "folders of images by class on this machine, grey or rgb, or images in an .npz, .npy or idx file"
            raise _not_written(folder, f"images of {inputs.source} came", expected)
        if (
            not data.labels
            and len(raw.inputs) == 1
            and values.dtype.isnative
            and values.dtype.itemsize <= 8
            and (arrays := find_arrays(data))
        ):
            return Source(**arrays, table=False, dtype=str(values.dtype), gaps=gaps)
    expected = (
        "CSV, TSV, white-space text, Parquet, Feather, .npz, .npy and idx files, arrays in HDF5 files, or sklearn:NAME"
    )
    if data.labels:
        expected = "them with a text table; rename the cells of others in the file"
        raise _not_written(folder, f"data.labels came with {inputs.source}", expected)
    raise _not_written(folder, f"{inputs.source} came", expected)


def _with_answer(source: Source, inputs: Inputs) -> Source:
    """Return the source with where the target of rows of steps is found."""
    raw = inputs.raw
    if not source.table or not isinstance(raw, Sequences) or raw.per_step or raw.about is None:
        return source
    return replace(source, answer="about[{}]" if "about" in _steps_text(raw) else "[table[{}][start] for start in starts]")


def _steps_text(raw: Sequences) -> str:
    """Tell whether what is known of a row stands in a table of its own."""
    about, steps = raw.about, raw.steps
    both = isinstance(about, Table) and isinstance(steps, Table)
    return "about" if both and not set(steps.names) < set(about.names) else ""  # type: ignore[union-attr]


def _steps(folder: Path, data: DataConfig, inputs: Inputs) -> Steps | None:
    """Return how rows are made of steps; None for single rows."""
    raw, form = inputs.raw, inputs.preparation.steps
    if not isinstance(raw, Sequences) or form is None:
        return None
    horizon = 0
    if data.window is not None:
        horizon = data.horizon or 1
        segments = _segments(raw, data.window + horizon, data.stride or 1)
        if len(segments) > MOST_SEGMENTS:
            raise _not_written(folder, f"windows in {len(segments)} pieces of series came", f"at most {MOST_SEGMENTS}")
        text = script_rows.windows_over(segments, data.window, horizon, data.stride or 1)
    elif data.sequences is not None and BRACES.search(data.sequences):
        encoder = inputs.preparation.encoder
        columns = [column.name for column in (encoder.used if encoder is not None else ())]
        columns += [name for name in inputs.target.names if raw.per_step]
        text = script_rows.sequences_in_files(data.sequences, BRACES.findall(data.sequences), columns)
    elif data.sequences is not None:
        text = script_rows.sequences_by_column(data.sequences)
    else:
        raise _not_written(folder, f"{inputs.source} came", "sequences in tables, or arrays (rows, time, features)")
    width = int(raw.lengths[0]) if len(form.rungs) == 1 and (raw.lengths == form.rungs[0]).all() else 0
    in_order = width and np.array_equal(raw.starts, np.arange(raw.rows) * width) and raw.steps.rows == raw.rows * width
    return Steps(text, width, bool(in_order), horizon, form.rungs)


def _segments(raw: Sequences, reach: int, stride: int) -> list[tuple[int, int]]:
    """Return the runs of steps that windows lie in, as (first, behind the last)."""
    if not len(raw.starts):
        return []
    cuts = np.flatnonzero(np.diff(raw.starts) != stride) + 1
    return [(int(part[0]), int(part[-1]) + reach) for part in np.split(raw.starts, cuts)]
