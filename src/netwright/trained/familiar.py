"""Whether new rows are rows that a run was trained on: hashes of some of these are kept with it. Floor 13."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netwright import files
from netwright.checks.view import Hashes, hashes_of, row_hashes
from netwright.config.schema import RunConfig
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
MOST = 10_000  # rows of which hashes are kept, and test rows that are looked for among them
MOST_BYTES = 1 << 26  # of these rows, and of the steps of sequences, which are all hashed
REPEATING = 0.5  # share of kept rows that repeat another: from here on rows repeat by nature, and tell nothing
FEWEST = 0.01  # share of new rows that is worth a word


def keep_hashes(folder: Path, config: RunConfig, inputs: Inputs) -> None:
    """Write hashes of some train and valid rows, and how many of the run's own test rows are among them by chance.

    Nothing is written of windows, which share their steps, of rows in a map, and of rows that repeat by nature.

    Args:
        folder: The run folder.
        config: The settings.
        inputs: Rows and split; of a table the columns that the network reads, of arrays their bytes, are hashed.
    """
    raw, split, encoder = inputs.raw, inputs.split, inputs.preparation.encoder
    if config.data.window is not None or isinstance(raw, Mapped):
        return
    most = _most(raw)
    seen = np.concatenate([split.train, split.valid])
    kept = np.unique(found := hashes_of(raw, encoder, _some(seen, most, 0)))
    if len(kept) <= REPEATING * len(found):
        return
    others = hashes_of(raw, encoder, _some(split.test, most, 1))
    chance = [_among(others, kept).sum(), len(others)]
    files.write_arrays(
        folder / SEEN, {"hashes": kept, "share": np.array([len(found) / len(seen)]), "chance": np.array(chance)}
    )


def familiar(folder: Path, raw: Raw, encoder: TableEncoder | None) -> list[str]:
    """Return a note where new rows are more often rows that the run has seen than its own test rows are.

    Args:
        folder: The run folder; without its hashes nothing is known.
        raw: New rows, all of them tested.
        encoder: The learned columns of a table, or of the steps of sequences.
    """
    if not (folder / SEEN).is_file():
        return []
    try:
        known = arrays.read_npz(place_of(folder / SEEN))
        kept, share, (by_chance, of) = known["hashes"], float(known["share"][0]), map(int, known["chance"])
        same = _among(row_hashes(raw, encoder), kept.astype(np.uint64))
    except (NetwrightError, KeyError, IndexError, TypeError, ValueError, OSError) as error:
        return [f"{folder / SEEN}: cannot be read ({error}): whether these rows were trained on is not known"]
    count, rows = int(same.sum()), len(same)
    expected = rows * by_chance / of if of else 0.0
    if count <= 2 * expected + 3 * sqrt(expected) or count < FEWEST * share * rows:
        return []
    about = f"{count:,}" if share == 1 else f"about {min(rows, round(count / share)):,}"
    return [
        f"{about} of these {rows:,} rows have the inputs of a row that the run was trained or validated on (first: "
        f"{raw.place(int(np.argmax(same)))}), so that the figures are too good; leave them out, or test the run's own test rows"
    ]


def of_members(folders: Sequence[Path], raw: Raw, encoder: TableEncoder | None) -> list[str]:
    """Return the first note of the members of an ensemble; see `familiar`."""
    return next((found for folder in folders if (found := familiar(folder, raw, encoder))), [])


def _most(raw: Raw) -> int:
    """Return how many rows are hashed."""
    if isinstance(raw, Arrays):
        size = sum(value.nbytes for value in raw.inputs.values()) // max(1, raw.rows)
        return min(MOST, max(1, MOST_BYTES // max(1, size)))
    if isinstance(raw, Sequences) and isinstance(raw.steps, Arrays):
        return MOST if sum(value.nbytes for value in raw.steps.inputs.values()) <= MOST_BYTES else 0
    return MOST


def _some(rows: Rows, most: int, number: int) -> Rows:
    return rows if len(rows) <= most else np.sort(stream(0, "checks", number, most).choice(rows, most, replace=False))


def _among(hashes: Hashes, kept: Hashes) -> npt.NDArray[np.bool_]:
    if not len(kept):
        return np.zeros(len(hashes), dtype=bool)
    found: npt.NDArray[np.bool_] = kept[np.minimum(np.searchsorted(kept, hashes), len(kept) - 1)] == hashes
    return found
