"""Starts worker processes, hears what they tell, replaces those that die, and leaves none behind. Floor 17.

A worker stands in a session of its own, so that a Ctrl-C of the terminal reaches this process alone, which passes it on once:
every worker keeps a checkpoint and ends.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from netwright import errors, files
from netwright.errors import ConfigError, NetwrightError
from netwright.pipeline.telling import Told
from netwright.training.signals import stop_on_signals
from netwright.tuning.search import Search
from netwright.tuning.telling import Tell, TrialEnd, TrialEpoch, from_json
from netwright.tuning.worker import DEATHS

TURN = 0.2  # seconds between two looks at the processes
GRACE = 60.0  # seconds for a worker to keep a checkpoint
SPARE = 10  # workers that may die without that a trial ends, beside those that one trial may cost each
REMEMBERED = 20  # last lines of a worker's standard error
STARTED = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from netwright.tuning.following import die_with_parent, leave_on_sigterm
leave_on_sigterm()
die_with_parent()
from netwright.cli import main
main(sys.argv[1:])
"""
KINDS = {
    kind.exit_code: kind
    for kind in (
        errors.ConfigError, errors.DataError, errors.CheckpointError, errors.DivergedError, errors.ResourceError,
        errors.FolderInUseError, errors.SafetyError,
    )
}  # fmt: skip


@dataclass
class _Hand:
    """One worker process, the trial it is at, and what of its output is no whole line yet."""

    process: subprocess.Popen[bytes]
    trial: int | None = None
    said: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    rest: dict[int, bytes] = field(default_factory=dict)


def supervise(search: Search, processes: int, budget: float | None, tell: Tell) -> int | None:
    """Let worker processes train the trials of a search.

    Args:
        search: What is searched.
        processes: How many.
        budget: Seconds from the first trial on, after which they are stopped, with checkpoints; None for never.
        tell: Is told epochs and ends of trials, and remarks.

    Returns:
        The number of the signal that stopped it, or None.

    Raises:
        NetwrightError: A worker met what is no fault of a single trial, in its words.
    """
    with stop_on_signals() as stop:
        crew = _Crew(search, processes, tell)
        before, until = _claimed(search), None
        try:
            for _ in range(processes):
                crew.start()
            asked_at: float | None = None
            while crew.hands:
                crew.listen()
                crew.look(ending=asked_at is not None or bool(stop))
                if until is None and budget is not None and _claimed(search) != before:
                    until = time.monotonic() + budget
                late = until is not None and time.monotonic() >= until
                if asked_at is None and (stop or late or crew.error is not None):
                    asked_at = time.monotonic()
                    crew.ask_to_stop()
                if asked_at is not None and time.monotonic() - asked_at > GRACE:
                    break
        finally:
            crew.end()
        if crew.error is not None:
            raise crew.error
        return stop.signal_number


def _claimed(search: Search) -> set[str]:
    """Return the claims that workers made so far: with one a trial begins."""
    return {path.name for path in (search.folder / files.CLAIMS).glob("[0-9]*")}


@final
class _Crew:
    """The workers of this process."""

    def __init__(self, search: Search, processes: int, tell: Tell) -> None:
        self._search, self._tell = search, tell
        self.hands: list[_Hand] = []
        self.error: NetwrightError | None = None
        self._selector = selectors.DefaultSelector()
        self._deaths = 0  # since a trial ended
        self._processes = processes

    def start(self) -> None:
        """Start one worker."""
        code = [word for file in self._search.asked.code for word in ("--code", str(Path(file).absolute()))]
        words = ["tune-worker", str(self._search.folder.absolute()), *code]
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", STARTED, json.dumps(sys.path), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        hand = _Hand(process)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, selectors.EVENT_READ, hand)
        self.hands.append(hand)

    def listen(self, wait: float = TURN) -> None:
        """Pass on what the workers tell."""
        if not self._selector.get_map():
            time.sleep(wait)
        for key, _ in self._selector.select(wait):
            self._read(key.data, key.fileobj)

    def _read(self, hand: _Hand, stream: Any) -> None:
        """Read the whole lines that a stream holds."""
        data = stream.read()
        if data == b"":
            self._selector.unregister(stream)
            return
        number = stream.fileno()
        *lines, hand.rest[number] = (hand.rest.get(number, b"") + (data or b"")).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")
            if stream is hand.process.stderr:
                hand.said.append(text)
            else:
                self._hear(hand, text)

    def _hear(self, hand: _Hand, line: str) -> None:
        """Pass one line of a worker on; what is none of its records is kept as what it said."""
        try:
            record = from_json(json.loads(line))
        except (ValueError, KeyError, TypeError):
            hand.said.append(line)
            return
        if isinstance(record, TrialEpoch):
            hand.trial = record.trial
        elif isinstance(record, TrialEnd):
            hand.trial = None
            self._deaths = 0
        self._tell(record)

    def look(self, ending: bool) -> None:
        """Take away workers that ended; one that died, or that somebody else stopped, is replaced, unless all shall end."""
        for hand in [hand for hand in self.hands if hand.process.poll() is not None]:
            for stream in (hand.process.stdout, hand.process.stderr):
                if stream is not None and stream in [key.fileobj for key in self._selector.get_map().values()]:
                    self._read(hand, stream)
            self._let_go(hand)
            code = hand.process.returncode
            if code == 0 or ending or self.error is not None:
                continue
            if code in KINDS:
                self.error = KINDS[code](_message(hand))
            else:
                self._replace(hand)

    def _replace(self, hand: _Hand) -> None:
        """Start another worker for one that died; where several died at a trial, the next that claims it counts it as failed."""
        code = hand.process.returncode
        with suppress(errors.ResourceError):  # a full disk ends the search by its own words
            files.note_death(self._search.folder, hand.process.pid)
        how = _signal_name(code)
        how = f"by {how}" if how else f"with exit code {code}: {_message(hand)}"
        at = "" if hand.trial is None else f" at trial {hand.trial}, which another goes on with"
        self._deaths += 1
        self._tell(Told(f"a worker ended {how}{at}", "warning"))
        if self._deaths > DEATHS * self._processes + SPARE:
            self.error = ConfigError(
                f"tune: {self._deaths} workers died, the last {how}; expected workers that live; check memory and "
                f"disk, then netwright tune --resume {self._search.folder}"
            )
            return
        self.start()

    def ask_to_stop(self) -> None:
        """Ask every worker to keep a checkpoint and end; one that SLURM has asked already takes it for the same request."""
        for hand in self.hands:
            with suppress(ProcessLookupError):
                hand.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Kill the workers that are left, and wait for each."""
        for hand in list(self.hands):
            hand.process.kill()
            hand.process.wait()
            self._let_go(hand)
        self._selector.close()

    def _let_go(self, hand: _Hand) -> None:
        """Close the pipes of a worker that is no more."""
        for stream in (hand.process.stdout, hand.process.stderr):
            if stream is not None:
                with suppress(KeyError):
                    self._selector.unregister(stream)
                stream.close()
        if hand.process.stdin is not None:
            hand.process.stdin.close()
        self.hands.remove(hand)


def _signal_name(code: int) -> str:
    """Return the name of the signal that ended a process, or that it left for (128 and its number); else nothing."""
    try:
        return signal.Signals(-code if code < 0 else code - 128).name
    except ValueError:
        return ""


def _message(hand: _Hand) -> str:
    """Return the error of a worker without what the command line puts before it."""
    said: Sequence[str] = [line for line in hand.said if line.strip()]
    return said[-1].removeprefix("netwright: error: ") if said else "it said nothing"
