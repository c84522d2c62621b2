"""From a path to what predicts: a run, an ensemble, or a bundle of one. Floor 15."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from netwright import files
from netwright.errors import ConfigError
from netwright.exporting.described import ENDINGS
from netwright.lifecycle.run import Run, load_run
from netwright.pipeline.network import OwnModule
from netwright.runfolder.membership import Membership, membership_of, named_runs, write_membership
from netwright.studies.bundles import is_bundle, load_bundle
from netwright.studies.ensembles import Ensemble, is_ensemble_bundle, load_ensemble, load_ensemble_bundle


def load_folder(
    folder: Path,
    *,
    model: OwnModule | None = None,
    code: Sequence[str | Path] = (),
    device: str | None = None,
    settings: Sequence[str] = (),
) -> Run | Ensemble:
    """Load a run, an ensemble, or a bundle of one.

    Args:
        folder: A run folder, a folder of seeds, of folds or of an ensemble, or a bundle.
        model: The network again, its class, or its class with arguments, of runs that were made from a module in Python.
        code: Python files that may run, for a network of an own class.
        device: Where to predict; default the device of the run if it is there, else the CPU.
        settings: How other files are written than those of the run, such as ``"data.decimal=,"``.

    Raises:
        CheckpointError: A file is missing, damaged or of another network.
        ConfigError: A setting that shaped the run.
        SafetyError: An own class whose file was not named.
    """
    found = _loaded(folder, model, code, device)
    return found.reading(settings) if settings else found


def _loaded(folder: Path, model: OwnModule | None, code: Sequence[str | Path], device: str | None) -> Run | Ensemble:
    if folder.suffix in ENDINGS.values() and folder.is_file():
        raise ConfigError(
            f"{folder}: a program came, which predicts and nothing else; expected a run or its bundle; predict with netwright "
            f"predict {folder} DATA{' --trust, if it is your own' if folder.suffix == '.pt2' else ''}, or load it by "
            f"{'torch.export.load' if folder.suffix == '.pt2' else 'onnxruntime'}"
        )
    if is_bundle(folder):
        load = load_ensemble_bundle if is_ensemble_bundle(folder) else load_bundle
        return load(folder, model=model, code=code, device=device)
    several = membership_of(folder)
    if several is not None:
        return load_ensemble(folder, several, model=model, code=code, device=device)
    return load_run(folder, model=model, code=code, device=device)


def unite_runs(paths: Sequence[Path], folder: Path, code: Sequence[str | Path] = ()) -> Ensemble:
    """Make an ensemble of runs, which stay where they are.

    Args:
        paths: Two or more: runs, or folders of seeds or folds, which stand for theirs.
        folder: A new folder.
        code: Python files that may run.

    Raises:
        ConfigError: Fewer than two, or one twice.
        CheckpointError: One has not ended, or predicts something else than the first.
        FolderInUseError: The folder exists.
    """
    files.refuse_existing(folder)
    runs = named_runs(paths)
    made = load_ensemble(folder, Membership("runs", tuple(runs)), code=code)
    write_membership(folder, runs)
    return made
