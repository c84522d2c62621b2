"""The ASGI application of a served run: five addresses, guarded, and nothing else. Floor 17.

GET / (a page to try it by hand), POST /predict, GET /health, /metrics, /openapi.json. Nothing loads, reloads, uploads to the
disk or takes a path or an address.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import Any, final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from netwright.errors import did_you_mean
from netwright.runfolder.broadcasting import HEADERS
from netwright.serving import counting
from netwright.serving.answering import Answerer, Question, Reply, bug, refusal
from netwright.serving.batching import Batcher, BusyError, ClientLeftError
from netwright.serving.bodies import BODY, RefusedError
from netwright.serving.counting import Counts
from netwright.serving.describing import describe
from netwright.serving.expectation import Expected
from netwright.serving.limits import Limits, headers_by_name, is_authorized, is_foreign

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
OnBug = Callable[[str, BaseException], None]
PATHS = ("/", "/predict", "/health", "/metrics", "/openapi.json")
OPEN_PATHS = ("/", "/health")  # without a token: a page without data, and whether the server lives
NOTHING = "default-src 'none'; frame-ancestors 'none'"
CLIENT_LEFT = 499  # nobody reads it; counted


@dataclass(frozen=True)
class Guarding:
    """Who may ask.

    Args:
        hosts: The Host headers that are answered; None for any.
        token: What requests must carry; None for nothing.
    """

    hosts: frozenset[bytes] | None = None
    token: bytes | None = None


def make_application(expected: Expected, limits: Limits, guarding: Guarding, on_bug: OnBug) -> Callable[..., Any]:
    """Return the application.

    Args:
        expected: The run.
        limits: What it takes.
        guarding: Who may ask.
        on_bug: Told the number and the error of a bug.
    """
    service = _Service(Answerer(expected, on_bug), limits, expected)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await service.batcher.stop()

    application = FastAPI(
        title="netwright",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    application.add_api_route("/", service.page, methods=["GET"], include_in_schema=False)
    application.add_api_route("/health", service.health, methods=["GET"])
    application.add_api_route("/metrics", service.metrics, methods=["GET"])
    application.add_api_route("/openapi.json", service.description, methods=["GET"])
    application.add_route("/predict", service.predict, methods=["POST"], include_in_schema=False)
    application.add_exception_handler(HTTPException, _wrong_address)
    service.described = json.dumps(describe(expected, limits, guarding.token is not None)).encode()
    return _Guard(application, service, guarding, on_bug)


async def _wrong_address(request: Request, error: Exception) -> Response:
    """Tell an unknown address or verb in one line."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    text = {
        404: f"no such address; expected one of {', '.join(PATHS)}",
        405: f"this verb is not known here; expected {headers.get('allow') or headers.get('Allow', 'GET')}",
    }.get(status, "no such request; see /openapi.json")
    return Response(refusal(status, text).body, status, headers, "application/json")


