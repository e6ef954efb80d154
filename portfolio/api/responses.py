"""JSON responses, and the error handlers that turn every exception into one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from portfolio.api.flask_app import MAX_BODY_BYTES, JSONResponse
from portfolio.errors import ErrorCode, PortfolioError, code_for_status, error_body
from portfolio.models import CreateResult, Portfolio
from portfolio.timestamps import parse_date, rfc3339

log = logging.getLogger(__name__)

# The entity tag of one version of a portfolio (RFC 9110): its id and version, without the quotes.
TAG = "{}-{}"
TOO_LARGE = f"Request body cannot be larger than {MAX_BODY_BYTES} bytes"


def to_json(value: object) -> dict[str, Any]:
    """Return a portfolio as it is on the wire; the ``default`` of ``orjson.dumps``.

    Raises:
        TypeError: ``value`` is not a portfolio.
    """
    if not isinstance(value, Portfolio):
        raise TypeError(f"{type(value).__name__} is not JSON serializable")
    return {
        "portfolioId": value.id,
        "name": value.name,
        "dateCreated": rfc3339(value.date_created),
        "version": value.version,
    }


EXAMPLE_ID = "65abd8e45c6f2a0c3f1e9b7d"
EXAMPLE = to_json(Portfolio(EXAMPLE_ID, "Growth Fund", parse_date("2024-01-20T14:45:00.123Z"), 1))
# The names of a portfolio's fields on the wire.
FIELDS = tuple(EXAMPLE)


def select_fields(portfolios: Iterable[Portfolio], fields: Sequence[str]) -> list[dict[str, Any]]:
    """Return ``fields``, which are some of ``FIELDS``, of each portfolio."""
    return [{field: each[field] for field in fields} for each in map(to_json, portfolios)]


def json_lines(portfolios: Iterable[Portfolio]) -> bytes:
    """Return ``portfolios`` as JSON, one a line."""
    return b"".join(orjson.dumps(each, to_json, orjson.OPT_APPEND_NEWLINE) for each in portfolios)


class PortfoliosEncoder:
    """Encodes lists of portfolios; concurrent requests that share a list share its JSON too."""

    def __init__(self) -> None:
        self._latest: tuple[object, Sequence[str] | None, bytes] = (None, None, b"")

    def encode(
        self, portfolios: Sequence[Portfolio], fields: Sequence[str] | None
    ) -> orjson.Fragment:
        """Return the JSON of ``portfolios``, which must not change any more, with these fields."""
        known, known_fields, encoded = self._latest
        if known is not portfolios or known_fields != fields:
            chosen = select_fields(portfolios, fields) if fields else portfolios
            encoded = orjson.dumps(chosen, default=to_json)
            self._latest = (portfolios, fields, encoded)
        return orjson.Fragment(encoded)


def json_response(payload: Any, status: int = 200, headers: Mapping[str, str] = {}) -> Response:
    """Return ``payload`` as a JSON response; that of one portfolio has an ``ETag``."""
    body = orjson.dumps(payload, default=to_json)
    response = JSONResponse([body], status, content_type="application/json")
    for name, value in headers.items():
        response.headers.add(name, value)
    if isinstance(payload, Portfolio):
        response.headers.add("ETag", f'"{TAG.format(payload.id, payload.version)}"')
    return response


def replay_header(created: CreateResult) -> dict[str, str]:
    """Return the header that marks a replayed response."""
    return {"Idempotent-Replay": "true"} if created.replayed else {}


def register_error_handlers(app: Flask) -> None:
    """Register the handlers, so that every error is JSON (CONTRACT.md section 6)."""
    app.register_error_handler(PortfolioError, handle_api_error)
    app.register_error_handler(HTTPException, handle_http_error)
    app.register_error_handler(Exception, handle_unexpected_error)


def handle_api_error(error: PortfolioError) -> Response:
    """Return the response to an error of the service's own."""
    return json_response(error_body(error.code, error.detail), error.status, error.headers)


def handle_http_error(error: HTTPException) -> Response:
    """Return the response to an error that Flask or Werkzeug raised."""
    detail = TOO_LARGE if isinstance(error, RequestEntityTooLarge) else error.name
    status = error.code or 500
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    return json_response(error_body(code_for_status(status), detail), status, headers)


def handle_unexpected_error(error: BaseException) -> Response:
    """Log an exception that nothing else handles, and return 500 without its text."""
    log.error("request failed", exc_info=error)
    return json_response(error_body(ErrorCode.INTERNAL_ERROR, "Internal server error"), 500)
