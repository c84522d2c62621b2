"""netwright beside its peers: one command per table.

    python benchmarks/run.py mlp --rounds 5

Workloads: mlp, tutorial, cnn, cnn_norm, lstm, lstm2, gru, conv1d, table, prediction, job, growth, or all. Every measurement is a
process of its own; the contenders alternate; tables hold medians, and the least and the most of the rounds. The peers come with
``pip install -e '.[bench]'``; those that are not installed are told. What was measured is kept in benchmarks/measured, and
benchmarks/results.png is drawn from all of it; ``--show`` prints and draws again without measuring.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import harness
from workloads import WORKLOADS


def names(text: str) -> list[str]:
    """Read names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def main() -> None:
    """Measure the workloads asked for, print a table each, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", nargs="+", choices=[*WORKLOADS, "all"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", type=names, default=[], help="Contenders, such as netwright,eager,jax.")
    parser.add_argument("--engine", type=names, default=[], help="netwright's engines, a line each: auto,eager,captured.")
    parser.add_argument("--threads", type=int, nargs="+", default=harness.TRIED, help="Numbers that peers may choose from.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: training on a GPU, peers that can.")
    parser.add_argument("--quick", action="store_true", help="Few rows and epochs: does everything run?")
    parser.add_argument(
        "--folder", type=Path, help="Default: benchmarks/measured (measured/cuda); with --quick a temporary one."
    )
    parser.add_argument("--plot", type=Path, help="Default: benchmarks/results.png, or in the folder that was named.")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", help="A setting of netwright, training.threads=1."
    )
    parser.add_argument("--show", action="store_true", help="Print and draw what the folder holds; measure nothing.")
    asked = parser.parse_args()
    measured = harness.HERE / "measured" / ("" if asked.device == "cpu" else asked.device)
    folder = asked.folder or (Path(tempfile.gettempdir()) / "netwright-quick" if asked.quick else measured)
    known = {one.name for one in harness.PEERS} | {one.module for one in harness.PEERS} | {"netwright"}
    if unknown := set(asked.only) - known:
        parser.error(f"--only: {', '.join(sorted(unknown))} came; expected some of {', '.join(sorted(known))}")
    for name in list(WORKLOADS) if "all" in asked.workload else asked.workload:
        if not asked.show:
            takers = harness.contenders(asked.only, asked.engine, asked.threads, asked.settings, asked.device)
            if name == "growth" and not asked.only:  # every row count by every peer would take hours
                takers = [one for one in takers if one.module in ("netwright", "eager")]
            if name != "prediction":  # training rows are prepared for all
                takers = [one for one in takers if one.module != "eager_raw"]
            found = harness.collect(name, takers, asked.rounds, asked.quick)
            harness.keep(folder, name, found, takers, asked.quick)
        content = harness.kept(folder, name)
        if content:
            print(harness.table(name, *content), flush=True)
    print(harness.versions())
    plot = "results.png" if asked.device == "cpu" else f"results-{asked.device}.png"
    harness.draw(folder, asked.plot or (harness.HERE if folder == measured else folder) / plot)


if __name__ == "__main__":
    main()
