"""The weights of a run, read from its folder: verified, and whole even where the run goes on. Floor 11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from netwright import files
from netwright.checkpoint import store
from netwright.checkpoint.trees import first_not_finite
from netwright.errors import CheckpointError
from netwright.exporting.bundle import BEST, LAST, PREPARATION, PREPARATION_TENSORS, fill, load_weights
from netwright.runfolder.folder import CHECKPOINTS, SPLIT

PREPARED = (PREPARATION, PREPARATION_TENSORS, SPLIT)
ENDED = ("done", "stopped")  # states of a run that left its weights in model/


def epochs_done(parts: Mapping[str, Any]) -> int:
    """Return how many epochs are complete in a checkpoint."""
    progress = parts["progress"]
    return int(progress["epoch"]) - (1 if progress["within"] else 0)


def refuse_damaged(folder: Path, digests: dict[str, Any], names: Sequence[str]) -> None:
    """Refuse files of a run that are not as they were written."""
    for name in names:
        if name in digests and files.digest_file(folder / name) != digests[name]:
            raise CheckpointError(
                f"{folder / name}: does not agree with its digest in run.json; expected it as written; it is damaged"
            )


def refuse_unsound(folder: Path, record: Mapping[str, Any]) -> None:
    """Refuse a run that ended where a file that predictions need is gone or not as it was written.

    Raises:
        CheckpointError: Naming the first.
    """
    digests = {**(record.get("files") or {}), **(record.get("weights") or {})}
    for name in (*PREPARED, ended_weights(folder, record)):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: no such file; expected it as written; it is gone")
        refuse_damaged(folder, digests, [name])


def ended_weights(folder: Path, record: Mapping[str, Any]) -> str:
    """Return the file of the best weights of a run that ended, or of the last without validation rows."""
    return BEST if BEST in (record.get("weights") or {}) or (folder / BEST).exists() else LAST


def weights_in(parts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights of a checkpoint that a run would keep: the best, else the average, else those that train."""
    averaged = parts.get("averaged") or {}
    if parts["best"]:
        return dict(parts["best"])
    state: dict[str, Any] = parts["model"]["state"]
    return {name: averaged["mean"][name] for name in state} if averaged.get("begun") else state


def weights_into(network: nn.Module, folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Load the best weights, or the last without validation rows: of a run that ended its own, else of its newest checkpoint.

    Returns:
        What run.json does not say yet of a run that has not ended: its epochs and the best of them.

    Raises:
        CheckpointError: Damaged, or of another network.
    """
    if record["status"] in ENDED:
        name = ended_weights(folder, record)
        load_weights(folder / name, network)
        refuse_damaged(folder, dict(record.get("weights") or {}), [name])
        bad = first_not_finite(dict(network.named_parameters()))
        if bad is not None:
            raise CheckpointError(f"{folder / name}: {bad} is not finite; expected trained weights; check the run")
        return {}
    found = store.newest(folder / CHECKPOINTS, lambda problem: None).parts
    progress = found["progress"]
    fill(network, weights_in(found), folder / CHECKPOINTS)
    best = {} if progress["best"] is None else {"best": {**(record.get("best") or {}), **progress["best"]}}
    return {"epochs": epochs_done(found), "steps": progress["step"], **best}
