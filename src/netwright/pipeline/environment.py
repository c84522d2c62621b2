"""What this machine offers: Python, torch, devices, cores, a compiler, the extras. Floor 12."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import torch

from netwright.beside import cores
from netwright.numerals import counted
from netwright.pipeline.telling import version
from netwright.recording import building

TESTED = (2, 13)  # the torch that the tests run with
OLDEST = (2, 11)
EXTRAS = {  # extra: what it is for, and a module that comes with it
    "images": ("image files", "PIL"),
    "torchvision": ("augmentation of images, networks by name", "torchvision"),
    "timm": ("more networks by name", "timm"),
    "excel": ("Excel files", "openpyxl"),
    "hdf5": ("HDF5 files", "h5py"),
    "serve": ("predictions over HTTP", "fastapi"),
    "tune": ("search for settings", "optuna"),
    "ray": ("training by Ray", "ray"),
}


@dataclass(frozen=True)
class Line:
    """One thing looked at; ``state`` is ok, note or problem, and ``advice`` says what to do where it is not ok."""

    what: str
    found: str
    state: str = "ok"
    advice: str = ""


@dataclass(frozen=True)
class Environment:
    """What was found; printed, a line each."""

    lines: tuple[Line, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is a problem."""
        return all(line.state != "problem" for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"sound": self.sound, "lines": [asdict(line) for line in self.lines]}

    def __str__(self) -> str:
        width = max(len(line.what) for line in self.lines)
        return "\n".join(
            f"{line.state:<7}  {line.what:<{width}}  {line.found}{f'; {line.advice}' if line.advice else ''}"
            for line in self.lines
        )


def look_around() -> Environment:
    """Return what this machine offers; nothing is changed."""
    lines = [
        Line("netwright", version()),
        Line("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _torch(),
        *_devices(),
        Line("cores", f"{cores()} of {os.cpu_count()}, {counted(torch.get_num_threads(), 'thread')}, {_instructions()}"),
        _compiler(),
        *(_extra(name, purpose, module) for name, (purpose, module) in EXTRAS.items()),
    ]
    return Environment(tuple(lines))


def _torch() -> Line:
    found = str(torch.__version__)
    number = tuple(int(part) for part in found.split("+")[0].split(".")[:2])
    if number < OLDEST:
        return Line("torch", found, "problem", f"expected {'.'.join(map(str, OLDEST))} or newer; pip install -U torch")
    if number > TESTED:
        return Line("torch", found, "note", f"newer than {'.'.join(map(str, TESTED))}, which the tests run with")
    return Line("torch", found)


def _devices() -> list[Line]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = []
    for number in range(count):
        told = torch.cuda.get_device_properties(number)
        found.append(Line(f"cuda:{number}", f"{told.name}, {told.total_memory / 2**30:.0f} GiB"))
    if not found and torch.version.cuda:
        found.append(Line("CUDA", "none found", "note", f"torch is built for CUDA {torch.version.cuda}; check the driver"))
    if torch.backends.mps.is_available():
        found.append(Line("mps", "there", "note", "used only by name: training.device=mps"))
    return found or [Line("GPU", "none; networks are trained on the CPU")]


def _instructions() -> str:
    return str(torch.backends.cpu.get_cpu_capability())


def _compiler() -> Line:
    """Return whether steps can be replayed natively."""
    compiler = next((found for name in building.COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        advice = "steps are replayed from Python, up to 3 times slower for small networks; install g++ or clang++"
        return Line("C++ compiler", f"none of {', '.join(building.COMPILERS)}", "note", advice)
    try:
        building.library()
    except building.NotBuiltError as reason:
        return Line("C++ compiler", compiler, "ok" if reason.soon else "note", str(reason))
    return Line("C++ compiler", f"{compiler}; the replay is compiled")


def _extra(name: str, purpose: str, module: str) -> Line:
    if importlib.util.find_spec(module) is None:
        return Line(purpose, "not installed", "note", f"pip install 'netwright[{name}]'")
    package = next(iter(metadata.packages_distributions().get(module, [module])))
    return Line(purpose, f"{package} {metadata.version(package)}")
