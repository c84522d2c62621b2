"""Runs contenders side by side, each measurement in a process of its own, in alternating order; tables and a plot of it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import workloads
from workloads import WORKLOADS, Case

HERE = Path(__file__).parent
BAND = 1.5  # a train loss further from the median of all contenders than this factor is marked
NEAR = 1.15  # numbers of threads within this factor of the fastest in the first two rounds stay in
# Numbers of threads, hints to libraries which kernel to take, and whether bytecode is kept, as it is of what was installed:
# every contender starts without them.
CLEARED = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "KERAS_BACKEND",
    "PYTHONDONTWRITEBYTECODE",
)


@dataclass(frozen=True)
class Contender:
    """A library with its settings: ``module`` is its file, ``threads`` the numbers that are tried (None: its own choice)."""

    name: str
    label: str
    module: str
    threads: tuple[int | None, ...] = (None,)
    environment: dict[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    device: str = "cpu"


TRIED = (1, 2)
ON_GPU = ("tutorial", "eager", "lightning", "keras-jax", "jax")  # peers that are measured there
PEERS = (
    Contender("tutorial", "PyTorch, the tutorial's loop", "tutorial", TRIED),
    Contender("eager", "PyTorch, tuned by hand", "eager", TRIED),
    Contender("eager-raw", "PyTorch, by hand, raw rows", "eager_raw", TRIED),
    Contender("lightning", "Lightning", "lightning", TRIED),
    Contender("skorch", "skorch", "skorch", TRIED),
    Contender("fastai", "fastai", "fastai", TRIED),
    Contender("keras-torch", "Keras on torch", "keras", TRIED, {"KERAS_BACKEND": "torch"}),
    Contender("keras-jax", "Keras on JAX", "keras", (None,), {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}),
    Contender(
        "keras-jax-steps",
        "Keras on JAX, 16 steps per call",
        "keras",
        (None,),
        {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        ("steps_per_execution=16",),
    ),
    Contender("sklearn", "scikit-learn", "sklearn", TRIED),
    Contender("jax", "JAX, one call per epoch", "jax", (None,), {"JAX_PLATFORMS": "cpu"}),
)
NETWRIGHT = Contender("netwright", "netwright", "netwright")


def contenders(
    only: Sequence[str], engines: Sequence[str], threads: Sequence[int], settings: Sequence[str], device: str = "cpu"
) -> list[Contender]:
    """Return netwright with settings, once per engine asked for, and its peers with the numbers of threads to try."""
    label = " ".join([NETWRIGHT.label, *settings])
    plain = replace(NETWRIGHT, settings=(*settings, f"training.device={device}"), label=label, device=device)
    ours = [
        replace(
            plain,
            name=f"netwright-{engine}",
            label=f"{plain.label}, {engine} engine",
            settings=(*plain.settings, f"training.engine={engine}"),
        )
        for engine in engines
    ] or [plain]
    peers = [replace(one, threads=tuple(threads)) if one.threads == TRIED else one for one in PEERS]
    if device != "cpu":
        peers = [_on(device, one) for one in peers if one.name in ON_GPU]
    return [one for one in (*ours, *peers) if not only or one.name in only or one.module in only]


def _on(device: str, peer: Contender) -> Contender:
    """Return a peer that trains on a GPU, with the threads of its library's own choice."""
    environment = {name: device if name == "JAX_PLATFORMS" else value for name, value in peer.environment.items()}
    return replace(peer, threads=(None,), environment=environment, device=device)


@dataclass
class Found:
    """One measurement: who, in which case, with how many threads, and what came out."""

    contender: str
    case: str
    threads: int | None
    process: float
    peak: float
    result: dict[str, Any]

    @property
    def trouble(self) -> str | None:
        """Return why there is no figure, in the words of the table."""
        if self.result.get("absent"):
            return "-"
        if "missing" in self.result:
            return f"not installed ({self.result['missing']})"
        return f"failed: {self.result['failed']}" if "failed" in self.result else None


