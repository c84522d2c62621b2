"""A served run on the wire: what is hostile gets one line and a 4xx, the server lives on, and signals end it in order."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netwright as nw
from netwright.cli import main

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(package, reason="the extra serve is not installed")

from netwright.errors import ConfigError, SafetyError  # noqa: E402
from netwright.serving import server as serving  # noqa: E402
from netwright.serving.limits import Limits, is_foreign, is_loopback, read_token  # noqa: E402
from netwright.serving.server import RunServer  # noqa: E402

TOKEN = b"0123456789abcdef"
JSON = {"Content-Type": "application/json"}
VALUES = np.linspace(-2, 2, 40).reshape(10, 4)
BODY = json.dumps({"inputs": VALUES.tolist()})
BUGS: list[str] = []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> nw.Run:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(90, 4))
    return nw.train(data=(values, values[:, 0] > 0), epochs=3, run_dir=tmp_path_factory.mktemp("served") / "run")


class Served:
    """A server in a thread of this process."""

    def __init__(self, run: nw.Run, token: bytes | None = None, limits: Limits | None = None) -> None:
        self.run = run
        self.server = RunServer(
            run, "127.0.0.1", 0, token, limits or Limits(), lambda number, error: BUGS.append(repr(error))
        )
        self.port = self.server.port
        self.thread = threading.Thread(target=self.server.serve)
        self.thread.start()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        assert BUGS == []

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, JSON (or bytes) and headers of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, json.loads(content) if "json" in told.get("content-type", "") else content, told
        finally:
            connection.close()

    def works(self) -> None:
        """Ask for a prediction, which must come."""
        status, found, _ = self.ask("POST", "/predict", BODY, JSON)
        assert (status, found["predictions"]) == (200, self.run.predict(VALUES).tolist())


@pytest.fixture(scope="module")
def served(run: nw.Run) -> Iterator[Served]:
    with Served(run) as one:
        yield one


def test_the_five_addresses_answer(served: Served) -> None:
    served.works()
    assert served.ask("GET", "/health")[:2] == (200, {"live": True, "ready": True, "waiting": 0})
    status, page, headers = served.ask("GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<form" in page
    assert "script-src 'sha256-" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    status, tree, headers = served.ask("GET", "/openapi.json")
    assert tree["paths"].keys() == {"/predict", "/health", "/metrics"}
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert "server" not in headers
    status, text, headers = served.ask("GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'netwright_requests_total{path="/predict",status="200"}' in text


def test_the_page_asks_nobody_else() -> None:
    page = (Path(serving.__file__).parent / "page.html").read_text()
    assert "http:" not in page.replace("http://www.w3.org", "")
    assert "https:" not in page
    assert " on" + "click=" not in page


HOSTILE = [
    ("POST", "/predict", "{", JSON, 400),
    ("POST", "/predict", "[" * 10_000, JSON, 400),
    ("POST", "/predict", '{"inputs": [[NaN, 1, 2, 3]]}', JSON, 400),
    ("POST", "/predict", '{"inputs": [[1e999, 1, 2, 3]]}', JSON, 422),
    ("POST", "/predict", BODY, {}, 415),
    ("POST", "/predict", BODY, {"Content-Type": "application/x-python-pickle"}, 415),
    ("POST", "/predict", BODY, {"Content-Type": "application/xml"}, 415),
    ("POST", "/predict", "a,b\n1,2\n", {"Content-Type": "text/csv"}, 415),
    ("POST", "/predict", b"\x1f\x8b" + b"\0" * 100, {**JSON, "Content-Encoding": "gzip"}, 415),
    ("POST", "/predict?file=/etc/passwd", BODY, JSON, 422),
    ("POST", "/predict?threshold=2", BODY, JSON, 422),
    ("POST", "/predict?threshold=nan", BODY, JSON, 422),
    ("POST", "/predict?threshold=0.5&threshold=0.6", BODY, JSON, 422),
    ("POST", "/predict?interval=true", BODY, JSON, 422),
    ("GET", "/predict", None, {}, 405),
    ("DELETE", "/predict", None, {}, 405),
    ("TRACE", "/", None, {}, 405),
    ("BREW", "/predict", None, {}, 405),
    ("GET", "/../../../etc/passwd", None, {}, 404),
    ("GET", "/%2e%2e/%2e%2e/etc/passwd", None, {}, 404),
    ("GET", "//predict", None, {}, 404),
    ("GET", "/docs", None, {}, 404),
    ("GET", "/" + "a" * 5000, None, {}, 404),
    ("GET", "/health", None, {"Host": "evil.example"}, 421),
    ("POST", "/predict", BODY, {**JSON, "Origin": "http://evil.example"}, 403),
    ("POST", "/predict", BODY, {**JSON, "Sec-Fetch-Site": "cross-site"}, 403),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), HOSTILE, ids=lambda value: str(value)[:40])
def test_what_is_hostile_is_one_line(
    served: Served, method: str, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    found, told, _ = served.ask(method, path, body, headers)
    assert found == status
    assert list(told) == ["error"]
    assert "\n" not in told["error"]
    assert "Traceback" not in told["error"]
    assert str(served.run.folder) not in told["error"]
    served.works()


def test_a_body_of_a_hundred_megabytes_is_413_and_not_kept(served: Served) -> None:
    status, told, _ = served.ask("POST", "/predict", b" " * 100_000_000, JSON)
    assert (status, told["error"].startswith("body: more than 8388608 bytes came")) == (413, True)
    parts = (b" " * 1_000_000 for _ in range(20))  # chunked, its length is not told
    status, told, _ = served.ask("POST", "/predict", parts, JSON)
    assert status == 413
    served.works()


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content-Type": "text/plain"}, 415), ({**JSON, "Host": "evil"}, 421), ({**JSON, "Origin": "null"}, 403)],
)
def test_a_refusal_reaches_a_sender_who_still_sends(served: Served, headers: dict[str, str], status: int) -> None:
    for _ in range(10):
        assert served.ask("POST", "/predict", b" " * 3_000_000, headers)[0] == status
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as link:  # the connection stays usable
        link.sendall(head(served.port, 10).replace("json", "xml").encode())
        assert until(link, b'"}').startswith(b"HTTP/1.1 415 ")
        link.sendall(b"0123456789" + (head(served.port, len(BODY)) + BODY).encode())
        assert until(link, b"]]}").startswith(b"HTTP/1.1 200 ")


def until(link: socket.socket, ending: bytes) -> bytes:
    """Return what comes up to an ending."""
    found = b""
    while not found.endswith(ending):
        part = link.recv(65536)
        assert part, found
        found += part
    return found


def head(port: int, length: int) -> str:
    """Return the head of a request for a prediction."""
    lines = [
        "POST /predict HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""])


def exchange(port: int, content: bytes) -> bytes:
    """Send bytes and return everything that comes until the server closes, or falls silent for a second."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as link:
        link.sendall(content)
        found = b""
        try:
            while part := link.recv(65536):
                found += part
        except TimeoutError:
            pass
        return found


