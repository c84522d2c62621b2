"""What Python users call; the command line calls the same functions. Floor 16."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from netwright.distributed.joining import join, refuse_several
from netwright.distributed.world import World
from netwright.errors import ConfigError
from netwright.lifecycle.run import Run
from netwright.lifecycle.several import Manner
from netwright.lifecycle.starting import train_asked
from netwright.model.summary import Summary
from netwright.pipeline.asking import code_files, gather_all, rows_first, setting_texts, with_test_rows
from netwright.pipeline.bench import as_given
from netwright.pipeline.custom import Evaluate, Step, Stop
from netwright.pipeline.drafting import Draft, draft_config
from netwright.pipeline.network import OwnModule
from netwright.pipeline.observing import Audience, Observer
from netwright.pipeline.parting import Parts, divide
from netwright.pipeline.preflight import Preflight, check_asked
from netwright.rows.reading import names_of
from netwright.runfolder import folder as folders
from netwright.seeding import one_at_a_time
from netwright.studies.comparing import Comparison, compare_runs
from netwright.studies.crossing import DEFAULT_FOLDS, CrossValidation, splits_of, train_splits
from netwright.studies.ensembles import Ensemble
from netwright.studies.loading import load_folder, unite_runs
from netwright.studies.repeating import DEFAULT_SEEDS, Repetition, check_seeds, train_seeds
from netwright.tracking.records import Tracker
from netwright.trained.packaging import export_run
from netwright.training.own_optimizer import Factories


@rows_first
@one_at_a_time
def train(
    config: Any = None,
    *,
    model: nn.Module | Mapping[str, Any] | Sequence[Any] | None = None,
    data: Any = None,
    loss: Any = None,
    optimizer: str | Factories | None = None,
    metrics: Sequence[str] | Mapping[str, Callable[..., Any]] | None = None,
    step: Step | None = None,
    evaluate: Evaluate | None = None,
    stop: Stop | None = None,
    run_dir: str | Path | None = None,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    observers: Sequence[Observer | Tracker] = (),
    test: bool = True,
    strict: bool = False,
    auto_micro_batch: bool = False,
    world: World | None = None,
    **keywords: Any,
) -> Run:
    """Train a network with validation, keep the best weights, test it once.

    Args:
        config: A TOML file, a data file (or ``sklearn:NAME``), a dictionary of sections, or the rows as in ``data``.
        model: A ``torch.nn.Module`` (trained in place), ``(Class, arguments)``, or the section ``model`` as a dictionary.
        data: ``(X, y)`` of arrays or tensors, a frame, a Dataset, a DataLoader, ``{"train": ...}`` of such, a file, or the section.
        loss: torch's text such as ``"MSELoss()"``, or a callable ``(output, target) -> mean loss``.
        optimizer: torch's text, or a class or function of ``model.parameters()`` (of the module, if it names ``model``).
        metrics: Names of scikit-learn's figures, or ``{name: function(true, predicted)}``, ``(true, probabilities)``.
        step: A function ``(model, batch, optimizer) -> loss`` that trains on a batch, for what is not supervised learning.
        evaluate: Of such a training: a function ``(model, batch)`` to the loss, or to numbers by name.
        stop: A function of an epoch's record that may end the run, by true or a reason; nothing else outside can.
        run_dir: The run folder; default ``runs/<name>-<time>-<4 hex>``.
        code: Python files that may run.
        settings: Texts such as ``"training.epochs=50"``.
        observers: Functions that are told each remark and epoch, such as ``print``; trackers of `netwright.tracking`.
        test, strict: Whether to look at the test rows once at the end; whether a finding that is no note is an error.
        auto_micro_batch: Whether to halve the rows that go forward at a time when memory runs out, the batch as it is.
        world: The processes that share each batch; None for those that a launcher such as torchrun started, or this one alone.
        **keywords: Any setting by its own name, such as ``epochs=20``; ``schedule`` may be a function of the optimizer.

    Returns:
        The run: ``run.model``, ``run.predict(rows)``, ``run.test()``, ``run.folder``.

    Raises:
        ConfigError, DataError, DivergedError: Settings or data that cannot be used; a loss that is not finite.

    Example:
        >>> import tempfile, netwright as nw
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = nw.train("sklearn:iris", epochs=2, run_dir=folder + "/iris")
        ...     len(run.history)
        2
    """
    keywords |= {"optimizer": optimizer, "metrics": metrics, "step": step, "evaluate": evaluate, "stop": stop}
    test, keywords = with_test_rows(test, keywords)
    with join() if world is None else nullcontext(world) as shared:
        asked = gather_all(config, model, data, loss, code, settings, keywords)
        return train_asked(shared, asked, run_dir, observers, Manner(test, strict, auto_micro_batch))


@rows_first
def check(
    config: Any = None,
    *,
    model: nn.Module | Mapping[str, Any] | Sequence[Any] | None = None,
    data: Any = None,
    loss: Any = None,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    **keywords: Any,
) -> Preflight:
    """Look for mistakes in network, code and data before an hour is lost; nothing is trained for good, nothing written.

    Args:
        config: As for `train`.
        model: As for `train`; it is not changed.
        data: As for `train`.
        loss: As for `train`.
        code: Python files that may run.
        settings: Texts such as ``"training.optimizer.lr=0.1"``.
        **keywords: As for `train`.

    Returns:
        ``found.findings``, each with ``check``, ``severity``, ``where``, ``why``, ``advice``, ``confidence`` and ``figures``,
        and ``found.overfit``: how far 200 steps at most on one batch came. Printed, they are grouped.

    Raises:
        ConfigError, DataError: Settings or data that cannot be read at all.

    Example:
        >>> import netwright as nw
        >>> found = nw.check("sklearn:iris", layers=["Linear(16)", "ReLU()", "Linear()", "Softmax()"])
        >>> [(one.check, one.where) for one in found.findings if one.refuses]
        [('activation-before-loss', 'layer 3 Softmax(dim=1)')]
    """
    return check_asked(gather_all(config, model, data, loss, code, settings, keywords))


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
    return divide(as_given(asked.config, asked.data), asked.data, asked.custom.reads_figures)


def draft(source: str | Path, *, output: str | Path | None = None, settings: Sequence[str] = (), **keywords: Any) -> Draft:
    """Look at a data file and return a commented config to edit; nothing is written.

    Args:
        source: A data file or ``sklearn:NAME``.
        output: Where the config will lie, so that paths in it are relative to its folder.
        settings: Texts such as ``"data.split.test=0.1"``.
        **keywords: As for `train`.

    Returns:
        ``draft.text``; trained from it, a run is the one that the data file alone gives.

    Raises:
        ConfigError, DataError: See `train`.

    Example:
        >>> import netwright as nw
        >>> "Linear(128)" in nw.draft("sklearn:iris").text
        True
    """
    if not isinstance(source, str | Path):
        raise ConfigError(
            f"draft: {type(source).__name__} came; expected a data file or sklearn:NAME, which a config can name; write the rows "
            "into a file first (numpy.savez, to_csv), or train on them"
        )
    asked = gather_all(str(source), None, None, None, (), settings, keywords)
    words = [str(source), *(f"--target {name}" for name in names_of(keywords.get("target")) or ())]
    words += [f"--set {setting}" for setting in setting_texts(settings)]
    return draft_config(asked.bench(), None if output is None else Path(output), words)


@rows_first
@one_at_a_time
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
    observers: Sequence[Observer | Tracker] = (),
    population: bool = False,
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
        run_dir: A folder for the runs; where it holds some of the same settings, finished ones are kept, others resumed.
        code: Python files that may run.
        settings: Texts such as ``"training.epochs=50"``.
        observers: Functions that are told the remarks on the first split, and a line per split; trackers follow each run.
        population: Whether the splits take their steps together, vectorised (docs/populations.md).
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
    refuse_several("cross_validate")
    told = [f"data.split.{name}={value}" for name, value in (("folds", folds), ("repeats", repeats)) if value is not None]
    asked = gather_all(config, model, data, loss, code, [*setting_texts(settings), *told], keywords)
    count = splits_of(asked.config.data.split)
    if not count:
        count, asked = DEFAULT_FOLDS, asked.with_split(folds=DEFAULT_FOLDS)
    folder = folders.folder_for(run_dir, f"{asked.name}-cross-validation")
    return train_splits(asked, folder, count, Audience(observers), Manner(population=population))


@rows_first
@one_at_a_time
def repeat(
    config: Any = None,
    *,
    seeds: int = DEFAULT_SEEDS,
    model: nn.Module | Mapping[str, Any] | Sequence[Any] | None = None,
    data: Any = None,
    loss: Any = None,
    run_dir: str | Path | None = None,
    code: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    observers: Sequence[Observer | Tracker] = (),
    test: bool = True,
    strict: bool = False,
    auto_micro_batch: bool = False,
    population: bool = False,
    **keywords: Any,
) -> Repetition:
    """Train and test a network once per seed, on the same split: how far chance alone moves its figures.

    Args:
        config: As for `train`.
        seeds: How many, at least 2; they count up from ``training.seed``.
        model: As for `train`; a module starts each seed as it was handed over, ``(Class, arguments)`` with new weights.
        data, loss, code, settings, strict, auto_micro_batch: As for `train`.
        **keywords: As for `train`.
        run_dir: A folder for the runs; where it holds some of the same settings, finished ones are kept, others resumed.
        observers: Functions that are told the remarks on the first seed, and a line per seed; trackers follow each run.
        test: Whether each run ends with one look at the test rows; else the figures are those of the validation rows.
        population: Whether the seeds take their steps together, vectorised (docs/populations.md).

    Returns:
        The folder, the run folders, and mean, standard deviation and t-interval of each figure.

    Raises:
        ConfigError, DataError, DivergedError: See `train`; the finished seeds stay.
        CheckpointError: The folder holds runs of other settings.

    Example:
        >>> import tempfile, netwright as nw
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = nw.repeat("sklearn:iris", seeds=2, epochs=2, run_dir=folder + "/seeds")
        ...     len(found.runs)
        2
    """
    refuse_several("repeat")
    check_seeds(seeds)
    asked = gather_all(config, model, data, loss, code, settings, keywords)
    folder = folders.folder_for(run_dir, f"{asked.name}-seeds")
    return train_seeds(
        asked, folder, seeds, Audience(observers), Manner(test, strict, auto_micro_batch, population=population)
    )


def load(
    run: str | Path,
    *others: Any,
    model: OwnModule | None = None,
    code: Sequence[str | Path] = (),
    device: str | None = None,
    settings: Sequence[str] = (),
) -> Run | Ensemble:
    """Load a run, an ensemble (of seeds, folds, or runs) or a bundle of one; see `netwright.studies.loading.load_folder`."""
    if others:
        came = f"nw.load: {1 + len(others)} values without a name came"
        raise ConfigError(f"{came}; expected one, the folder; an own network goes by its name, nw.load(RUN, model=NETWORK)")
    return load_folder(Path(run), model=model, code=code_files(code), device=device, settings=setting_texts(settings))


def ensemble(runs: Sequence[str | Path], output: str | Path, *, code: Sequence[str | Path] = ()) -> Ensemble:
    """Make an ensemble of runs that predict the same from the same columns; see `netwright.studies.loading.unite_runs`.

    Args:
        runs: Two or more; a folder of seeds or folds stands for its runs.
        output: A new folder, which names the runs; they stay where they are.
        code: Python files that may run.

    Example:
        >>> import tempfile, netwright as nw
        >>> with tempfile.TemporaryDirectory() as place:
        ...     runs = [nw.train("sklearn:iris", seed=n, epochs=2, run_dir=f"{place}/{n}").folder for n in (1, 2)]
        ...     nw.ensemble(runs, place + "/both").predict("sklearn:iris").shape
        (150,)
    """
    return unite_runs([Path(run) for run in runs], Path(output), code_files(code))


def export(
    run: Run | Ensemble | str | Path,
    format: str = "bundle",
    output: str | Path | None = None,
    code: Sequence[str | Path] = (),
) -> Path:
    """Write a run or an ensemble as files that predict without it; see `netwright.trained.packaging.export_run`."""
    found = load_folder(Path(run), code=code_files(code)) if isinstance(run, str | Path) else run
    return export_run(found, format, None if output is None else Path(output))


def compare(run: str | Path, *others: str | Path, steps: bool = False) -> Comparison:
    """Compare runs, or folders of seeds; see `netwright.studies.comparing.compare_runs`. Printed, a line per difference."""
    return compare_runs([Path(run), *map(Path, others)], steps)


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
    return described(config, code, settings, keywords)[:2]


def described(
    config: str | Path | Mapping[str, Any], code: Sequence[str | Path], settings: Sequence[str], keywords: Mapping[str, Any]
) -> tuple[Summary, tuple[int, ...], tuple[str, ...]]:
    """Return what `show` does, and what the learning rate will do, in words."""
    bench = gather_all(config, None, None, None, code, settings, keywords).bench()
    return bench.network.summary, next(iter(bench.examples.shapes.values())), bench.rates


def runs(folder: str | Path = "runs") -> list[dict[str, Any]]:
    """Return the runs of a folder with their figures, oldest first."""
    return folders.list_runs(Path(folder))
