"""Processes beside this one: they import what takes long while this one works, and call functions of it. Floor 0.

Importing scikit-learn and matplotlib takes longer than many a network trains. Functions that need them are called through
`call`, and answered by a process that has imported them already where one was started in time, here where none was: what they
return is the same. Such a process is never needed: where it cannot be started, is late or dies, the function is called here.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from typing import Any, ParamSpec, TypeVar, final

PATIENCE = 3.0  # seconds to wait for imports to end; made here they would take as long
LONGEST = 600.0  # seconds to wait for an answer; then something is wrong with the process
LOOK = 1.0  # seconds from one look whether the other process lives to the next
LESS_URGENT = 10  # of Linux: ten times as much of a busy core goes to others, such as those that train
STARTED = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from netwright.beside import answer
answer(int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]), json.loads(sys.argv[5]))
"""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Imports:
    """What a process imports.

    ``package`` takes long: where it is imported here already, nothing is gained. Functions of ``modules`` are called there.
    ``without`` are packages that others import where they are installed, and that nothing there needs.
    """

    package: str
    modules: tuple[str, ...]
    without: tuple[str, ...] = ()


@final
class _Process:
    """A process that has begun to import modules, and answers calls when it has."""

    def __init__(self, wanted: Imports) -> None:
        """Start it.

        Raises:
            OSError: It cannot be started.
        """
        self.wanted = wanted
        self._owner, self._calls = _here(), 0
        self._ready = False
        self._answers: dict[int, tuple[bool, Any]] = {}  # that nobody has waited for yet
        self._link, theirs = Pipe()
        nothing = subprocess.DEVNULL
        told = [str(os.getpid()), str(theirs.fileno()), *map(json.dumps, (wanted.modules, wanted.without))]
        try:
            if min(self._link.fileno(), theirs.fileno()) <= 2:
                raise OSError("standard input, output or error is closed: others may write where they were")
            self._process = subprocess.Popen(
                [sys.executable, *_flags(), "-c", STARTED, json.dumps([str(place) for place in sys.path]), *told],
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                pass_fds=[theirs.fileno()],
            )
        except BaseException:
            self._link.close()
            raise
        finally:
            theirs.close()

    @property
    def ours(self) -> bool:
        """Whether this thread started it; another one, or a process that was forked, would read its answers."""
        return self._owner == _here()

    def ready(self, seconds: float) -> bool:
        """Tell whether it has imported all, after so many seconds at most: only then is it sure to read what is sent."""
        if not self._ready and self._link.poll(seconds):
            self._link.recv()
            self._ready = True
        return self._ready

    def send(self, call: tuple[Any, ...]) -> int:
        """Have a function called there, and return the number of the call."""
        self._calls += 1
        self._link.send((self._calls, *call))
        return self._calls

    def wait(self, number: int) -> Any:
        """Return what a function returned there.

        Raises:
            _NoAnswer: It takes far too long, or the function failed.
        """
        while number not in self._answers:
            if not self._link.poll(LONGEST):
                raise _NoAnswer
            told, *answer = self._link.recv()
            self._answers[told] = (answer[0], answer[1])
        done, value = self._answers.pop(number)
        if not done:
            raise _NoAnswer
        return value

    def end(self) -> None:
        """End it, whatever it does."""
        self._link.close()
        self._process.kill()
        self._process.wait()


def _here() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def _flags() -> list[str]:
    """Return how Python was started as far as it says whose code runs (-P: nothing of the current folder) and what is written."""
    known = {
        "-I": sys.flags.isolated,
        "-E": sys.flags.ignore_environment,
        "-s": sys.flags.no_user_site,
        "-B": sys.flags.dont_write_bytecode,
    }
    return ["-P", *(flag for flag, on in known.items() if on)]


class _NoAnswer(Exception):
    """A process did not answer; the function is to be called here."""


_open: list[_Process] = []


