"""What applies to every request: request id, deadline, common headers, metrics, request log.

WSGI middleware instead of Flask hooks, so that it covers responses that Flask never sees.
"""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from portfolio.config import Settings
from portfolio.errors import ErrorCode, error_body
from portfolio.middleware.cors import cors_headers
from portfolio.observability.logging import LogLevelController, request_id
from portfolio.observability.metrics import ENDPOINT, REJECTED, Metrics
from portfolio.observability.trace_context import parse, trace_context
from portfolio.scheduling import deadline

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

_SANE_REQUEST_ID = re.compile(r"[\x20-\x7e]{1,128}")

# Section 6 of the contract.
_SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]
_PRODUCTION_HEADERS = [
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
]


def common_headers(settings: Settings) -> list[tuple[str, str]]:
    """Return the headers of every response, apart from its request id."""
    return _SECURITY_HEADERS + (_PRODUCTION_HEADERS if settings.profile == "production" else [])


def error_app(status: str, code: ErrorCode, detail: str, *more: tuple[str, str]) -> WSGIApplication:
    """Return a WSGI application that answers every request with one error.

    ``status`` is the status line, and ``more`` has further headers.
    """
    body = orjson.dumps(error_body(code, detail))
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *more]

    def answer(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, headers.copy())
        return [body]

    return answer


_not_found = error_app("404 NOT FOUND", ErrorCode.NOT_FOUND, "Not Found")


def request_id_for(given: str) -> str:
    """Return the request id that a client has sent, or a new one if that is not valid."""
    return given if _SANE_REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


class RequestContextMiddleware:
    """WSGI middleware that gives each request its context, counts it and logs it."""

    def __init__(
        self,
        app: WSGIApplication,
        settings: Settings,
        metrics: Metrics,
        log_level_controller: LogLevelController,
    ) -> None:
        self.app = app
        self.budget_s = settings.request_timeout_ms / 1000
        self.headers = common_headers(settings)
        self.origins = {origin.lower() for origin in settings.cors_origins}
        self.metrics = metrics
        self.log_level_controller = log_level_controller

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        begun = time.perf_counter()
        path = environ["PATH_INFO"]
        status = "500"
        parts: Iterable[bytes] = ()
        id_token = request_id.set(request_id_for(environ.get("HTTP_X_REQUEST_ID", "")))
        traceparent = environ.get("HTTP_TRACEPARENT")
        trace_context.set(parse(traceparent) if traceparent else None)
        self.metrics.requests_in_flight += 1

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            """Add the headers that all responses have; those that this one sets itself win."""
            nonlocal status
            status = line[:3]
            if environ.get("HTTP_ORIGIN"):
                headers += cors_headers(environ, self.origins)
            given = dict(headers)
            headers += [header for header in self.headers if header[0] not in given]
            headers.append(("X-Request-ID", request_id.get()))
            if (trace := trace_context.get()) is not None:
                headers.append(("traceparent", trace.traceparent))
            return start_response(line, headers, exc_info)

        def close() -> None:
            """End the request, once the last byte of its response was sent."""
            try:
                if hasattr(parts, "close"):
                    parts.close()
            finally:
                seconds = time.perf_counter() - begun
                endpoint = environ.get(ENDPOINT, "unmatched")
                self.metrics.requests_in_flight -= 1
                self.metrics.answered(environ["REQUEST_METHOD"], endpoint, status, seconds)
                # A probe that reports 503 has not failed. Its cause is logged once, where it
                # happens; so is an overload.
                failed = status >= "5" and not (path.startswith("/health") and status == "503")
                rate = self.log_level_controller.request_sampling_rate
                if endpoint != REJECTED and (failed or random.random() < rate):
                    fields = {
                        "method": environ["REQUEST_METHOD"],
                        # WSGI decodes paths as Latin-1.
                        "path": path.encode("latin-1").decode(errors="replace"),
                        "endpoint": endpoint,
                        "status": int(status),
                        "duration_ms": round(seconds * 1000, 3),
                    }
                    log.log(logging.ERROR if failed else logging.INFO, "request", extra=fields)
                request_id.reset(id_token)

        # Only a path in its normal form passes, so that every check sees the same path: Werkzeug,
        # which strips leading slashes, would route others too. The empty path is the root.
        app = self.app if path[:1] in ("", "/") and path[:2] != "//" else _not_found
        # What ``budget`` does, without the calls of a context manager in each request.
        token = deadline.set(time.monotonic() + self.budget_s)
        try:
            parts = app(environ, start)
        except BaseException:
            close()
            raise
        finally:
            deadline.reset(token)
        body = _Body(parts)
        body.close = close
        return body


class _Body(chain[bytes]):
    """The parts of a response; the WSGI server calls ``close`` after the last."""

    close: Callable[[], None]