def test_heads_that_are_no_heads_are_400(served: Served) -> None:
    long = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 40_000
    twice = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n".encode()
    both = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"
    for content in (b"\0\0\0\0\r\n\r\n", b"GET /\r\n\r\n", long, twice, both):
        assert exchange(served.port, content).startswith(b"HTTP/1.1 400 ")
    served.works()


def test_requests_in_a_row_on_one_connection_are_each_answered(served: Served) -> None:
    found = exchange(served.port, (head(served.port, len(BODY)) + BODY).encode() * 5)
    assert found.count(b"HTTP/1.1 200 OK") == 5


def test_500_requests_at_a_time_beside_1000_silent_connections(served: Served) -> None:
    silent = []
    try:
        for _ in range(1000):
            silent.append(socket.create_connection(("127.0.0.1", served.port), timeout=10))
        samples = [np.random.default_rng(seed).normal(size=(1 + seed % 3, 4)) for seed in range(500)]
        expected = [served.run.predict_proba(sample) for sample in samples]
        ready = threading.Barrier(500)

        def ask(place: int) -> Any:
            ready.wait(60)
            return served.ask("POST", "/predict", json.dumps({"inputs": samples[place].tolist()}), JSON)

        with concurrent.futures.ThreadPoolExecutor(500) as pool:
            answers = list(pool.map(ask, range(500)))
    finally:
        for link in silent:
            link.close()
    assert [status for status, _, _ in answers] == [200] * 500
    for (_, found, _), known in zip(answers, expected, strict=True):
        assert np.abs(np.asarray(found["probabilities"]) - known).max() < 1e-5
    served.works()


