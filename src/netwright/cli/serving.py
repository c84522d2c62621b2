"""The command serve: a run behind HTTP. Floor 18."""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

import click

from netwright.cli.group import cli, code_option, json_option
from netwright.errors import ConfigError

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
TERMINATED = 143


@cli.command(short_help="Answer predictions over HTTP, with a page to try it.")
@click.argument("run")
@click.option("--host", default="127.0.0.1", show_default=True, help="Any but a loopback address needs --token-file.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 is any free one.")
@click.option("--token-file", metavar="FILE", help="Requests must carry its line: Authorization: Bearer ...")
@click.option(
    "--max-body", type=click.IntRange(min=1024), default=8 << 20, show_default=True, metavar="BYTES", help="Of one request."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Of one request.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    metavar="N",
    help="Requests in work; more get 503.",
)
@code_option
@json_option
@click.pass_obj
def serve(
    debug: bool,
    run: str,
    host: str,
    port: int,
    token_file: str | None,
    max_body: int,
    timeout: float,
    concurrency: int,
    code: Sequence[str],
    as_json: bool,
) -> None:
    """Answer predictions of a run or an ensemble over HTTP, with a page to try it by hand.

    Prints the address. Rows come as JSON or CSV, images as they are; /openapi.json describes it, with an example. SIGTERM and
    Ctrl-C finish what is in work.
    """
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"serve: package {missing[0]} is not installed; expected the extra serve; run: pip install 'netwright[serve]'"
        )
    from netwright.serving.limits import Limits, is_loopback, read_token

    token = read_token(token_file, host)
    signal.signal(signal.SIGTERM, _end)  # before the run is loaded, and again when uvicorn has put its own away
    from netwright.serving.server import RunServer
    from netwright.verbs import load

    def tell(number: str, error: BaseException) -> None:
        click.echo(f"netwright: error: a bug of netwright, number {number}: {type(error).__name__}: {error}", err=True)
        if debug:
            traceback.print_exception(error)

    server = RunServer(load(run, code=code), host, port, token, Limits(max_body, timeout, concurrency), tell)
    if not is_loopback(host):
        click.echo("note: others can reach it, and the token goes as it is; put a proxy with TLS before it", err=True)
    if as_json:
        click.echo(json.dumps({"address": server.address, "run": run}))
    else:
        click.echo("Ctrl-C ends it; the page in a browser, or POST /predict" + ("" if token is None else ", with the token"))
        click.echo(server.address)
    sys.stdout.flush()
    server.serve()


def _end(number: int, frame: object) -> NoReturn:
    sys.exit(TERMINATED)
