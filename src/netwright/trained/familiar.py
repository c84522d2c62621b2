"""Whether new rows are rows that a run was trained on: hashes of some of these are kept with it. Floor 13."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt

from netwright import files
from netwright.checks.view import Hashes, Marks, contents_of
from netwright.config.schema import RunConfig
from netwright.config.slugs import ALL
from netwright.data.columns import TableEncoder
from netwright.data.mapped import Mapped
from netwright.errors import NetwrightError
from netwright.rows.inputs import Inputs
from netwright.runfolder.folder import SEEN
from netwright.seeding import stream
from netwright.sources import arrays
from netwright.sources.arrays import Arrays
from netwright.sources.places import place_of
from netwright.sources.sequences import Raw, Sequences

Rows = npt.NDArray[np.int64]
MOST = 10_000  # rows of which hashes are kept
MOST_BYTES = 1 << 26  # of these rows; and of the steps of sequences, which are all hashed
REPEATING = 0.9  # share of kept rows that equal another one: from here on rows repeat by nature, and tell nothing
FEWEST = 0.01  # share of new rows that is worth a word
LEAST = 2.0**-53  # share of all rows whose hashes are kept
SURE = 3.0  # standard deviations above what chance gives


@final
@dataclass(frozen=True)
class Seen:
    """What a run keeps of rows that it was trained or validated on.

    ``hashes`` are of some of them, in order, each once; ``share`` is that of all; ``twins`` how many of ``of`` equal another one,
    which is how often a row that is new equals one of them by chance; ``units`` tells how large numbers are hashed.
    """

    hashes: Hashes
    share: float
    twins: int
    of: int
    units: bool = True

    @property
    def chance(self) -> float:
        """How often a new row may equal one of them by chance, at most."""
        found = self.twins / self.of
        return min(1.0, found + SURE * sqrt(found * (1 - found) / self.of) + SURE / self.of)

    def among(self, contents: tuple[Hashes, Marks]) -> Marks:
        """Tell which rows it has seen, of all that are given and may be known."""
        found, known = contents
        same: Marks = self.hashes[np.minimum(np.searchsorted(self.hashes, found), len(self.hashes) - 1)] == found
        return known & same


def keep_hashes(folder: Path, config: RunConfig, inputs: Inputs) -> None:
    """Write hashes of some train and valid rows, and how many of them equal another.

    Nothing is written of windows, which share their steps, of rows in a map, of sequences of many steps, where nearly all rows
    repeat another, and where duplicates are not to be looked for.

    Args:
        folder: The run folder.
        config: The settings.
        inputs: Rows and split; of a table the columns that the network reads are hashed, of arrays their numbers as float32.
    """
    raw, split = inputs.raw, inputs.split
    if config.data.window is not None or isinstance(raw, Mapped) or {ALL, "duplicate-rows"} & set(config.checks.skip):
        return
    rows = np.concatenate([split.train, split.valid])
    most = _most(raw)
    if len(rows) > most:
        rows = np.sort(stream(0, "checks", 2).choice(rows, most, replace=False))
    found, known = contents_of(raw, inputs.preparation.encoder, rows)
    hashes, counts = np.unique(found[known], return_counts=True)
    twins, of = int(counts[counts > 1].sum()), int(counts.sum())
    if not of or twins > REPEATING * of:
        return
    share = len(found) / (len(split.train) + len(split.valid))
    files.write_arrays(
        folder / SEEN, {"hashes": hashes, "share": np.array([share]), "twins": np.array([twins, of]), "units": np.array([1])}
    )


def read_seen(folder: Path) -> Seen | None:
    """Read what `keep_hashes` wrote; None where it wrote nothing.

    Raises:
        NetwrightError, KeyError, ValueError, OSError: It is damaged.
    """
    if not (folder / SEEN).is_file():
        return None
    known = arrays.read_npz(place_of(folder / SEEN))
    hashes, share, twins = known["hashes"], known["share"], known["twins"]
    plain = hashes.dtype == np.uint64 and hashes.ndim == 1 and len(hashes) > 0 and bool((hashes[1:] > hashes[:-1]).all())
    plain = plain and share.dtype == np.float64 and share.shape == (1,) and LEAST <= share[0] <= 1
    plain = plain and twins.dtype.kind == "i" and twins.shape == (2,) and 0 <= twins[0] <= twins[1] > 0
    if not plain:
        raise ValueError("other numbers than a run writes")
    return Seen(hashes, float(share[0]), int(twins[0]), int(twins[1]), "units" in known)


def familiar(runs: Sequence[tuple[Path, TableEncoder | None]], raw: Raw) -> list[str]:
    """Return a note where new rows are more often rows that a run, or a member of an ensemble, has seen than chance tells.

    Args:
        runs: The folder of each, and the columns that it learned of a table, or of the steps of sequences.
        raw: New rows, all of them tested.
    """
    seen: list[Seen] = []
    same = np.zeros(raw.rows, dtype=bool)
    for folder, encoder in runs:
        try:
            one = read_seen(folder)
            if one is None:
                continue
            same |= one.among(contents_of(raw, encoder, units=one.units))
        except (NetwrightError, KeyError, ValueError, OSError) as error:
            return [f"{folder / SEEN}: cannot be read ({error}): whether these rows were trained on is not known"]
        seen.append(one)
    if not seen:
        return []
    count, rows, share = int(same.sum()), len(same), min(one.share for one in seen)
    chance = 1 - prod(1 - one.chance for one in seen)
    if count <= rows * chance + SURE * sqrt(rows * chance * (1 - chance)) or count < FEWEST * share * rows:
        return []
    about = f"{count:,}" if share == 1 else f"about {min(rows, round(count / share)):,}"
    expected = 1 - prod(1 - one.twins / one.of for one in seen)
    by_chance = f", where {100 * expected:.0f} % would by chance" if expected > FEWEST else ""
    who = "the run" if len(runs) == 1 else "a member"
    return [
        f"{about} of these {rows:,} rows have the inputs of a row that {who} was trained or validated on{by_chance} (first: "
        f"{raw.place(int(np.argmax(same)))}), so that the figures are too good; leave them out"
    ]


def _most(raw: Raw) -> int:
    """Return how many rows are hashed."""
    if isinstance(raw, Arrays):
        size = sum(value.nbytes for value in raw.inputs.values()) // max(1, raw.rows)
        return min(MOST, max(1, MOST_BYTES // max(1, size)))
    if not isinstance(raw, Sequences):
        return MOST
    steps = raw.steps
    size = sum(value.nbytes for value in steps.inputs.values()) if isinstance(steps, Arrays) else steps.columns.nbytes
    return MOST if size <= MOST_BYTES else 0