@final
class _Service:
    """What the addresses answer."""

    def __init__(self, answerer: Answerer, limits: Limits, expected: Expected) -> None:
        self.limits, self.expected = limits, expected
        self.counts = Counts()
        self.batcher = Batcher(answerer.answer, limits.concurrency, self.counts.batch.observe)
        self.described = b""
        self._held = self._active = 0
        page = (resources("netwright.serving") / "page.html").read_bytes()
        self._page, self._policy = page, policy_of(page.decode())

    async def page(self) -> Response:
        """Return the page to try the run by hand."""
        return Response(self._page, 200, {"Content-Security-Policy": self._policy}, "text/html; charset=utf-8")

    async def health(self) -> Response:
        """Tell whether the server lives, and whether it answers predictions."""
        ready = self.batcher.ready
        tree = {"live": True, "ready": ready, "waiting": self.batcher.waiting}
        return Response(json.dumps(tree), 200 if ready else 503, None, "application/json")

    async def metrics(self) -> Response:
        """Return the counts for Prometheus."""
        self.counts.waiting.set(self.batcher.waiting)
        return Response(self.counts.page(), 200, None, counting.CONTENT_TYPE)

    async def description(self) -> Response:
        """Return the OpenAPI description."""
        return Response(self.described, 200, None, "application/json")

    async def predict(self, request: Request) -> Response:
        """Predict the rows of a body."""
        if self._active >= self.limits.concurrency:
            return _answer(refusal(503, f"{self._active} requests are in work; ask again in a second"))
        self._active += 1
        self.counts.active.inc()
        started = time.perf_counter()
        try:
            reply = await self._predicted(request, started)
        finally:
            self._active -= 1
            self.counts.active.dec()
        if reply.status == 200:
            self.counts.seconds.observe(time.perf_counter() - started)
            self.counts.rows.inc(reply.rows)
        return _answer(reply)

    async def _predicted(self, request: Request, started: float) -> Reply:
        """Return the reply to a request, whatever becomes of it."""
        limits = self.limits
        try:
            wanted = self._wanted(request)
            try:
                async with asyncio.timeout(limits.timeout):
                    body = await self._body(request)
            except TimeoutError:
                raise RefusedError(
                    408, f"{BODY}: not whole after {limits.timeout:g} s; expected it sooner; send it again"
                ) from None
            try:
                question = Question(body, request.headers["content-type"], **wanted)
                rest = max(0.0, limits.timeout - (time.perf_counter() - started))
                return await self.batcher.ask(question, rest, lambda: _left(request.receive))
            finally:
                self._held -= len(body)
        except RefusedError as error:
            return refusal(error.status, str(error))
        except BusyError:
            return refusal(503, "too many requests wait, or the server ends; ask again in a second")
        except TimeoutError:
            return refusal(504, f"no answer within {limits.timeout:g} s; send fewer rows, or ask again later")
        except ClientLeftError:
            self.counts.left.inc()
            return refusal(CLIENT_LEFT, "the client left")

    def _wanted(self, request: Request) -> dict[str, Any]:
        """Check the head of a request and return what it asks for besides the rows.

        Raises:
            RefusedError: 415 for another content type or encoding, 422 for a parameter.
        """
        headers = request.headers
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise RefusedError(415, f"{BODY}: a packed body came; expected it as it is; leave Content-Encoding out")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        known = self.expected.content_types
        if kind not in known:
            raise RefusedError(
                415, f"Content-Type: {kind[:60] or 'nothing'} came; expected one of {', '.join(known)}; set the header"
            )
        return _parameters(request, self.expected)

    async def _body(self, request: Request) -> bytes:
        """Return the body; the caller takes its length from what is held.

        Raises:
            RefusedError: 413 for one that is too large, after dropping it; 503 where too much is held already.
            ClientLeftError: It never came whole.
        """
        limits, parts, size = self.limits, [], 0
        told = int(length) if (length := request.headers.get("content-length", "0")).isdecimal() else 0
        problem: RefusedError | None = None
        if told > limits.max_body:
            problem = _too_large(limits)
        try:
            while True:
                if problem is not None and max(told, size) > limits.max_drained:
                    raise problem
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeftError
                part = message.get("body", b"")
                size += len(part)
                if problem is None and size > limits.max_body:
                    problem = _too_large(limits)
                elif problem is None and self._held + len(part) > limits.max_held:
                    problem = RefusedError(503, "the bodies of other requests fill the memory; ask again in a second")
                if problem is None:
                    parts.append(part)
                    self._held += len(part)
                elif parts:
                    self._held -= sum(map(len, parts))
                    parts.clear()
                if not message.get("more_body", False):
                    break
            if problem is not None:
                raise problem
        except BaseException:  # a cancelled request too gives back what it held
            self._held -= sum(map(len, parts))
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(
        413, f"{BODY}: more than {limits.max_body} bytes came; send the rows in parts, or serve with --max-body"
    )


