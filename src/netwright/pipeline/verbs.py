"""What Python users call: train, load, show, runs. The command line calls the same functions. Floor 9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from netwright.errors import ConfigError
from netwright.model.summary import Summary
from netwright.pipeline import folder as folders
from netwright.pipeline.bench import Bench, gather, prepare
from netwright.pipeline.network import OwnModule
from netwright.pipeline.run import Run, load_run
from netwright.pipeline.running import Observer, start


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
    bench, folder = make_bench(config, model, data, loss, run_dir, code, settings, keywords)

    def observe(record: Any) -> None:
        for observer in observers:
            observer(record)

    return start(bench, folder, observe, test)


def make_bench(
    config: Any,
    model: Any,
    data: Any,
    loss: Any,
    run_dir: str | Path | None,
    code: Sequence[str | Path],
    settings: Sequence[str],
    keywords: Mapping[str, Any],
) -> tuple[Bench, Path]:
    """Read settings and objects, prepare everything, and name the run folder; nothing is written."""
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
    folder = folders.folder_for(run_dir, name)
    command = f"netwright train {config}" if isinstance(config, str | Path) else "netwright train CONFIG"
    bench = prepare(read, name, data=data, module=module, loss=own_loss, code=[Path(file) for file in code], command=command)
    return bench, folder


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
    bench, _ = make_bench(config, None, None, None, None, code, settings, keywords)
    return bench.network.summary, next(iter(bench.examples.shapes.values()))


def runs(folder: str | Path = "runs") -> list[dict[str, Any]]:
    """Return the runs of a folder with their figures, oldest first."""
    return folders.list_runs(Path(folder))
