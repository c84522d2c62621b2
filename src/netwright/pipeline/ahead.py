"""What a training will need beside torch, imported by processes beside it from its first second on. Floor 12; without torch.

For commands, whose process ends with the run: called again and again from Python, it is better to import once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netwright import beside
from netwright.config.read import build_config, read_file
from netwright.config.schema import RunConfig
from netwright.errors import NetwrightError
from netwright.evaluation import baselines
from netwright.reporting import formats


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