def _parameters(request: Request, expected: Expected) -> dict[str, Any]:
    """Return the parameters of the address.

    Raises:
        RefusedError: 422 for one that is not known, not for this run, or has another value.
    """
    known = [*(["interval"] if expected.intervals else []), *(["threshold"] if expected.thresholds else [])]
    found: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            advice = did_you_mean(name[:60], known) if known else "this run knows none"
            raise RefusedError(422, f"parameter {name[:60]!r}: not known; {advice}")
        if name in found:
            raise RefusedError(422, f"parameter {name!r}: came twice; expected it once")
        if name == "interval":
            if value not in ("true", "false"):
                raise RefusedError(422, f"parameter 'interval': {value[:40]!r} came; expected true or false")
            found[name] = value == "true"
        else:
            if (
                not re.fullmatch(r"[01](\.\d{1,30})?([eE]-\d{1,3})?|0?\.\d{1,30}", value, re.ASCII)
                or not 0 <= float(value) <= 1
            ):
                raise RefusedError(422, f"parameter 'threshold': {value[:40]!r} came; expected a number from 0 to 1")
            found[name] = float(value)
    return found


async def _left(receive: Receive) -> None:
    """Return when a client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _answer(reply: Reply) -> Response:
    """Return a reply as a response."""
    headers = {"Retry-After": "1"} if reply.status == 503 else {}
    if reply.status == 408:  # of all others uvicorn drops what still comes, so that the sender can read why
        headers["Connection"] = "close"
    return Response(reply.body, reply.status, headers, "application/json")


def policy_of(page: str) -> str:
    """Return the Content-Security-Policy of the page: its own style and script by their digests, nothing from elsewhere."""
    digests = {}
    for tag in ("style", "script"):
        text = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digests[tag] = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digests['style']}'; script-src 'sha256-{digests['script']}'; "
        "connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@final
class _Guard:
    """Stands before the application: who may ask, headers of every answer, counts, and the last net for bugs."""

    def __init__(self, application: Any, service: _Service, guarding: Guarding, on_bug: OnBug) -> None:
        self._application, self._service, self._guarding = application, service, guarding
        self._counts, self._on_bug = service.counts, on_bug

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        path = scope["path"]
        status = 0

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *_more_headers(present)]
            await send(message)

        try:
            reply = self._refused(path, headers_by_name(scope["headers"]))
            if reply is None and path == "/predict" and scope["method"] == "POST":  # the way that is gone often: no routing
                response = await self._service.predict(Request(dict(scope), receive))
                await response(dict(scope), receive, guarded)
            elif reply is None:
                await self._application(scope, receive, guarded)
            else:
                headers = {"WWW-Authenticate": "Bearer"} if reply.status == 401 else {}
                await Response(reply.body, reply.status, headers, "application/json")(dict(scope), receive, guarded)
        except Exception as error:
            told = bug(error, self._on_bug)
            if not status:
                await _answer(told)(dict(scope), receive, guarded)
        finally:
            self._counts.requests.labels(path if path in PATHS else "other", str(status)).inc()

    def _refused(self, path: str, headers: Mapping[bytes, bytes] | None) -> Reply | None:
        """Return why a request may not ask; None where it may."""
        if headers is None:
            return refusal(400, "a header that decides came twice; expected it once")
        hosts, token = self._guarding.hosts, self._guarding.token
        if hosts is not None and headers.get(b"host", b"").lower() not in hosts:
            return refusal(421, "this server answers to its own address only; expected it in the header Host")
        if path != "/" and is_foreign(headers):  # a link may lead to the page, which holds no data
            return refusal(403, "a page of another origin sent this; expected the page of this server, or a program")
        if token is not None and path not in OPEN_PATHS and not is_authorized(headers, token):
            return refusal(401, "no token, or another one; expected the header Authorization: Bearer TOKEN")
        return None


def _more_headers(present: set[bytes]) -> list[tuple[bytes, bytes]]:
    found = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
    return found if b"content-security-policy" in present else [*found, (b"content-security-policy", NOTHING.encode())]