def run_child(command: list[str], environment: dict[str, str]) -> tuple[int, str, str, float, float]:
    """Run a command and return exit code, output, errors, seconds from start to end, and peak memory in MB."""
    kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
    path = os.pathsep.join(filter(None, (str(HERE), kept.get("PYTHONPATH"))))
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        child = subprocess.Popen(
            command, stdout=output, stderr=errors, env={**kept, "PYTHONPATH": path, **environment}, cwd=HERE
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        scale = 1e6 if platform.system() == "Darwin" else 1e3
        return child.returncode, output.read(), errors.read(), seconds, usage.ru_maxrss / scale


def job_command(task: dict[str, Any], run: Path) -> list[str]:
    """Return netwright's command line for the whole job."""
    settings = {
        "model.layers": '["Linear(64)", "ReLU()", "Linear(32)", "ReLU()", "Linear()"]',
        "training.epochs": task["epochs"],
        "data.batch_size": task["batch"],
        "training.optimizer": f"Adam(lr={task['rate']})",
        "data.split.valid": 0,
    }
    texts = [*(f"{name}={value}" for name, value in settings.items()), *task["settings"]]
    named = ["train", task["path"], "--target", task["target"], "--run-dir", str(run)]
    return [str(Path(sys.executable).with_name("netwright")), *named, *(part for text in texts for part in ("--set", text))]


def measure(contender: Contender, name: str, case: Case, threads: int | None, path: Path) -> Found:
    """Measure a contender once."""
    task = {
        "workload": name,
        "kind": WORKLOADS[name].kind,
        **case.task(),
        "rate": workloads.RATE,
        "seed": 0,
        "settings": list(contender.settings),
        "device": contender.device,
        "path": str(path),
        "target": workloads.TARGET,
    }
    environment = dict(contender.environment)
    if threads is not None:
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    with tempfile.TemporaryDirectory() as folder:
        ours = name == "job" and contender.module == "netwright"
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "contenders.child", contender.module, json.dumps(task)]
        code, output, errors, seconds, peak = run_child(job_command(task, run) if ours else command, environment)
        if code:
            lines = (errors or output).strip().splitlines() or [f"exit code {code}"]
            result: dict[str, Any] = {"failed": lines[-1][:100]}
            print(errors[-2000:], file=sys.stderr)
        elif ours:
            result = {"figure": json.loads((run / "test.json").read_text())["metrics"]["accuracy"]["value"]}
        else:
            result = json.loads(output.strip().splitlines()[-1])
    return Found(contender.name, case.label, threads, seconds, peak, result)


def cost(found: Found) -> float:
    """Return what is compared to choose the number of threads: less is better."""
    if "seconds" in found.result:
        return median(found.result["seconds"][1:] or found.result["seconds"])
    return 1 / found.result["many"] if "many" in found.result else found.process


