"""The default for series beside published figures: UCR GunPoint and ItalyPowerDemand, indoor movement, two series with windows.

    python benchmarks/series.py DATA --set GunPoint --seeds 5
    python benchmarks/series.py DATA --set GunPoint --seeds 15 --ensemble 5
    python benchmarks/series.py DATA --set GunPoint --seeds 40 --ensemble 5 --divide 0.7

DATA holds ``ucr/NAME_TRAIN.ts`` and ``NAME_TEST.ts`` (the official split of the UCR archive), from UCI
``indoor_movement/IndoorMovement.zip``, and ``timeseries/daily-min-temperatures.csv`` and ``airline-passengers.csv``. Nothing is
said of the network but in ``--before``. Prints one line per run, and at the end mean, deviation and seconds. With ``--ensemble 5``
it is `netwright train --seeds 5` and `netwright test` of that folder, for as many folders as the seeds fill. With ``--divide 0.7``
the test file is not read: 0.7 of the train file judges what the other rows train, divided anew for each line.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
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
UCR = ("GunPoint", "ItalyPowerDemand")
SETS = {
    "GunPoint": "accuracy",
    "ItalyPowerDemand": "accuracy",
    "indoor": "accuracy",
    "elsewhere": "accuracy",
    "temperatures": "rmse",
    "airline": "rmse",
}


def settings(data: Path, name: str, share: float | None = None, division: int = 0) -> dict[str, Any]:
    """Return the rows of a set: the official split, the rooms of two sites or the third one, or the end of a series.

    Args:
        data: The folder of all sets.
        name: Of the set.
        share: Of the train file, which tests; the test file is not read.
        division: The seed of that.
    """
    if share is not None:
        return {
            "source": str(data / "ucr" / f"{name}_TRAIN.ts"),
            "split": {"test": share, "valid": 0, "seed": division},
        }
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


def trained(config: dict[str, Any], folder: Path, members: int) -> list[Path]:
    """Train and test a run, or a folder of seeds that is tested as one.

    Args:
        config: The settings; its seed is the first.
        folder: A new one.
        members: 1 for a run.

    Returns:
        Where tests were written: of each run, and last of their mean where there are several.
    """
    if members == 1:
        return [nw.train(config, run_dir=folder).folder]
    found = nw.repeat(config, seeds=members, run_dir=folder)
    nw.load(folder).test()
    return [*found.runs, folder]


def figures(folder: Path, name: str) -> dict[str, float]:
    """Return a figure of a test, and of classes the mean negative logarithm of the probability that the true one got."""
    found = {name: float(json.loads((folder / "test.json").read_text())["metrics"][name]["value"])}
    if name == "accuracy":
        with (folder / "predictions.csv").open(newline="") as file:
            given = [float(row[f"probability_{row['target']}"]) for row in csv.DictReader(file)]
        found["log loss"] = -statistics.mean(math.log(max(value, 1e-300)) for value in given)
    return found


def summed_up(found: list[dict[str, float]], each: bool = False) -> str:
    """Return mean and deviation of each figure, or every value.

    Example:
        >>> summed_up([{"rmse": 0.9}, {"rmse": 1.0}])
        'rmse 0.9500 +- 0.0707'
    """
    told = []
    for name in found[0]:
        values = [one[name] for one in found]
        spread = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        mean = f"{statistics.mean(values):.4f}{spread}"
        told.append(f"{name} {' '.join(f'{value:.4f}' for value in values) if each else mean}")
    return ", ".join(told)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", choices=sorted(SETS), required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    parser.add_argument("--ensemble", type=int, default=1, metavar="N", help="So many seeds at a time predict as one.")
    parser.add_argument("--divide", type=float, metavar="SHARE", help="Of the train file of a UCR set, which judges.")
    parser.add_argument("--before", action="store_true", help="The default before.")
    parser.add_argument("--threads", type=int, help="CPU threads; default by the program's rule.")
    given = parser.parse_args()
    if given.ensemble < 1 or given.seeds < 1 or given.seeds % given.ensemble:
        parser.error(f"--seeds {given.seeds} --ensemble {given.ensemble}: expected ensembles that the seeds fill")
    if given.divide is not None and given.set not in UCR:
        parser.error(f"--divide: --set {given.set} came; expected one of {', '.join(UCR)}")
    kind = "series" if given.set in UCR else "steps"
    whole, alone, begun = [], [], time.perf_counter()
    for seed in range(given.first, given.first + given.seeds, given.ensemble):
        before = time.perf_counter()
        config = {
            "data": settings(given.data, given.set, given.divide, seed),
            "training": {"seed": seed, **({"threads": given.threads} if given.threads else {})},
            "evaluation": {"baselines": [], "importance": False, "slices": [], "worst": 0},
            **({"model": {"layers": BEFORE[kind]}} if given.before else {}),
        }
        with tempfile.TemporaryDirectory() as folder:
            places = trained(config, Path(folder) / "run", given.ensemble)
            *members, one = [figures(place, SETS[given.set]) for place in places]
        whole, alone = [*whole, one], [*alone, *members]
        beside = f"; members {summed_up(members, each=True)}" if members else ""
        print(f"{given.set} {seed}: {summed_up([one])}{beside}; {time.perf_counter() - before:.1f} s", flush=True)
    seconds = (time.perf_counter() - begun) / len(whole)
    if alone:
        print(f"{given.set}, {len(alone)} members alone: {summed_up(alone)}")
    print(f"{given.set}: {summed_up(whole)} ({len(whole)} {'ensembles' if alone else 'runs'}, {seconds:.1f} s each)")


if __name__ == "__main__":
    main()
