"""What applies to every request: request id, deadline, common headers, metrics, request log.

WSGI middleware instead of Flask hooks, so that it covers responses that Flask never sees.
"""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Iterable, Iterator
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
        scope = _RequestScope(self, environ, start_response)
        path = environ["PATH_INFO"]
        # Only a path in its normal form passes, so that every check sees the same path: Werkzeug,
        # which strips leading slashes, would route others too. The empty path is the root.
        app = self.app if path[:1] in ("", "/") and path[:2] != "//" else _not_found
        # What ``budget`` does, without the calls of a context manager in each request.
        token = deadline.set(time.monotonic() + self.budget_s)
        try:
            scope.body = app(environ, scope.start_response)
        except BaseException:
            scope.close()
            raise
        finally:
            deadline.reset(token)
        return scope


class _RequestScope:
    """One request, until the last byte of its response was sent."""

    __slots__ = ("_begun", "_environ", "_middleware", "_start", "_status", "_token", "body")

    def __init__(
        self,
        middleware: RequestContextMiddleware,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> None:
        self._begun = time.perf_counter()
        self._middleware = middleware
        self._environ = environ
        self._start = start_response
        self._status = "500"
        self.body: Iterable[bytes] = ()
        self._token = request_id.set(request_id_for(environ.get("HTTP_X_REQUEST_ID", "")))
        traceparent = environ.get("HTTP_TRACEPARENT")
        trace_context.set(parse(traceparent) if traceparent else None)
        middleware.metrics.requests_in_flight += 1

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Any:
        """Add the headers that all responses have; those that this one sets itself win."""
        self._status = status
        if self._environ.get("HTTP_ORIGIN"):
            headers += cors_headers(self._environ, self._middleware.origins)
        given = dict(headers)
        headers += [header for header in self._middleware.headers if header[0] not in given]
        headers.append(("X-Request-ID", request_id.get()))
        trace = trace_context.get()
        if trace is not None:
            headers.append(("traceparent", trace.traceparent))
        return self._start(status, headers, exc_info)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.body)

    def close(self) -> None:
        """End the request; called by the WSGI server."""
        close = getattr(self.body, "close", None)
        try:
            if close is not None:
                close()
        finally:
            seconds = time.perf_counter() - self._begun
            environ, status, middleware = self._environ, self._status[:3], self._middleware
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            endpoint = environ.get(ENDPOINT, "unmatched")
            middleware.metrics.requests_in_flight -= 1
            middleware.metrics.answered(method, endpoint, status, seconds)
            # A probe that reports 503 has not failed. Its cause is logged once, where it happens;
            # so is an overload.
            failed = status >= "5" and not (path.startswith("/health") and status == "503")
            rate = middleware.log_level_controller.request_sampling_rate
            if endpoint != REJECTED and (failed or random.random() < rate):
                fields = {
                    "method": method,
                    # WSGI decodes paths as Latin-1.
                    "path": path.encode("latin-1").decode(errors="replace"),
                    "endpoint": endpoint,
                    "status": int(status),
                    "duration_ms": round(seconds * 1000, 3),
                }
                log.log(logging.ERROR if failed else logging.INFO, "request", extra=fields)
            request_id.reset(self._token)