def collect(name: str, takers: Sequence[Contender], rounds: int, quick: bool) -> list[Found]:
    """Measure every contender in every case, round by round, each second round backwards.

    The first two rounds try every number of threads; a contender goes on with the fastest by its better round, and those
    near it. Whole processes get a round before that does not count, so that files are in memory and compiled.
    """
    workload = WORKLOADS[name]
    cases = workload.quick if quick else workload.cases
    found: list[Found] = []
    out: set[str] = set()
    kept = {(one.name, case.label): list(one.threads) for one in takers for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adult.csv"
        if name == "job":
            workloads.write_job(path, cases[0].rows)
        for number in range(-1 if workload.kind == "whole" else 0, rounds):
            for case in cases:
                measured = []
                for one in takers if number % 2 == 0 else takers[::-1]:
                    for threads in kept[one.name, case.label]:
                        if one.name in out:
                            continue
                        now = measure(one, name, case, threads, path)
                        print(
                            f"round {number + 1}/{rounds} {case.label:12} {one.name:14} threads {threads or 'own':>3} "
                            f"{now.trouble or f'{cost(now):.6g}'} ({now.process:.1f} s)",
                            file=sys.stderr,
                            flush=True,
                        )
                        if now.trouble:
                            out.add(one.name)
                        if now.trouble or number >= 0:
                            measured.append(now)
                found += measured
            if number == 1:
                _keep_fastest(kept, found)
    return found


def _keep_fastest(kept: dict[tuple[str, str], list[int | None]], measured: Sequence[Found]) -> None:
    good = [one for one in measured if not one.trouble]
    for key in {(one.contender, one.case) for one in good}:
        costs: dict[int | None, float] = {}
        for one in good:
            if (one.contender, one.case) == key:
                costs[one.threads] = min(cost(one), costs.get(one.threads, float("inf")))
        kept[key] = [threads for threads, value in costs.items() if value <= NEAR * min(costs.values())]


@dataclass(frozen=True)
class Figures:
    """The measurements of a contender in a case, with its best number of threads."""

    threads: int | None
    all: list[Found]

    def values(self, key: str) -> list[float]:
        """Return a figure of each round."""
        if key == "process":
            return [one.process for one in self.all]
        if key == "peak":
            return [one.peak for one in self.all]
        if key == "first":
            return [one.result["seconds"][0] for one in self.all]
        if key == "epoch":
            return [median(one.result["seconds"][1:]) for one in self.all]
        if key == "around":
            return [one.process - sum(one.result["seconds"]) for one in self.all]
        if key == "grown":
            return [one.peak - one.result["held"] for one in self.all]
        return [one.result[key] for one in self.all]


def figures(found: Iterable[Found], contender: str, case: str) -> Figures | None:
    """Return the measurements with the number of threads whose median is best; None without any."""
    good = [one for one in found if one.contender == contender and one.case == case and not one.trouble]
    if not good:
        return None
    by_threads = {one.threads: [other for other in good if other.threads == one.threads] for one in good}
    most = max(len(many) for many in by_threads.values())  # those that were tried in every round
    fair = {threads: many for threads, many in by_threads.items() if len(many) == most}
    best = min(fair, key=lambda threads: median(cost(one) for one in fair[threads]))
    return Figures(best, fair[best])


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 1) -> str:
    """Return median and range."""
    shown = [f"{value * scale:,.{digits}f}" for value in (median(values), min(values), max(values))]
    return shown[0] if len(values) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def rows_of(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def trouble_of(found: Sequence[Found], contender: Contender) -> str:
    """Return why a contender has no figures."""
    return next((one.trouble for one in found if one.contender == contender.name and one.trouble), "-")


def table(name: str, found: Sequence[Found], takers: Sequence[Contender], quick: bool) -> str:
    """Return the table of a workload."""
    workload = WORKLOADS[name]
    cases = workload.quick if quick else workload.cases
    make = {"train": _train_table, "predict": _predict_table, "whole": _whole_table, "growth": _growth_table}
    return f"### {workload.title}\n\n{make[workload.kind](name, found, takers, cases)}\n"


def _threads(many: Sequence[Figures]) -> str:
    return ", ".join(dict.fromkeys("own" if one.threads is None else str(one.threads) for one in many))


def _train_table(_: str, found: Sequence[Found], takers: Sequence[Contender], cases: Sequence[Case]) -> str:
    middle = {}
    for case in cases:
        per = [figures(found, one.name, case.label) for one in takers]
        middle[case.label] = median([median(one.values("loss")) for one in per if one] or [1.0])
    body = []
    for one in takers:
        per_case = {case.label: figures(found, one.name, case.label) for case in cases}
        known = [many for many in per_case.values() if many]
        if not known:
            body.append([one.label, *[trouble_of(found, one)] * len(cases), "", "", "", ""])
            continue
        cells, losses = [], []
        for case in cases:
            many = per_case[case.label]
            if many is None:
                cells.append(trouble_of(found, one))
                continue
            cells.append(spread([case.rows / 1e3 / value for value in many.values("epoch")]))
            loss = median(many.values("loss"))
            apart = not 1 / BAND < loss / middle[case.label] < BAND
            losses.append(f"{loss:.3f}{' (apart)' if apart else ''}")
        first = ", ".join(f"{median(many.values('first')):.2f}" for many in known)
        peak = max(median(many.values("peak")) for many in known)
        body.append([one.label, *cells, first, ", ".join(losses), f"{peak:,.0f}", _threads(known)])
    heads = ["", *(case.label for case in cases), "start: first epoch (s)", "train loss", "peak memory (MB)", "threads"]
    return rows_of(heads, body)


def _predict_table(_: str, found: Sequence[Found], takers: Sequence[Contender], cases: Sequence[Case]) -> str:
    body = []
    for one in takers:
        many = figures(found, one.name, cases[0].label)
        if many is None:
            body.append([one.label, trouble_of(found, one), "", "", ""])
            continue
        # the best number of threads may differ between many rows and one: each figure gets its own
        good = [each for each in found if each.contender == one.name and not each.trouble]
        fewest = min(
            {each.threads for each in good}, key=lambda at: median(x.result["one"] for x in good if x.threads == at)
        )
        single = Figures(fewest, [each for each in good if each.threads == fewest])
        body.append(
            [
                one.label,
                spread(many.values("many"), 1e-3),
                spread(single.values("one"), 1e6, 0),
                f"{median(many.values('accuracy')):.3f}",
                _threads([many, single]),
            ]
        )
    return rows_of(["", "batch 1,024: thousand rows/s", "batch 1: microseconds", "accuracy", "threads"], body)


def _whole_table(name: str, found: Sequence[Found], takers: Sequence[Contender], cases: Sequence[Case]) -> str:
    figure = "test accuracy" if name == "job" else "test loss"
    body = []
    for one in takers:
        many = figures(found, one.name, cases[0].label)
        if many is None:
            body.append([one.label, trouble_of(found, one), "", "", ""])
            continue
        shown = [spread(many.values("process"), digits=2), f"{median(many.values('figure')):.3f}"]
        body.append([one.label, *shown, f"{median(many.values('peak')):,.0f}", _threads([many])])
    return rows_of(["", "whole process (s)", figure, "peak memory (MB)", "threads"], body)


def _growth_table(_: str, found: Sequence[Found], takers: Sequence[Contender], cases: Sequence[Case]) -> str:
    body = []
    for case in cases:
        for one in takers:
            many = figures(found, one.name, case.label)
            if many is None:
                continue
            epoch = many.values("epoch")
            cells = [
                spread(epoch, digits=3),
                f"{median(epoch) / case.rows * 1e6:.2f}",
                spread(many.values("around"), digits=2),
            ]
            memory = [f"{median(many.values('grown')):,.0f}", f"{median(many.values('peak')):,.0f}"]
            body.append([case.label, one.label, *cells, *memory, f"{median(many.values('loss')):.3f}"])
    heads = ["rows x width x depth", "", "epoch (s)", "microseconds/row", "rest of the process (s)"]
    return rows_of([*heads, "memory above the data (MB)", "peak memory (MB)", "train loss"], body)


def versions() -> str:
    """Return Python's and the libraries' versions, and the cores, in a line."""
    known = []
    for name in ("torch", "netwright", "lightning", "skorch", "fastai", "keras", "jax", "optax", "scikit-learn", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            known.append(f"{name} {metadata.version(name)}")
    return ", ".join([f"Python {platform.python_version()}", *known, f"{os.cpu_count()} cores"])


def keep(folder: Path, name: str, found: Sequence[Found], takers: Sequence[Contender], quick: bool) -> None:
    """Write every measurement as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "versions": versions(),
        "quick": quick,
        "takers": [asdict(one) for one in takers],
        "found": [asdict(one) for one in found],
    }
    (folder / f"{name}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def kept(folder: Path, name: str) -> tuple[list[Found], list[Contender], bool] | None:
    """Read what `keep` wrote."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    takers = [Contender(**{**one, "threads": tuple(one["threads"])}) for one in content["takers"]]
    return [Found(**one) for one in content["found"]], takers, content["quick"]


def draw(folder: Path, path: Path) -> None:
    """Draw what every workload's last measurement found: bars per contender, and growth as lines."""
    import matplotlib.pyplot as plt

    known = [(name, found) for name in WORKLOADS if (found := kept(folder, name))]
    panels = [
        (name, case, content)
        for name, content in known
        if name != "growth"
        for case in (WORKLOADS[name].quick if content[2] else WORKLOADS[name].cases)
    ]
    grown = next((content for name, content in known if name == "growth"), None)
    count = len(panels) + (3 if grown else 0)
    if not count:
        return
    wide = min(3, count)
    deep = -(-count // wide)
    drawn, grid = plt.subplots(deep, wide, figsize=(4.6 * wide, 2.7 * deep), layout="constrained", squeeze=False)
    axes = list(grid.ravel())
    for axis, (name, case, content) in zip(axes, panels, strict=False):
        _bars(axis, name, case, *content[:2])
    if grown:
        _lines(axes[len(panels) : count], *grown)
    for axis in axes[count:]:
        axis.remove()
    drawn.savefig(path, dpi=110)
    plt.close(drawn)


def _bars(axis: Any, name: str, case: Case, found: Sequence[Found], takers: Sequence[Contender]) -> None:
    kind = WORKLOADS[name].kind
    key, scale = {"train": ("epoch", 1.0), "predict": ("many", 1e-3), "whole": ("process", 1.0)}[kind]
    shown = []
    for one in takers:
        many = figures(found, one.name, case.label)
        if many is not None:
            values = [case.rows / 1e3 / value if kind == "train" else value * scale for value in many.values(key)]
            shown.append((one, median(values), min(values), max(values)))
    for place, (one, middle, least, most) in enumerate(reversed(shown)):
        colour = "#c44e52" if one.module == "netwright" else "#8c9db5"
        axis.barh(place, middle, xerr=[[middle - least], [most - middle]], color=colour, error_kw={"lw": 1})
    axis.set_yticks(range(len(shown)), [one.label for one, *_ in reversed(shown)], fontsize=7)
    axis.set_title(f"{name}, {case.label}" if name != case.label else name, fontsize=9)
    unit = "s, less is better" if kind == "whole" else "thousand rows/s"
    axis.set_xlabel(unit, fontsize=7)
    axis.tick_params(axis="x", labelsize=7)


def _lines(axes: Sequence[Any], found: Sequence[Found], takers: Sequence[Contender], quick: bool) -> None:
    cases = WORKLOADS["growth"].quick if quick else WORKLOADS["growth"].cases
    first, middle = cases[0], next(case for case in cases if case.extra["depth"] == 2)
    deep = next(case for case in cases if case.extra["depth"] > 2)
    along = {
        "rows": [case for case in cases if case.extra == first.extra],
        "width": [case for case in cases if case.extra["depth"] == middle.extra["depth"] and case.rows == middle.rows],
        "depth": [case for case in cases if case.extra["width"] == first.extra["width"] and case.rows == deep.rows],
    }
    for axis, (what, chosen) in zip(axes, along.items(), strict=True):
        for one in takers:
            points = [(case, many) for case in chosen if (many := figures(found, one.name, case.label))]
            at = [case.rows if what == "rows" else case.extra[what] for case, _ in points]
            axis.plot(
                at, [median(many.values("epoch")) / case.rows * 1e6 for case, many in points], "o-", label=one.label, ms=3
            )
        axis.set(xscale="log", yscale="linear" if what == "rows" else "log")
        axis.set_xlabel(what, fontsize=7)
        axis.set_title(f"growth with {what}: microseconds per row", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=7)
        if what == "rows":
            axis.set_ylim(bottom=0)
