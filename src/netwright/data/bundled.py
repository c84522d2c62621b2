"""The data sets that come with scikit-learn, by name. Floor 2."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from netwright.data.arrays import Arrays
from netwright.data.tables import Origin, Table
from netwright.errors import ConfigError, did_you_mean

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")


def bundled(name: str) -> Table | Arrays:
    """Return one of scikit-learn's bundled sets; digits as images, the others as tables.

    Raises:
        ConfigError: The set is not bundled.
    """
    if name not in BUNDLED:
        raise ConfigError(f"data.source: sklearn:{name} is not bundled with scikit-learn; {did_you_mean(name, BUNDLED)}")
    from sklearn import datasets

    origin = f"sklearn:{name}"
    if name == "digits":
        digits = datasets.load_digits()
        rows = len(digits.images)
        return Arrays({"images": digits.images.astype(np.uint8)}, digits.target, (Origin(origin, rows),), "NHW")
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
