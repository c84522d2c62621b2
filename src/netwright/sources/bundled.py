"""The data sets that come with scikit-learn, by name. Floor 2."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from netwright.errors import ConfigError, did_you_mean
from netwright.sources.arrays import Arrays
from netwright.sources.tables import Origin, Table

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")


def bundled(name: str) -> Table | Arrays:
    """Return one of scikit-learn's bundled sets; digits as images, the others as tables.

    Raises:
        ConfigError: The set is not bundled.
    """
    if name not in BUNDLED:
        raise ConfigError(f"data.source: sklearn:{name} is not bundled with scikit-learn; {did_you_mean(name, BUNDLED)}")
    origin = f"sklearn:{name}"
    if name == "digits":
        values = _digits()
        images = values[:, :-1].reshape(-1, 8, 8).astype(np.uint8)
        return Arrays({"images": images}, values[:, -1].astype(np.int64), (Origin(origin, len(images)),), "NHW")
    from sklearn import datasets

    loaded = datasets.load_diabetes(scaled=False) if name == "diabetes" else getattr(datasets, f"load_{name}")()
    columns = {str(column): pa.array(values) for column, values in zip(loaded.feature_names, loaded.data.T, strict=True)}
    if loaded.target.ndim == 2:
        names = loaded.target_names
        columns |= {str(column): pa.array(values) for column, values in zip(names, loaded.target.T, strict=True)}
    elif "target_names" in loaded:
        columns["target"] = pa.array([str(loaded.target_names[value]) for value in loaded.target])
    else:
        columns["target"] = pa.array(loaded.target)
    return Table(pa.table(columns), (Origin(origin, len(loaded.target)),))


@cache
def _digits() -> npt.NDArray[np.float64]:
    """Return the 64 pixels and the digit of each row, float64 ``(1797, 65)``.

    They are read from scikit-learn's own file; importing scikit-learn, and with it SciPy, would take longer than torch.
    """
    found = find_spec("sklearn")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if path is not None and path.is_file():
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            return np.loadtxt(stream, delimiter=",", dtype=np.float64)
    from sklearn import datasets  # a version that keeps its files elsewhere

    digits = datasets.load_digits()
    return np.column_stack([digits.data, digits.target])
