"""From the words of the command line to an exit code: every error is one line on stderr. Floor 18."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import click

from netwright.cli import (
    checking,
    foreseeing,
    launching,
    looking,
    proving,
    raying,
    serving,
    starting,
    training,
    tuning,
    using,
    watching,
)
from netwright.cli.group import cli, complete_paths
from netwright.config.calls import OWN_CODE
from netwright.distributed.failures import left_behind
from netwright.distributed.joining import leads
from netwright.errors import NetwrightError, ResourceError, out_of_memory

INTERRUPTED = 130
BUG = 70
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READER_LEFT = 1  # click's exit code where nobody reads standard output any more
COMMANDS = (
    starting,
    checking,
    foreseeing,
    training,
    tuning,
    launching,
    raying,
    watching,
    using,
    serving,
    looking,
    proving,
)  # importing them adds their commands to the group
complete_paths(cli)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code of the design: every error is one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        atexit.register(_end_sooner)
    debug = "--debug" in words  # wherever it stands
    words = [word for word in words if word != "--debug"]
    code = _guarded(lambda: cli.main(args=words, prog_name="netwright", standalone_mode=False, obj=debug), debug)
    if left_behind:
        with suppress(OSError, ValueError):  # nobody reads any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _end_sooner() -> None:
    """Keep Python from looking through all objects for circles when it ends, which takes longer than all else then.

    What we write is closed by then. Own code may have left a file to be closed by that look.
    """
    if not any(name.startswith(OWN_CODE) for name in list(sys.modules)):
        gc.freeze()


def _guarded(action: Callable[[], Any], debug: bool) -> int:
    """Run an action and return the exit code, telling any error in one line."""
    try:
        action()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        return 0 if stop.code == READER_LEFT else int(stop.code or 0)
    except click.NoSuchOption as error:
        message = error.format_message().rstrip(".")
        return _fail(f"{message}; settings are changed with --set PATH=VALUE, such as --set training.epochs=3", 2, debug)
    except click.ClickException as error:
        return _fail(error.format_message().rstrip("."), error.exit_code, debug)
    except (click.Abort, KeyboardInterrupt):
        return _fail("stopped by Ctrl-C", INTERRUPTED, debug) if leads() else INTERRUPTED
    except NetwrightError as error:
        return error.exit_code if error.quiet else _fail(str(error), error.exit_code, debug)
    except BrokenPipeError:
        return 0
    except Exception as error:  # the last net: a bug of ours is told in one line too
        if getattr(error, "quiet", False):  # another process of the same training tells it
            return BUG
        if isinstance(error, OSError) and error.errno in FULL:
            return _fail(
                f"no room where the output goes ({error.strerror}); make room, or send it elsewhere",
                ResourceError.exit_code,
                debug,
            )
        if out_of_memory(error):
            return _fail(f"out of memory; set a smaller data.batch_size ({error})", ResourceError.exit_code, debug)
        return _bug(error, debug)
    return 0


def _bug(error: BaseException, debug: bool) -> int:
    return _fail(f"a bug of netwright: {type(error).__name__}: {error}; run again with --debug and report it", BUG, debug)


def _fail(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"netwright: error: {' '.join(message.split())}", err=True)
    return exit_code
