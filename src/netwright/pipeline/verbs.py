"""What Python users call: train, split, cross_validate, load, show, runs. The command line calls the same functions. Floor 9."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from netwright.config.schema import RunConfig
from netwright.errors import ConfigError
from netwright.model.summary import Summary
from netwright.pipeline import folder as folders
from netwright.pipeline.bench import Bench, as_given, gather, prepare
from netwright.pipeline.checking import check, refuse
from netwright.pipeline.crossing import DEFAULT_FOLDS, CrossValidation, finished, splits_of, train_splits
from netwright.pipeline.network import OwnModule
from netwright.pipeline.parting import Parts, divide
from netwright.pipeline.run import Run, load_run
from netwright.pipeline.running import Observer, config_text, start
from netwright.pipeline.telling import Told


def train(
    config: Any = None,
    *,
    model: nn.Module | Mapping[str, Any] | Sequence[Any] | None = None,
    data: Any = None,
    loss: Any = None,
    run_dir: str | Path | None = None,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    observers: Sequence[Observer] = (),
    test: bool = True,
    strict: bool = False,
    **keywords: Any,
) -> Run:
    """Train a network with validation, keep the best weights, test it once.

    Args:
        config: A TOML file, a data file (or ``sklearn:NAME``), a dictionary of sections, or the rows as in ``data``.
        model: A ``torch.nn.Module`` (trained in place), ``(Class, arguments)``, or the section ``model`` as a dictionary.
        data: ``(X, y)`` of arrays or tensors ``(rows, ...)``, a data frame, a Dataset or DataLoader of torch, a split of one's
            own of such, ``{"train": ..., "valid": ..., "test": ...}``, or the section ``data`` as a dictionary.
        loss: torch's text such as ``"MSELoss()"``, or a callable ``(output, target) -> mean loss``.
        run_dir: The run folder; default ``runs/<name>-<time>-<4 hex>``.
        code: Python files that may run.
        settings: Texts such as ``"training.epochs=50"``.
        observers: Functions that are told each remark and epoch; ``print`` is one.
        test: Whether to end with one look at the test rows.
        strict: Whether a finding of the checks is an error.
        **keywords: Any setting by its own name: ``epochs=20``, ``batch_size=64``, ``split={"test": 0.2}``,
            ``target="price"``, ``layers=["Linear(64)", "ReLU()", "Linear()"]``.

    Returns:
        The run: ``run.model``, ``run.predict(rows)``, ``run.test()``, ``run.folder``.

    Raises:
        ConfigError: Settings that cannot be used.
        DataError: Data that cannot be read or learned from.
        DivergedError: The loss is not finite.

    Example:
        >>> import tempfile, netwright as nw
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = nw.train("sklearn:iris", epochs=2, run_dir=folder + "/iris")
        ...     len(run.history)
        2
    """
    asked = gather_all(config, model, data, loss, code, settings, keywords)
    folder = folders.folder_for(run_dir, asked.name)
    observe, bench = _told_to(observers), asked.bench()
    bench = replace(bench, findings=check(bench.config, bench.inputs))
    if strict:
        for finding in bench.findings:
            observe(Told(finding.message, "warning"))
        refuse(bench.findings)
    return start(bench, folder, observe, test)


def split(
    config: Any = None,
    *,
    data: Any = None,
    settings: Sequence[str] = (),
    **keywords: Any,
) -> Parts:
    """Divide rows as `train` would, and tell what each part holds; nothing is trained or written.

    Args:
        config: As for `train`.
        data: As for `train`.
        settings: Texts such as ``"data.split.test=0.1"``.
        **keywords: As for `train`.

    Returns:
        ``parts.train``, ``parts.valid`` and ``parts.test`` as row numbers, what each holds, and the findings of the checks;
        printed, they are drawn.

    Raises:
        ConfigError, DataError: See `train`.

    Example:
        >>> import netwright as nw
        >>> parts = nw.split("sklearn:iris", split={"test": 0.2})
        >>> len(parts.train), len(parts.valid), len(parts.test)
        (90, 30, 30)
    """
    asked = gather_all(config, None, data, None, (), settings, keywords)
    return divide(as_given(asked.config, asked.data), asked.data)


def cross_validate(
    config: Any = None,
    *,
    folds: int | None = None,
    repeats: int | None = None,
    model: nn.Module | Mapping[str, Any] | Sequence[Any] | None = None,
    data: Any = None,
    loss: Any = None,
    run_dir: str | Path | None = None,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    observers: Sequence[Observer] = (),
    **keywords: Any,
) -> CrossValidation:
    """Train and test a network once per split: folds of the rows, or the splits of an index file.

    Args:
        config: As for `train`.
        folds: In how many folds; default ``data.split.folds``, the splits of ``data.split.file``, or 5.
        repeats: How often the rows are dealt out anew; default ``data.split.repeats``, or 1.
        model: As for `train`; a module starts each split as it was handed over.
        data: As for `train`.
        loss: As for `train`.
        run_dir: A folder for the runs; where it holds finished ones of the same settings, only the others are trained.
        code: Python files that may run.
        settings: Texts such as ``"training.epochs=50"``.
        observers: Functions that are told the remarks on the first split, and a line per split.
        **keywords: As for `train`.

    Returns:
        The folder, the run folders, and mean, deviation and standard error of each test figure.

    Raises:
        ConfigError, DataError, DivergedError: See `train`; the finished splits stay.
        CheckpointError: The folder holds runs of other settings.

    Example:
        >>> import tempfile, netwright as nw
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = nw.cross_validate("sklearn:iris", folds=3, epochs=2, run_dir=folder + "/cv")
        ...     len(found.runs)
        3
    """
    told = {"folds": folds, "repeats": repeats}
    settings = [*settings, *(f"data.split.{name}={value}" for name, value in told.items() if value is not None)]
    asked = gather_all(config, model, data, loss, code, settings, keywords)
    count = splits_of(asked.config.data.split)
    if not count:
        count, asked = DEFAULT_FOLDS, asked.with_split(folds=DEFAULT_FOLDS)
    folder = folders.folder_for(run_dir, f"{asked.name}-cross-validation")

    observe = _told_to(observers)
    return train_splits(folder, count, lambda number, path: _train_split(asked, number, path, observe), observe)


def _train_split(asked: Asked, number: int, path: Path, observe: Observer) -> Mapping[str, Any] | int:
    """Train one split, or find it trained; return its test, or the number of the signal that stopped it."""
    one = asked.with_split(fold=number)
    bench = replace(one, module=copy.deepcopy(asked.module)).bench()
    bench = replace(bench, findings=check(bench.config, bench.inputs))
    test = finished(path, config_text(bench.config, path), bench.inputs.digest)
    if test is not None:
        return test
    run = start(bench, path, lambda record: observe(record) if number == 0 and isinstance(record, Told) else None, True)
    if run.tested is not None:
        return run.tested
    if not run.record.get("signal"):
        raise ConfigError(f"{path}: the split has no test rows; expected some; name them in data.split.test")
    return int(run.record["signal"])


def _told_to(observers: Sequence[Observer]) -> Observer:
    """Return one observer that tells all of them."""

    def observe(record: Any) -> None:
        for observer in observers:
            observer(record)

    return observe


@dataclass(frozen=True)
class Asked:
    """What a user asks for: settings and objects, read but not yet prepared."""

    config: RunConfig
    name: str
    data: Any
    module: OwnModule | None
    loss: Any
    code: tuple[Path, ...]
    command: str

    def bench(self) -> Bench:
        """Prepare everything; nothing is written."""
        return prepare(
            self.config,
            self.name,
            data=self.data,
            module=self.module,
            loss=self.loss,
            code=self.code,
            command=self.command,
        )

    def with_split(self, **changes: int) -> Asked:
        """Return the same with another split."""
        split = self.config.data.split.model_copy(update=changes)
        return replace(
            self, config=self.config.model_copy(update={"data": self.config.data.model_copy(update={"split": split})})
        )


def gather_all(
    config: Any,
    model: Any,
    data: Any,
    loss: Any,
    code: Sequence[str | Path],
    settings: Sequence[str],
    keywords: Mapping[str, Any],
) -> Asked:
    """Read settings and sort out what was handed over."""
    merged = dict(keywords)
    module: OwnModule | None = None
    if config is not None and not isinstance(config, str | Path | Mapping):
        if data is not None:
            raise ConfigError(f"train: {type(config).__name__} came first and data= too; give the rows once, as data=")
        config, data = None, config
    if isinstance(model, nn.Module):
        module = model
    elif isinstance(model, Mapping):
        merged["model"] = model
    elif isinstance(model, Sequence) and not isinstance(model, str) and len(model) == 2 and isinstance(model[0], type):
        module = (model[0], dict(model[1]))
    elif model is not None:
        raise ConfigError(
            f"model: {type(model).__name__} came; expected a torch.nn.Module, (Class, arguments) or a dictionary; "
            "texts go into layers=[...]"
        )
    sections = isinstance(data, Mapping) and all(isinstance(key, str) for key in data) and "source" in data
    if sections or (isinstance(data, Mapping) and "train" in data and isinstance(data["train"], str | Path)):
        merged["data"], data = data, None
    own_loss = None if loss is None or isinstance(loss, str) else loss
    if isinstance(loss, str):
        merged["loss"] = loss
    if own_loss is not None and not callable(own_loss):
        raise ConfigError(f"loss: {type(loss).__name__} came; expected a text or a callable of output and target")
    read, name = gather(config, settings, merged)
    if module is not None and read.model.layers is not None:
        raise ConfigError("model and layers came together; describe the network in one of them")
    command = f"netwright train {config}" if isinstance(config, str | Path) else "netwright train CONFIG"
    return Asked(read, name, data, module, own_loss, tuple(Path(file) for file in code), command)


def load(
    run: str | Path, *, model: nn.Module | None = None, code: Sequence[str | Path] = (), device: str | None = None
) -> Run:
    """Load a run from its folder; see `netwright.pipeline.run.load_run`."""
    return load_run(run, model=model, code=code, device=device)


def show(
    config: str | Path | Mapping[str, Any],
    *,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    **keywords: Any,
) -> tuple[Summary, tuple[int, ...]]:
    """Work out a described network without training it.

    Args:
        config: As for `train`; a run folder's config.toml does too.
        code: Python files that may run.
        settings: Texts such as ``"model.layers.6.p=0.2"``.
        **keywords: Settings by name.

    Returns:
        The summary per layer, and the shape of one prepared row.
    """
    bench = gather_all(config, None, None, None, code, settings, keywords).bench()
    return bench.network.summary, next(iter(bench.examples.shapes.values()))


def runs(folder: str | Path = "runs") -> list[dict[str, Any]]:
    """Return the runs of a folder with their figures, oldest first."""
    return folders.list_runs(Path(folder))
