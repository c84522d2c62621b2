"""The default for tables beside the one before it: adult (5 seeds), power plant and yacht (20 splits of Hernandez-Lobato and Gal).

    python benchmarks/tables.py DATA --set power_plant --parts 20

DATA holds ``adult/adult-train.csv`` and ``adult-test.csv``, ``power_plant/power_plant.csv``, ``yacht/yacht.csv`` (a header line
LC,PC,LD,BDr,LBr,Fr,Rr) and a ``splits20.npz`` beside the last two. A fifth of the train rows validates. Nothing is said of the
network but in ``--before``. Prints one line per run, and at the end mean, deviation and seconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import netwright as nw

ADULT = (
    "age workclass fnlwgt education education-num marital-status occupation relationship race sex capital-gain capital-loss "
    "hours-per-week native-country income"
).split()
TARGETS = {"power_plant": "PE", "yacht": "Rr"}
PARTS = {"adult": 5, "power_plant": 20, "yacht": 20}


def settings(data: Path, name: str, part: int, before: bool) -> dict[str, Any]:
    """Return the settings of a run: the data, and the layers of the default before where that is asked for."""
    if name == "adult":
        rows: dict[str, Any] = {
            "train": str(data / "adult" / "adult-train.csv"),
            "test": str(data / "adult" / "adult-test.csv"),
            "columns": ADULT,
            "target": "income",
            "labels": {">50K.": ">50K", "<=50K.": "<=50K"},
            "split": {"valid": 0.2},
        }
    else:
        file = str(data / name / "splits20.npz")
        rows = {
            "source": str(data / name / f"{name}.csv"),
            "target": TARGETS[name],
            "split": {"file": file, "train": f"train_{part}", "test": f"test_{part}", "valid": 0.2},
        }
    hidden = ["Linear(128)", "ReLU()", "Dropout(0.1)"]
    layers = [*(["EmbedColumns()"] if name == "adult" else []), *hidden, *hidden, "Linear()"]
    return {
        "data": rows,
        "training": {"seed": part if name == "adult" else 0},
        "evaluation": {"baselines": [], "importance": False, "slices": [], "worst": 0},
        **({"model": {"layers": layers}} if before else {}),
    }


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", choices=sorted(PARTS), required=True)
    parser.add_argument("--parts", type=int, help="Seeds or splits; default all.")
    parser.add_argument("--before", action="store_true", help="The default before: an MLP of standardised numbers, Adam.")
    given = parser.parse_args()
    figure = "accuracy" if given.set == "adult" else "rmse"
    found, seconds = [], []
    for part in range(given.parts or PARTS[given.set]):
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run = nw.train(settings(given.data, given.set, part, given.before), run_dir=Path(folder) / "run")
            found.append(float(run.tested["metrics"][figure]["value"]))
            epoch = run.record["best"]["epoch"]
        seconds.append(time.perf_counter() - begun)
        print(f"{given.set} {part}: {figure} {found[-1]:.4f}, best epoch {epoch}, {seconds[-1]:.1f} s", flush=True)
    spread = f" +- {statistics.stdev(found):.4f}" if len(found) > 1 else ""
    print(
        f"{given.set}: {figure} {statistics.mean(found):.4f}{spread} ({len(found)} runs, {statistics.mean(seconds):.1f} s each)"
    )


if __name__ == "__main__":
    main()
