"""The OpenAPI description of a served run, with an example from what the run learned. Floor 17."""

from __future__ import annotations

from typing import Any

from netwright.serving.expectation import Expected
from netwright.serving.limits import Limits

ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}, "additionalProperties": False}
REASONS = {
    400: "No JSON, or a header twice.",
    403: "From a page of another origin.",
    408: "The body did not come whole in time.",
    413: "The body, or the number of rows, is too large.",
    415: "Another content type, or a packed body.",
    421: "Another Host than this server.",
    422: "Rows that do not fit: the line says what came, what was expected, what to do.",
    500: "A bug, told by a number.",
    503: "Too much is in work; Retry-After says when to ask again.",
    504: "No answer in time.",
}


def describe(expected: Expected, limits: Limits, token: bool) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description.

    Args:
        expected: The run and what it reads.
        limits: What the server takes.
        token: Whether requests carry a token.
    """
    ask: list[dict[str, list[str]]] = [{"bearer": []}] if token else []
    outcome = expected.run.program.outcome
    what = f"Predict {', '.join(outcome.names)} ({outcome.task})"
    predict = {
        "summary": what,
        "operationId": "predict",
        "description": f"At most {limits.max_body} bytes, {limits.timeout:g} s, {limits.concurrency} requests at a time.",
        "parameters": _parameters(expected),
        "requestBody": {"required": True, "content": expected.request_content()},
        "responses": {"200": _json("The predictions, in the order of the rows.", expected.reply_schema()), **_errors(token)},
        "security": ask,
    }
    health = {
        "summary": "Whether the server lives, and answers predictions.",
        "operationId": "health",
        "security": [],
        "responses": {
            "200": _json("It does.", {"type": "object"}),
            "503": _json("It lives, but does not answer predictions.", {"type": "object"}),
            **_few_errors(False),
        },
    }
    metrics = {
        "summary": "Counts in the format of Prometheus.",
        "operationId": "metrics",
        "security": ask,
        "responses": {
            "200": {"description": "The counts.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **_few_errors(token),
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": str(expected.run.record.get("name") or "netwright"), "version": "1", "description": what},
        "paths": {"/predict": {"post": predict}, "/health": {"get": health}, "/metrics": {"get": metrics}},
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}} if token else {},
        "x-netwright": expected.form(),
    }


def _parameters(expected: Expected) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if expected.intervals:
        about = "Whether low and high are told, which hold evaluation.coverage of new values."
        found.append({"name": "interval", "in": "query", "description": about, "schema": {"type": "boolean"}})
    if expected.thresholds:
        about = "From which probability on the second class is predicted."
        schema = {"type": "number", "minimum": 0, "maximum": 1}
        found.append({"name": "threshold", "in": "query", "description": about, "schema": schema})
    return found


def _json(about: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _errors(token: bool) -> dict[str, Any]:
    reasons = {**REASONS, **({401: "No token, or another one."} if token else {})}
    return {str(status): _json(about, ERROR) for status, about in sorted(reasons.items())}


def _few_errors(token: bool) -> dict[str, Any]:
    return {status: told for status, told in _errors(token).items() if status in ("400", "401", "403", "421", "500")}
