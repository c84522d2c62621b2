"""Several processes on this machine: torchrun, started in this process with the very words that a person could type. Floor 5.

torch imports late: the words are made without it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from netwright.errors import ConfigError

SIGNALS = "SIGTERM,SIGINT,SIGUSR1"  # without SIGUSR1 in it torchrun would die of one and leave its workers behind
MOST = 1024  # processes on one machine
TORCHRUN = "torch.distributed.run"


def torchrun_words(words: Sequence[str], processes: int, restarts: int) -> list[str]:
    """Return what torchrun is given to run netwright in several processes of this machine.

    Args:
        words: Of netwright, such as ``["train", "digits.toml"]``.
        processes: How many.
        restarts: How often all are started anew when one dies.

    Raises:
        ConfigError: Not that many processes.

    Example:
        >>> " ".join(torchrun_words(["train", "digits.toml"], 4, 0))
        '--standalone --nproc-per-node=4 --max-restarts=0 --signals-to-handle=SIGTERM,SIGINT,SIGUSR1 -m netwright train digits.toml'
    """
    if not 1 <= processes <= MOST:
        raise ConfigError(f"--procs {processes}: expected 1 to {MOST} processes on this machine; change it")
    if restarts < 0:
        raise ConfigError(f"--restarts {restarts}: expected 0 or more; change it")
    options = [f"--nproc-per-node={processes}", f"--max-restarts={restarts}", f"--signals-to-handle={SIGNALS}"]
    return ["--standalone", *options, "-m", "netwright", *words]


def command_of(words: Sequence[str]) -> list[str]:
    """Return the command that `launch` stands for."""
    return [sys.executable, "-m", TORCHRUN, *words]


def launch(words: Sequence[str]) -> int:
    """Run torchrun in this process, and return an exit code of netwright.

    torchrun itself ends with 1 whatever its workers ended with; here it is the code of the worker that ended first, and after a
    signal 128 and its number, once the workers have saved and stopped.

    Args:
        words: See `torchrun_words`.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for name in ("torch.distributed.run", "torch.distributed.elastic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # each worker tells its error itself, in one line
    try:
        run.run(run.parse_args(list(words)))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        return _code(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _code(code: int) -> int:
    """Return an exit code of the shell; a process that a signal killed has minus its number."""
    return 128 - code if code < 0 else code
