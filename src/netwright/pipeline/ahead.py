"""What a training will need beside torch, imported by processes beside it from its first second on. Floor 12; without torch.

For commands, whose process ends with the run, and for the first training of a Python session: where more follow, it is better
to import once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from pathlib import Path

from netwright import beside
from netwright.config.read import build_config, read_file
from netwright.config.schema import RunConfig
from netwright.errors import NetwrightError
from netwright.evaluation import baselines
from netwright.reporting import formats

_TRAININGS = count()  # of this process, called from Python


@contextmanager
def imported_ahead(config: RunConfig, test: bool = True, alone: bool = True) -> Iterator[None]:
    """Run a block at whose end a run is tested and told, with the imports for that made meanwhile.

    Args:
        config: The settings of the run.
        test: Whether it is tested.
        alone: Whether no other process trains with this one; where others do, cores are theirs.
    """
    own = config.training.step is not None
    learned = test and not own and bool(set(config.evaluation.baselines) & set(baselines.LEARNED))
    imports = [*([baselines.IMPORTS] if learned else []), formats.IMPORTS] if alone else []
    with beside.importing(*imports):
        yield


def imported_ahead_once(config: RunConfig, test: bool, alone: bool) -> AbstractContextManager[None]:
    """Return `imported_ahead` for the first training of this process, and nothing for all that follow."""
    return nullcontext() if next(_TRAININGS) else imported_ahead(config, test, alone)


@contextmanager
def imported_for_run(folder: Path) -> Iterator[None]:
    """Run a block at whose end a run of a folder is tested and told; one that is none is left to the block to complain of."""
    try:
        config = build_config(read_file(folder / "config.toml"))
    except NetwrightError:
        yield
        return
    with imported_ahead(config):
        yield
