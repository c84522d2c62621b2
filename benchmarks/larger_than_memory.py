"""Memory and speed of training on tables of growing size: anonymous memory, rows per second, seconds to prepare.

    python benchmarks/larger_than_memory.py --rows 500000 --columns 20 --times 1 4 16 --folder /tmp/large

makes a Parquet file per size, trains on it in a process of its own with the rows in memory and in a map, and prints a
Markdown table; ``--plot FILE.png`` draws it. The files are removed again.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUP = 100_000  # rows of a row group
BATCH = 1024


def generate(path: Path, rows: int, columns: int, dtype: str) -> None:
    """Write a Parquet file of random numbers and a target that follows from them."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=columns)
    names = [f"x{place}" for place in range(columns)] + ["y"]
    writer = None
    for start in range(0, rows, GROUP):
        values = generator.standard_normal((min(GROUP, rows - start), columns), dtype=np.float32)
        target = values @ weights + np.sin(3 * values[:, 0])
        table = pa.table([*(pa.array(column.astype(dtype)) for column in values.T), pa.array(target.astype(dtype))], names)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=False)
        writer.write_table(table)
    if writer:
        writer.close()


def status(name: str) -> float:
    """Return a figure of /proc/self/status in GB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e9 if found else float("nan")


def work(path: Path, storage: str, folder: Path, epochs: int, settings: list[str]) -> None:
    """Train in this process and print what it took as JSON."""
    import netwright as nw

    base = status("RssAnon")
    peaks = {"preparing": 0.0, "training": 0.0}
    phase = ["preparing"]
    marks = {"start": time.perf_counter()}

    def watch() -> None:
        while phase[0]:
            now = phase[0]
            peaks[now] = max(peaks[now], status("RssAnon"))
            time.sleep(0.02)

    def observe(_: object) -> None:
        if phase[0] == "preparing":
            phase[0] = "training"
            marks["training"] = time.perf_counter()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    run = nw.train(
        str(path),
        target="y",
        layers=["Linear(64)", "ReLU()", "Linear()"],
        epochs=epochs,
        batch_size=BATCH,
        run_dir=folder / f"run-{time.time_ns()}",
        settings=[f"data.storage={storage}", f"data.cache={folder / 'cache'}", *settings],
        observers=[observe],
        test=False,
    )
    mapped = status("RssFile")
    phase[0] = ""
    watcher.join()
    rows = run.record["split"]["train"]
    seconds = [entry["train_seconds"] for entry in run.history]
    print(
        json.dumps(
            {
                "base": base,
                **peaks,
                "mapped": mapped,
                "prepared": marks["training"] - marks["start"],
                "rate": rows / min(seconds),
                "first_rate": rows / seconds[0],
                "valid": run.history[-1]["valid_rmse"],
                "notes": run.record["notes"],
            }
        )
    )


def measure(path: Path, storage: str, folder: Path, epochs: int, settings: list[str]) -> dict[str, float]:
    """Train in a process of its own."""
    command = [sys.executable, __file__, "--work", str(path), storage, str(folder), str(epochs), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure the sizes asked for."""
    if sys.argv[1:2] == ["--work"]:
        path, storage, folder, epochs, *settings = sys.argv[2:]
        work(Path(path), storage, Path(folder), int(epochs), settings)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="Rows of size 1x.")
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--storage", nargs="+", default=["memory", "map"])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True, help="With room for the largest file and its map.")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="PATH=VALUE")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True)
    heads = ["size", "rows", "values", "file", "rows in", "RssAnon preparing", "RssAnon training", "RssFile"]
    heads += ["prepared in", "again in", "rows/s"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    found = []
    try:
        for times in asked.times:
            path = asked.folder / f"{times}x.parquet"
            rows = asked.rows * times
            generate(path, rows, asked.columns, asked.dtype)
            size = path.stat().st_size / 1e9
            for storage in asked.storage:
                one = measure(path, storage, asked.folder, asked.epochs, asked.settings)
                again = measure(path, storage, asked.folder, 1, asked.settings) if storage == "map" else one
                found.append((times, storage, one))
                print(
                    f"| {times}x | {rows:,} | {rows * (asked.columns + 1):,} | {size:.2f} GB | {storage} "
                    f"| {one['preparing']:.2f} GB | {one['training']:.2f} GB | {one['mapped']:.2f} GB "
                    f"| {one['prepared']:.1f} s | {again['prepared']:.1f} s | {one['rate']:,.0f} |",
                    flush=True,
                )
                print(json.dumps(one), file=sys.stderr)
            path.unlink()
            shutil.rmtree(asked.folder / "cache", ignore_errors=True)
        if asked.plot:
            draw(asked.plot, found)
    finally:
        shutil.rmtree(asked.folder)


def draw(path: Path, found: list[tuple[int, str, dict[str, float]]]) -> None:
    """Draw memory and rows per second against size."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for storage in dict.fromkeys(name for _, name, _ in found):
        times = [size for size, name, _ in found if name == storage]
        for axis, key in zip(axes, ("training", "rate"), strict=True):
            axis.plot(times, [one[key] for _, name, one in found if name == storage], marker="o", label=f"rows in {storage}")
    for axis, label in zip(axes, ("RssAnon while training (GB)", "train rows per second"), strict=True):
        axis.set(
            xscale="log", xticks=times, xticklabels=[f"{size}x" for size in times], xlabel="size of the table", title=label
        )
        axis.set_ylim(bottom=0)
    axes[0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