def test_a_token_opens_and_nothing_else_does(run: nw.Run) -> None:
    with Served(run, TOKEN) as one:
        for headers in (
            {},
            {"Authorization": "Bearer no"},
            {"Authorization": f"Basic {TOKEN.decode()}"},
            {"Authorization": "Bearer"},
        ):
            status, told, more = one.ask("POST", "/predict", BODY, {**JSON, **headers})
            assert (status, list(told), more["www-authenticate"]) == (401, ["error"], "Bearer")
            assert one.ask("GET", "/metrics", None, headers)[0] == 401
            assert one.ask("GET", "/openapi.json", None, headers)[0] == 401
            assert one.ask("GET", "/health", None, headers)[0] == one.ask("GET", "/", None, headers)[0] == 200
        assert one.ask("POST", "/predict", BODY, {**JSON, "Authorization": f"Bearer {TOKEN.decode()}"})[0] == 200


def test_times_and_numbers_are_bounded(run: nw.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(run).predict_decoded
    with Served(run, limits=Limits(max_body=4096, timeout=1.0, concurrency=1)) as one:
        with socket.create_connection(("127.0.0.1", one.port), timeout=10) as slow:
            slow.sendall(head(one.port, 100).encode() + b"{")
            time.sleep(0.3)
            status, told, headers = one.ask("POST", "/predict", BODY, JSON)
            assert (status, headers["retry-after"]) == (503, "1")
            assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")
        assert one.ask("POST", "/predict", BODY + " " * 5000, JSON)[0] == 413

        def sleepy(self: nw.Run, rows: Any) -> Any:
            time.sleep(1.5)
            return real(self, rows)

        monkeypatch.setattr(type(run), "predict_decoded", sleepy)
        status, told, _ = one.ask("POST", "/predict", BODY, JSON)
        assert (status, told["error"].startswith("no answer within 1 s")) == (504, True)
        monkeypatch.setattr(type(run), "predict_decoded", real)
        time.sleep(1)
        one.works()


def test_a_connection_that_never_asks_is_closed(run: nw.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(serving, "EVERY", 0.2)
    with Served(run) as one, socket.create_connection(("127.0.0.1", one.port), timeout=10) as silent:
        silent.sendall(b"POST /predict HTTP/1.1\r\nHost: ")
        assert silent.recv(100) == b""
        one.works()


def test_only_loopback_goes_without_a_token(tmp_path: Path) -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.evil")] == [False] * 5
    with pytest.raises(SafetyError, match="--host 0.0.0.0: others could reach it"):
        read_token(None, "0.0.0.0")
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(ConfigError, match="5 bytes came"):
        read_token(str(tmp_path / "token"), "0.0.0.0")
    (tmp_path / "token").write_bytes(TOKEN + b"\n")
    assert read_token(str(tmp_path / "token"), "0.0.0.0") == TOKEN
    with pytest.raises(ConfigError, match="No such file"):
        read_token(str(tmp_path / "none"), "127.0.0.1")


def test_an_origin_is_foreign_unless_it_is_this_server() -> None:
    host = {b"host": b"127.0.0.1:80"}
    assert not is_foreign(host)
    assert not is_foreign({**host, b"origin": b"http://127.0.0.1:80"})
    for origin in (b"null", b"http://evil", b"http://127.0.0.1:81", b"http://[", b""):
        assert is_foreign({**host, b"origin": origin})


def test_the_command_refuses_an_open_address_without_a_token(capsys: pytest.CaptureFixture[str], run: nw.Run) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", str(run.folder), "--host", "0.0.0.0"])
    assert ended.value.code == 8
    assert "expected --token-file FILE" in capsys.readouterr().err


def test_a_taken_port_is_an_error_of_one_line(run: nw.Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="expected a free port"):
        RunServer(run, "127.0.0.1", taken.getsockname()[1], None, Limits(), lambda number, error: None)


def hear_ctrl_c() -> None:
    """Undo what a shell's background job inherits: it ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_what_is_in_work(tmp_path: Path, number: int, code: int) -> None:
    folder = nw.train("sklearn:iris", epochs=1, run_dir=tmp_path / "run").folder
    command = [sys.executable, "-m", "netwright", "serve", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c)
    try:
        assert process.stdout is not None
        address = [process.stdout.readline() for _ in range(2)][-1].strip()
        port = int(address.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/openapi.json")
        example = json.loads(connection.getresponse().read())["paths"]["/predict"]["post"]["requestBody"]["content"]
        body = json.dumps(example["application/json"]["example"]).encode()
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:5])
        time.sleep(0.3)
        os.kill(process.pid, number)
        time.sleep(0.5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        connection.send(body[5:])
        answer = connection.getresponse()
        assert (answer.status, next(iter(json.loads(answer.read())))) == (200, "predictions")
        connection.close()
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == code
    assert "Traceback" not in errors
