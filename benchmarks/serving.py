"""A served run under load, beside a plain FastAPI handler that calls the model row by row, in one run.

500 clients ask at the same time, each again as soon as it has its answer; every answer is compared with what the run
predicts without a server. A wrong answer is another class, or a probability or value further than 1e-5 away; a lost one
never came. Both servers are uvicorn with h11 in one process; clients are a third process on the same cores.

    python benchmarks/serving.py                     # all workloads
    python benchmarks/serving.py digits --requests 4000 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

import netwright as nw

CLIENTS = 500
CLOSE = 1e-5
WORKLOADS = ("table", "digits", "wide")
TABLE_ROWS = 4000


@dataclass(frozen=True)
class Measured:
    """What one server did: answers a second, seconds of the middle and the 99th of 100, answers that were wrong or never came."""

    rate: float
    middle: float
    late: float
    wrong: int
    lost: int


class Rows(BaseModel):
    """The body of the plain handler for a table."""

    rows: list[dict[str, Any]]


class Inputs(BaseModel):
    """The body of the plain handler for arrays."""

    inputs: list[Any]


def census(path: Path) -> Path:
    """Write a table of 6 numbers and 8 categories, as censuses hold."""
    generator = np.random.default_rng(3)
    numbers = generator.normal(size=(TABLE_ROWS, 6)).round(3)
    groups = generator.integers(0, 9, (TABLE_ROWS, 8))
    answer = np.where(numbers[:, 0] + groups[:, 0] / 4 + generator.normal(size=TABLE_ROWS) > 1, "more", "less")
    names = [*(f"number_{place}" for place in range(6)), *(f"group_{place}" for place in range(8)), "income"]
    lines = [
        ",".join([*map(str, row), *(f"g{code}" for code in codes), label])
        for row, codes, label in zip(numbers, groups, answer, strict=True)
    ]
    path.write_text("\n".join([",".join(names), *lines]) + "\n")
    return path


def trained(workload: str, folder: Path) -> Path:
    """Train the network of a workload and return its run folder."""
    common: dict[str, Any] = {"run_dir": folder / workload, "epochs": 2, "settings": ["training.threads=1"]}
    if workload == "table":
        return nw.train(str(census(folder / "census.csv")), target="income", **common).folder
    if workload == "digits":
        return nw.train("sklearn:digits", **common).folder
    generator = np.random.default_rng(5)
    inputs = generator.normal(size=(2000, 64)).astype(np.float32)
    layers = ["Linear(1024)", "ReLU()", "Linear(1024)", "ReLU()", "Linear()"]
    return nw.train(data=(inputs, (inputs[:, 0] > 0).astype(int)), layers=layers, **common).folder


def questions(workload: str, run: nw.Run, rows: int, count: int = 64) -> list[tuple[bytes, Any]]:
    """Return bodies with the predictions that belong to them."""
    generator = np.random.default_rng(7)
    found = []
    for _ in range(count):
        if workload == "table":
            sample = [
                {
                    **{f"number_{place}": round(float(value), 3) for place, value in enumerate(generator.normal(size=6))},
                    **{f"group_{place}": f"g{code}" for place, code in enumerate(generator.integers(0, 9, 8))},
                }
                for _ in range(rows)
            ]
            import pyarrow as pa

            given, body = pa.Table.from_pylist(sample), {"rows": sample}
        else:
            shape = (rows, 8, 8) if workload == "digits" else (rows, 64)
            values = generator.integers(0, 17, shape).astype(np.float64)
            given, body = values, {"inputs": values.tolist()}
        found.append((json.dumps(body).encode(), run.predict_proba(given)))
    return found


def request(body: bytes, port: int) -> bytes:
    """Return a whole HTTP request."""
    lines = [
        "POST /predict HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def load(port: int, asked: Sequence[tuple[bytes, Any]], total: int) -> Measured:
    """Ask a server from all clients at the same time and judge every answer."""
    todo = iter(range(total))
    times: list[float] = []
    kept: list[tuple[int, bytes]] = []
    wires = [request(body, port) for body, _ in asked]

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in todo:
            started = time.perf_counter()
            writer.write(wires[number % len(wires)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            times.append(time.perf_counter() - started)
            kept.append((number % len(wires), answer if head.startswith(b"HTTP/1.1 200") else b""))
        writer.close()

    started = time.perf_counter()
    ended = await asyncio.gather(*(client() for _ in range(CLIENTS)), return_exceptions=True)
    seconds = time.perf_counter() - started
    for problem in filter(None, ended):
        print(f"  a client failed: {problem!r}")
    ordered = sorted(times)
    wrong = sum(not right(answer, asked[place][1]) for place, answer in kept)
    late = ordered[int(0.99 * len(ordered))]
    return Measured(len(kept) / seconds, statistics.median(times), late, wrong, total - len(kept))


def right(answer: bytes, expected: Any) -> bool:
    """Tell whether an answer is what the run predicts."""
    if not answer:
        return False
    given = np.asarray(json.loads(answer)["probabilities"])
    return given.shape == expected.shape and float(np.abs(given - expected).max()) <= CLOSE


def serve_plain(folder: str, workload: str) -> None:
    """Serve a run by a plain FastAPI handler: a pydantic body, the model called for one row after the other."""
    import pyarrow as pa
    import uvicorn
    from fastapi import FastAPI

    torch.set_num_threads(1)
    run = nw.load(folder)
    application = FastAPI()
    model, preparation = run.model, run.program.preparation

    async def of_rows(body: Rows) -> dict[str, Any]:
        shares = [run.predict_proba(pa.Table.from_pylist([row]))[0].tolist() for row in body.rows]
        return {"probabilities": shares}

    async def of_inputs(body: Inputs) -> dict[str, Any]:
        shares = []
        with torch.inference_mode():
            for row in body.inputs:
                _, prepared = preparation.single(np.asarray([row])) or ("", torch.empty(0))
                shares.append(torch.softmax(model(prepared), 1)[0].tolist())
        return {"probabilities": shares}

    async def of_logits(body: Inputs) -> dict[str, Any]:
        shares = []
        with torch.inference_mode():
            for row in body.inputs:
                _, prepared = preparation.single(np.asarray([row])) or ("", torch.empty(0))
                share = torch.sigmoid(model(prepared))[0, 0].item()
                shares.append([1 - share, share])
        return {"probabilities": shares}

    handler = {"table": of_rows, "digits": of_inputs, "wide": of_logits}[workload]
    application.post("/predict")(handler)
    configuration = uvicorn.Config(application, port=0, http="h11", loop="asyncio", log_level="warning", access_log=False)
    listening = configuration.bind_socket()
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    uvicorn.Server(configuration).run(sockets=[listening])


def started(command: Sequence[str]) -> tuple[subprocess.Popen[str], int]:
    """Start a server and return it with its port, as the last line that it prints tells."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = next((line for line in process.stdout or () if line.startswith("http")), None)
    if line is None:
        sys.exit(f"{command} ended")
    return process, int(line.rstrip().rstrip("/").rpartition(":")[2])


