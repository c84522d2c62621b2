"""The default for series beside published figures: UCR GunPoint and ItalyPowerDemand, indoor movement, two series with windows.

    python benchmarks/series.py DATA --set GunPoint --seeds 5

DATA holds ``ucr/NAME_TRAIN.ts`` and ``NAME_TEST.ts`` (the official split of the UCR archive), from UCI
``indoor_movement/IndoorMovement.zip``, and ``timeseries/daily-min-temperatures.csv`` and ``airline-passengers.csv``. Nothing is
said of the network but in ``--before``. Prints one line per run, and at the end mean, deviation and seconds.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import netwright as nw

BEFORE = {  # layers of the default before; it was trained by Adam(lr=0.001) in batches of 64, patience 20
    "series": [
        "Conv1d(64, kernel_size=5, padding=2)", "BatchNorm1d()", "ReLU()", "MaxPool1d(2)",
        "Conv1d(128, kernel_size=5, padding=2)", "BatchNorm1d()", "ReLU()", "MaxPool1d(2)",
        "Conv1d(128, kernel_size=5, padding=2)", "BatchNorm1d()", "ReLU()", "MaxPool1d(2)",
        "AdaptiveAvgPool1d(1)", "Flatten()", "Dropout(0.2)", "Linear()",
    ],
    "steps": ["GRU(64)", "LastStep()", "Linear()"],
}  # fmt: skip
SETS = {
    "GunPoint": "accuracy",
    "ItalyPowerDemand": "accuracy",
    "indoor": "accuracy",
    "elsewhere": "accuracy",
    "temperatures": "rmse",
    "airline": "rmse",
}


def settings(data: Path, name: str) -> dict[str, Any]:
    """Return the rows of a set: the official split, the rooms of two sites or the third one, or the end of a series."""
    if name == "temperatures":
        file = str(data / "timeseries" / "daily-min-temperatures.csv")
        return {"source": file, "target": "Temp", "window": 24, "split": {"test": 365, "valid": 365}}
    if name == "airline":
        file = str(data / "timeseries" / "airline-passengers.csv")
        return {"source": file, "target": "Passengers", "window": 12, "split": {"test": 48, "valid": 24}}
    if name in ("indoor", "elsewhere"):
        return _movement(data / "indoor_movement" / "IndoorMovement.zip", name == "elsewhere")
    return {part: str(data / "ucr" / f"{name}_{part.upper()}.ts") for part in ("train", "test")}


def _movement(archive: Path, elsewhere: bool) -> dict[str, Any]:
    """Return the steps of people; train and test on the first two sites, or test on the third."""
    with zipfile.ZipFile(archive) as files, files.open("groups/MovementAAL_DatasetGroup.csv") as file:
        lines = list(csv.reader(io.TextIOWrapper(file)))[1:]
    third = [row for row, line in enumerate(lines) if int(line[1]) == 3]
    others = [row for row in range(len(lines)) if row not in set(third)]
    split: dict[str, Any] = {"train": others, "test": third, "valid": 0}
    if not elsewhere:
        split = {"train": [row for row in others if row not in others[::5]], "test": others[::5], "valid": 0}
    return {
        "source": str(archive / "dataset" / "MovementAAL_target.csv"),
        "sequences": "MovementAAL_RSS_{#sequence_ID}.csv",
        "target": "class_label",
        "ignore": ["#sequence_ID"],
        "split": split,
    }


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", choices=sorted(SETS), required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    parser.add_argument("--before", action="store_true", help="The default before.")
    parser.add_argument("--threads", type=int, help="CPU threads; default by the program's rule.")
    given = parser.parse_args()
    figure, found, seconds = SETS[given.set], [], []
    kind = "series" if given.set in ("GunPoint", "ItalyPowerDemand") else "steps"
    for seed in range(given.first, given.first + given.seeds):
        begun = time.perf_counter()
        config = {
            "data": settings(given.data, given.set),
            "training": {"seed": seed, **({"threads": given.threads} if given.threads else {})},
            "evaluation": {"baselines": [], "importance": False, "slices": [], "worst": 0},
            **({"model": {"layers": BEFORE[kind]}} if given.before else {}),
        }
        with tempfile.TemporaryDirectory() as folder:
            run = nw.train(config, run_dir=Path(folder) / "run")
            found.append(float(run.tested["metrics"][figure]["value"]))
        seconds.append(time.perf_counter() - begun)
        print(f"{given.set} {seed}: {figure} {found[-1]:.4f}, {seconds[-1]:.1f} s", flush=True)
    spread = f" +- {statistics.stdev(found):.4f}" if len(found) > 1 else ""
    print(
        f"{given.set}: {figure} {statistics.mean(found):.4f}{spread} ({len(found)} runs, {statistics.mean(seconds):.1f} s each)"
    )


if __name__ == "__main__":
    main()
