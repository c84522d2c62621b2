"""Processes beside this one: they import what takes long while this one works, and call functions of it. Floor 0.

Importing scikit-learn and matplotlib takes longer than many a network trains. Functions that need them are called through
`call`, and answered by a process that has imported them already where one was started in time, here where none was: what they
return is the same. Such a process is never needed: where it cannot be started, is late or dies, the function is called here.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from typing import Any, ParamSpec, TypeVar, final

PATIENCE = 3.0  # seconds to wait for imports to end; made here they would take as long
LESS_URGENT = 10  # of Linux: ten times as much of a busy core goes to others, such as those that train
STARTED = (
    "import sys; sys.path[:] = {path!r}; from netwright.beside import answer; answer({descriptor}, {modules!r}, {without!r})"
)

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
        self._owner, self._ready, self._calls = _here(), False, 0
        self._link, theirs = Pipe()
        code = STARTED.format(path=sys.path, descriptor=theirs.fileno(), modules=wanted.modules, without=wanted.without)
        nothing = subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=nothing, stdout=nothing, stderr=nothing, pass_fds=[theirs.fileno()]
            )
        except OSError:
            self._link.close()
            raise
        finally:
            theirs.close()

    @property
    def ours(self) -> bool:
        """Whether this thread started it; another one, or a process that was forked, would read its answers."""
        return self._owner == _here()

    def send(self, call: tuple[Any, ...]) -> int:
        """Have a function called there, and return the number of the call.

        Raises:
            _NoAnswer: It has died.
        """
        self._calls += 1
        with _answered():
            self._link.send((self._calls, *call))
        return self._calls

    def wait(self, number: int) -> Any:
        """Return what a function returned there.

        Raises:
            _NoAnswer: It is late, has died, or the function failed.
        """
        with _answered():
            if not self._ready and not self._link.poll(PATIENCE):
                raise _NoAnswer
            self._ready = self._ready or bool(self._link.recv())
            found = self._link.recv()
            while found[0] != number:  # of a call that nobody waited for
                found = self._link.recv()
        _, done, value = found
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


class _NoAnswer(Exception):
    """A process did not answer; the function is to be called here."""


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise _NoAnswer from error


_open: list[_Process] = []


@contextmanager
def importing(*imports: Imports) -> Iterator[None]:
    """Run a block beside which processes import modules for `call`, where there is a core for them.

    Args:
        imports: What each imports. One that is imported here already, or by a process of a block around this one, is left out.
    """
    with ExitStack() as ends:
        for wanted in imports:
            known = wanted.package in sys.modules or any(each.wanted == wanted for each in _open if each.ours)
            if not known and os.name == "posix" and cores() > 1 and sys.executable and not getattr(sys, "frozen", False):
                with suppress(OSError):
                    _open.append(_Process(wanted))
                    ends.callback(_end, _open[-1])
        yield


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
    number = 0
    if process is not None:
        try:
            number = process.send((function, arguments, keywords))
        except _NoAnswer:
            _end(process)

    def wait() -> R:
        if process in _open and process.ours:
            try:
                found: R = process.wait(number)
                return found
            except _NoAnswer:
                _end(process)
        return function(*arguments, **keywords)

    return wait


def answer(descriptor: int, modules: Sequence[str], without: Sequence[str] = ()) -> None:
    """Be such a process: import modules, and call functions until the other one is gone.

    Args:
        descriptor: Of the connection to it.
        modules: What to import.
        without: What cannot be imported.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the other one, and that ends this
    sys.meta_path.insert(0, _Without(without))
    link = Connection(descriptor)
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_work, args=(link, modules, asked), daemon=True).start()
    while True:
        try:
            asked.put(link.recv())
        except (EOFError, OSError):
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
    imports = threading.Thread(
        target=_import, args=(modules,), daemon=True
    )  # the urgency of a thread cannot be raised again
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


def _import(modules: Sequence[str]) -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LESS_URGENT)
    for module in modules:
        import_module(module)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