def measure(workload: str, rows: int, total: int, rounds: int, folder: Path) -> None:
    """Measure both servers in turn and print a line each, the middle of the rounds."""
    place = folder / workload if (folder / workload).is_dir() else trained(workload, folder)
    asked = questions(workload, nw.load(place), rows)
    commands = {
        "netwright serve": [sys.executable, "-m", "netwright", "serve", str(place)],
        "plain handler": [sys.executable, __file__, "--plain", str(place), workload],
    }
    servers = {name: started(command) for name, command in commands.items()}
    found: dict[str, list[Measured]] = {name: [] for name in servers}
    try:
        for _, port in servers.values():
            asyncio.run(load(port, asked, CLIENTS))  # warm
        for _ in range(rounds):
            for name, (_, port) in servers.items():
                count = total if name == "netwright serve" else max(CLIENTS, total // 3)
                found[name].append(asyncio.run(load(port, asked, count)))
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.wait()
    ratios = [one.rate / other.rate for one, other in zip(found["netwright serve"], found["plain handler"], strict=True)]
    for name, measured in found.items():
        middle = sorted(measured, key=lambda one: one.rate)[len(measured) // 2]
        faults = f"{sum(one.wrong for one in measured)} wrong, {sum(one.lost for one in measured)} lost"
        print(
            f"{workload:<7} {rows:>3} rows  {name:<16} {middle.rate:>8,.0f} requests/s {middle.rate * rows:>9,.0f} rows/s  "
            f"p50 {middle.middle * 1e3:>6.0f} ms  p99 {middle.late * 1e3:>6.0f} ms  {faults}",
            flush=True,
        )
    print(
        f"{workload:<7} {rows:>3} rows  ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
        flush=True,
    )


def main() -> None:
    """Measure what the command line names."""
    if sys.argv[1:2] == ["--plain"]:
        serve_plain(*sys.argv[2:4])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}; default all")
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 16], help="rows of a request")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for workload in arguments.workloads or WORKLOADS:
            for rows in arguments.rows:
                measure(workload, rows, max(CLIENTS, arguments.requests // rows), arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