@contextmanager
def importing(*imports: Imports) -> Iterator[None]:
    """Run a block beside which processes import modules for `call`, where there is a core for them.

    Args:
        imports: What each imports. One that is imported here already, or by a process of a block around this one, is left out.
    """
    able = os.name == "posix" and cores() > 1 and _python()
    with ExitStack() as ends:
        for wanted in imports:
            known = wanted.package in sys.modules or any(each.wanted == wanted for each in _open if each.ours)
            if able and not known:
                with suppress(Exception):  # a policy, or a test, may forbid processes in its own way
                    process = _Process(wanted)
                    ends.callback(_end, process)
                    _open.append(process)
        yield


def _python() -> bool:
    """Tell whether the program that runs can be started as Python; it may be another that has Python inside."""
    return os.path.basename(sys.executable or "").startswith("python") and not getattr(sys, "frozen", False)


def _end(process: _Process) -> None:
    if process in _open and process.ours:
        _open.remove(process)
        process.end()


def call(function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
    """Return what a function returns; see `begin`."""
    return begin(function, *arguments, **keywords)()


def begin(function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> Callable[[], R]:
    """Have a function called by the process that has imported its module, and return what waits for the answer.

    Where this thread has no such process, or it does not answer, the function is called here when it is waited for.

    Args:
        function: Found by its module and name; the same arguments give the same result.
        arguments, keywords: May be pickled, and so may what it returns.
    """
    process = next((each for each in _open if each.ours and function.__module__ in each.wanted.modules), None)
    asked = (function, arguments, keywords)
    number: int | None = None
    if process is not None:
        with _ended_by_errors(process):
            number = process.send(asked) if process.ready(0.0) else None

    @cache
    def wait() -> R:
        if process in _open and process.ours:
            with _ended_by_errors(process):
                if number is None and not process.ready(PATIENCE):
                    raise _NoAnswer
                found: R = process.wait(process.send(asked) if number is None else number)
                return found
        return function(*arguments, **keywords)

    return wait


@contextmanager
def _ended_by_errors(process: _Process) -> Iterator[None]:
    """Run a block that speaks with a process; after an error what it would say next is not known, so it is ended."""
    try:
        yield
    except Exception:  # it died, is late, or something cannot be pickled: the function is called here
        _end(process)
    except BaseException:
        _end(process)
        raise


def answer(parent: int, descriptor: int, modules: Sequence[str], without: Sequence[str] = ()) -> None:
    """Be such a process: import modules, and call functions until the other one is gone.

    Args:
        parent: The number of the other process.
        descriptor: Of the connection to it.
        modules: What to import.
        without: What cannot be imported.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the other one, and that ends this
    sys.meta_path.insert(0, _Without(without))
    link = Connection(descriptor)
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_work, args=(link, modules, asked), daemon=True).start()
    try:
        while True:
            while not link.poll(LOOK):
                if os.getppid() != parent:  # children that it forked may hold its end of the connection
                    return
            asked.put(link.recv())
    finally:
        os._exit(0)  # in the midst of a call too: nobody waits for it


@final
@dataclass(frozen=True)
class _Without:
    """Lets packages look as if they were not installed."""

    packages: Sequence[str]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _work(link: Connection, modules: Sequence[str], asked: queue.SimpleQueue[Any]) -> None:
    """Import, tell so, and answer one call after the other."""
    try:
        # In a thread of its own, whose urgency cannot be raised again.
        imports = threading.Thread(target=_import, args=(modules,), daemon=True)
        imports.start()
        imports.join()
        link.send(True)
        while True:
            number, function, arguments, keywords = asked.get()
            try:
                found = (number, True, function(*arguments, **keywords))
            except Exception:
                found = (number, False, None)  # called once more by the other process, it tells why
            link.send(found)
    finally:
        os._exit(1)  # of an answer that cannot be sent too: the other one must not wait for it


def _import(modules: Sequence[str]) -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LESS_URGENT)
    for module in modules:
        import_module(module)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
