"""The C++ sources compiled once a machine: in the background at the first use, into the user's cache, where a compiler is found.

The cache is ``~/.cache/netwright``; a library there is named by the digest of its source, torch and compiler, and is loaded
only where nobody else can have written it. Floor 6.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import platform
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

from netwright import files
from netwright.errors import FolderInUseError

COMPILERS = ("c++", "g++", "clang++")
LIBRARY = "library.so"
LINK = "--link"  # between the words that compile and those that link
BUILT, LOG = "built", "compiler.txt"
LONGEST = 600.0  # seconds that compiling may take
POLL = 0.2  # seconds
INSTRUCTIONS = {  # of a processor, by the name that torch gives them
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
}


@final
@dataclass(frozen=True)
class Source:
    """What is compiled: a file beside this one, and ``headers`` that it reads. ``calls_torch``: it reads torch's headers too and
    is linked with it; else it is compiled for the processor it is on."""

    name: str
    headers: tuple[str, ...]
    calls_torch: bool

    @property
    def path(self) -> Path:
        """The file."""
        return Path(__file__).with_name(self.name)


REPLAY = Source("native.cpp", ("crew.hpp",), calls_torch=True)
DENSE = Source(
    "dense.cpp",
    ("crew.hpp", "panels.hpp", "network.hpp", "weights.hpp", "norms.hpp", "convolutions.hpp", "recurrent.hpp"),
    calls_torch=False,
)


class NotBuiltError(Exception):
    """Why there is no library, in one line; ``soon`` where it is being made."""

    def __init__(self, why: str, soon: bool = False) -> None:
        super().__init__(why)
        self.soon = soon


def library(root: Path | None = None, wait: bool = False, source: Source = REPLAY) -> ctypes.CDLL:
    """Return the compiled library; where there is none yet, let it be compiled by a process of its own.

    Args:
        root: The cache; default ``~/.cache/netwright``.
        wait: Whether to wait for the compiler.
        source: What it is made of.

    Raises:
        NotBuiltError: There is no library, or not yet.
    """
    folder, command = _place(root, source)
    built = folder / BUILT / LIBRARY
    until, started = time.monotonic() + (LONGEST if wait else 0.0), False
    while not (folder / BUILT).exists():
        if all(child.poll() is not None for child in _CHILDREN):
            if started and any(child.returncode for child in _CHILDREN):
                raise NotBuiltError(f"it cannot be compiled into {folder}; expected a folder that this user can write")
            _start(folder, command)
            started = True
        if time.monotonic() >= until:
            break
        time.sleep(POLL)
    if not built.exists():
        log = folder / BUILT / LOG
        if log.exists():
            raise NotBuiltError(f"the compiler fails, see {log}; remove {folder} to try again")
        raise NotBuiltError("it is being compiled, once on this machine", soon=True)
    return _loaded(built)


@cache
def _place(root: Path | None, source: Source = REPLAY) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of the library and the command that compiles it, without its output."""
    import torch

    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise NotBuiltError(f"no C++ compiler is found ({', '.join(COMPILERS)})")
    if sys.platform == "win32":
        raise NotBuiltError("it is made for Linux and macOS")
    kind, linked = _with_torch(Path(torch.__file__).parent) if source.calls_torch else (_for_this_processor(), ())
    command = (
        *(str(Path(compiler).resolve()), "-O3", "-std=c++20", "-fPIC", "-pthread", *kind),
        *("-c", str(source.path), LINK, "-shared", "-pthread", *linked),
    )
    text = "".join(source.path.with_name(name).read_text() for name in (source.name, *source.headers))
    of_torch = (str(torch.__version__), str(torch.version.git_version)) if source.calls_torch else ()
    words = [
        source.name if word == str(source.path) else word for word in command
    ]  # environments share what torch is not in
    made_of = (text, *of_torch, platform.machine(), *words)
    digest = files.digest_bytes("\0".join(made_of).encode()).partition(":")[2][:16]
    try:
        cached = root or Path.home() / ".cache" / "netwright"
    except RuntimeError:
        raise NotBuiltError("there is no home folder to keep it in") from None
    return cached / f"native-{digest}", command


def _with_torch(home: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words that compile with torch's headers, and those that link with torch."""
    # Calls of OpenMP are resolved from torch's own runtime, which is not named here, so that there is only one.
    parallel = ("-fopenmp",) if sys.platform == "linux" else ()
    late = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
    return (*parallel, f"-I{home / 'include'}"), (
        *(f"-L{home / 'lib'}", f"-Wl,-rpath,{home / 'lib'}", "-lc10", "-ltorch_cpu", *late),
    )


def _for_this_processor() -> tuple[str, ...]:
    """Return the words that compile arithmetic for the vectors of this processor."""
    import torch

    known = INSTRUCTIONS.get(str(torch.backends.cpu.get_cpu_capability()), ())
    return ("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", *known)


def _start(folder: Path, command: tuple[str, ...]) -> None:
    """Compile in a process of its own, which goes on where this one ends."""
    # -P: what lies in the current folder is no part of Python's path, and never runs
    words = [sys.executable, "-P", "-m", "netwright.recording.building", str(folder), *command]
    with contextlib.suppress(OSError):
        none = subprocess.DEVNULL
        started = subprocess.Popen(words, stdin=none, stdout=none, stderr=none, start_new_session=True)
        _CHILDREN[:] = [*(child for child in _CHILDREN if child.poll() is None), started]


_CHILDREN: list[subprocess.Popen[bytes]] = []  # those that compile for this process and have not ended


@atexit.register
def _let_go() -> None:
    """Let those go on that have not ended, which is meant so; Popen would warn of them."""
    for child in _CHILDREN:
        if child.poll() is None:
            child.returncode = 0


def _loaded(path: Path) -> ctypes.CDLL:
    """Load a library that is this user's alone.

    Raises:
        NotBuiltError: Others can write it, or it does not fit this machine.
    """
    for each in (path, path.parent, path.parent.parent):
        found = each.stat()
        if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise NotBuiltError(f"{each} can be written by others; expected a folder of this user alone; remove it")
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NotBuiltError(f"{path} cannot be loaded ({error}); remove it") from None


def build(folder: Path, command: list[str]) -> None:
    """Compile into a folder, which appears whole; where another process does so already, do nothing.

    Raises:
        ResourceError: The folder cannot be written.
    """
    with contextlib.suppress(FolderInUseError):
        old = os.umask(0o077)
        try:
            files.make_folder(folder)
            lock = files.Lock(folder)
            try:
                if (folder / BUILT).exists():
                    return
                with files.replaced(folder / BUILT) as temporary:
                    problem = _compile(temporary, command)
                    if problem:
                        files.write_text(temporary / LOG, problem)
            finally:
                lock.release()
        finally:
            os.umask(old)


def _compile(folder: Path, command: list[str]) -> str:
    """Compile and link; return what the compiler says where it fails."""
    at, part = command.index(LINK), str(folder / "library.o")
    for words in (
        [*command[:at], "-o", part],
        [command[0], part, *command[at + 1 :], "-o", str(folder / LIBRARY)],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{' '.join(words)}\n{done.stderr}"
    files.remove_all(Path(part))
    return ""


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2:])
