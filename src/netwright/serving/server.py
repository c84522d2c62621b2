"""Listens, serves until a signal comes, and ends in order. Floor 17."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, final

import uvicorn

from netwright.errors import ConfigError
from netwright.serving.answering import Answerer, Question
from netwright.serving.application import Guarding, OnBug, make_application
from netwright.serving.expectation import Expected
from netwright.serving.limits import Limits, is_loopback, names_of
from netwright.trained.predicting import Predictor

BACKLOG = 2048
LONGEST_HEAD = 16 << 10  # bytes of the head of a request
KEEP_ALIVE = 5  # seconds between two requests of a connection
HEAD_SECONDS = 10.0  # for a head to come whole
EVERY = 1.0  # seconds between two looks at connections that say nothing
FILES = 8192  # open connections and files


@final
class RunServer:
    """A run that listens; `serve` answers until a signal comes.

    Args:
        run: The run.
        host: Where to listen.
        port: 0 for any that is free.
        token: What requests must carry, or None.
        limits: What it takes.
        on_bug: Told the number and the error of a bug.

    Raises:
        ConfigError: The address cannot be had.
        NetwrightError: The run cannot predict its own example.
    """

    def __init__(self, run: Predictor, host: str, port: int, token: bytes | None, limits: Limits, on_bug: OnBug) -> None:
        expected = Expected(run)
        warm(expected, on_bug)
        self._socket = _listen(host, port)
        self.port = int(self._socket.getsockname()[1])
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self.port}/"
        hosts = names_of(host, self.port) if is_loopback(host) else None
        application = make_application(expected, limits, Guarding(hosts, token), on_bug)
        self._server = uvicorn.Server(configuration(application, limits))

    def serve(self) -> None:
        """Answer requests until SIGINT or SIGTERM; then finish what is in work. The signal is raised again at the end."""
        raise_file_limit()
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        watch = asyncio.create_task(_close_silent(self._server))
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            watch.cancel()

    def stop(self) -> None:
        """Let `serve` finish what is in work and return; for another thread than the one that serves."""
        self._server.should_exit = True


def configuration(application: Callable[..., Any], limits: Limits) -> uvicorn.Config:
    """Return how uvicorn serves: h11, which bounds heads, no log of its own, no WebSockets, no trust in proxies."""
    return uvicorn.Config(
        application,
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(limits.timeout) + 1,
    )


def warm(expected: Expected, on_bug: OnBug) -> None:
    """Predict the example a few times before anybody asks: what is recorded, loaded or compiled late is so by then.

    Raises:
        ConfigError: The run cannot predict its own example.
    """
    if expected.example is None:
        return
    import json

    question = Question(json.dumps(expected.example).encode(), "application/json")
    answerer = Answerer(expected, on_bug)
    for _ in range(3):
        (reply,) = answerer.answer([question])
        if reply.status != 200:
            raise ConfigError(
                f"{expected.run.folder}: it cannot predict a row of its own means ({json.loads(reply.body)['error']}); expected a "
                "run that predicts; try netwright predict"
            )


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigError: No such address, or the port is taken.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(place[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: {error.strerror or error}; expected a free port of an address of this machine; name "
            "another, or port 0 for any"
        ) from error


async def _close_silent(server: uvicorn.Server) -> None:
    """Close connections on which no request has come whole for some seconds; uvicorn waits for a first one without end."""
    silent: dict[Any, tuple[Any, float]] = {}
    while True:
        await asyncio.sleep(EVERY)
        now = time.monotonic()
        seen: dict[Any, tuple[Any, float]] = {}
        for connection in list(server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                continue
            before, since = silent.get(connection, (cycle, now))
            seen[connection] = (cycle, since if before is cycle else now)
            if now - seen[connection][1] > HEAD_SECONDS and connection.transport is not None:
                connection.transport.close()
        silent = seen


def raise_file_limit() -> None:
    """Allow this process as many open connections as the system lets it have, up to some thousand."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
