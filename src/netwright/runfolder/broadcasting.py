"""A live page of a run for a browser on this machine: one page, one JSON address, nothing else. Needs no torch.

It listens on the loopback address only, and answers only requests that name it in their Host header, so that a page of
another origin cannot read it through a name of its own that points here (DNS rebinding). Floor 11.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, final

from netwright.errors import ConfigError, NetwrightError
from netwright.runfolder.watching import read_state

HOST = "127.0.0.1"
POLL = 0.5  # seconds between two looks at the run
FAREWELL = 5.0  # seconds that an open page has to fetch the end
HEADERS = {  # of every answer, here and of netwright serve
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@final
class Broadcast:
    """Serves a run until it is closed.

    Args:
        folder: The run folder.
        port: On 127.0.0.1; 0 for any that is free.

    Raises:
        CheckpointError: The folder is no run.
        ConfigError: The port is taken.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.over_at_first = read_state(folder).over
        self.seen_end = threading.Event()
        self._folder = folder
        try:
            self._server = ThreadingHTTPServer((HOST, port), _handler(folder, self.seen_end))
        except OSError as error:
            raise ConfigError(
                f"--port {port}: {error.strerror or error}; expected a free port of {HOST}; name another, or 0 for any"
            ) from error
        self._server.daemon_threads = True
        self.address = f"http://{HOST}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def wait(self, keep: bool) -> None:
        """Return when the run is over and an open page has had time to fetch its end; never where it is to be kept.

        A run that was over before is kept too: nothing would be seen of it otherwise.
        """
        while keep or self.over_at_first or not read_state(self._folder).over:
            time.sleep(POLL)
        self.seen_end.wait(FAREWELL)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _handler(folder: Path, seen_end: threading.Event) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers the requests for a run."""
    page = (resources("netwright.runfolder") / "live.html").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        server_version = "netwright"
        sys_version = ""
        timeout = 10  # seconds, for one that says nothing

        def do_GET(self) -> None:  # http.server's name
            answers: dict[str, Callable[[], None]] = {"/": self._page, "/state.json": self._state}
            if not self._known_host():
                self._answer(HTTPStatus.MISDIRECTED_REQUEST, b"this server answers to its own address only\n")
            elif self.path.partition("?")[0] in answers:
                answers[self.path.partition("?")[0]]()
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"no such page\n")

        def _known_host(self) -> bool:
            """Tell whether the request names this server as a browser on this machine would."""
            port = self.connection.getsockname()[1]
            return self.headers.get("Host", "") in (f"{HOST}:{port}", f"localhost:{port}")

        def _page(self) -> None:
            self._answer(HTTPStatus.OK, page, "text/html; charset=utf-8")

        def _state(self) -> None:
            try:
                state = read_state(folder)
            except NetwrightError as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
                return
            self._answer(HTTPStatus.OK, json.dumps(state.to_json()).encode(), "application/json")
            if state.over:
                seen_end.set()

        def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            told = {"Content-Security-Policy": POLICY, "Content-Type": kind, "Content-Length": str(len(body))}
            for name, value in {**HEADERS, **told}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # http.server's name
            """Keep requests off the screen."""

    return Handler
