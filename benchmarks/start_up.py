"""Time to start: `import torch`, `netwright --help`, and `netwright train` up to and with its first training step.

    python benchmarks/start_up.py --rounds 7

runs each in processes of its own, in turn, and prints a Markdown table. Times are from the start of the process; those of
the first step end while the process still runs, the others when it has ended. One round before them warms the page cache, and
leaves bytecode as an installed package has it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DIGITS = Path(__file__).parent.parent / "examples" / "digits.toml"
ENTERED, DONE = "train: training begins", "train: first steps done"
# Told from inside: the loop is entered, and the journal is told of a step. Both are wrapped when their module is imported,
# so that nothing is imported earlier than in a usual run.
DRIVER = f"""
import importlib.abc, importlib.machinery, json, sys, time

seen = {{}}

class Stop(BaseException):
    pass

def enter(module):
    inner = module.train_epoch
    def train_epoch(*arguments, **keywords):
        seen.setdefault({ENTERED!r}, time.time())
        return inner(*arguments, **keywords)
    module.train_epoch = train_epoch

def step(module):
    def told(*arguments, **keywords):
        seen[{DONE!r}] = time.time()
        raise Stop
    module.Journal.steps = told

WRAPPED = {{"netwright.training.loop": enter, "netwright.training.journal": step}}

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in WRAPPED:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path)
        execute = found.loader.exec_module
        def exec_module(module):
            execute(module)
            WRAPPED[name](module)
        found.loader.exec_module = exec_module
        return found

sys.meta_path.insert(0, Finder())
from netwright.cli import main
try:
    main(sys.argv[1:])
except Stop:
    print(json.dumps(seen))
"""


def timed(arguments: list[str]) -> float:
    """Return the seconds that a Python process takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def imported() -> float:
    """Return the seconds until torch is imported, without the end of the process."""
    started = time.time()
    code = "import time, torch; print(time.time())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout) - started


def first_step(config: Path) -> dict[str, float]:
    """Return the seconds until training begins and until its first step is done."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", DRIVER, "train", str(config), "--run-dir", f"{folder}/run"]
        started = time.time()
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[3:])} did not come to its first step:\n{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    return {name: told[name] - started for name in (ENTERED, DONE)}


def measure(config: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every round, in turn; the round that warms up is left out."""
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        seconds = {
            "python -c pass": timed(["-c", "pass"]),
            "import torch": timed(["-c", "import torch"]),
            "import torch, without the end of the process": imported(),
            "netwright --help": timed(["-m", "netwright", "--help"]),
            **first_step(config),
        }
        for name, value in seconds.items() if number else ():
            found.setdefault(name, []).append(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--config", type=Path, default=DIGITS)
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    found = measure(options.config.absolute(), options.rounds)
    torch = statistics.median(found["import torch"])
    print("| what | median | least | most | of `import torch` |\n|---|---|---|---|---|")
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"| {name} | {middle:.2f} s | {min(values):.2f} s | {max(values):.2f} s | {middle / torch:.2f} |")


if __name__ == "__main__":
    main()
