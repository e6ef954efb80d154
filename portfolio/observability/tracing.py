"""Spans: one for each sampled request and, where enabled, one for each of its commands."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    TracerProvider,
    format_span_id,
    format_trace_id,
    get_current_span,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from portfolio.observability.logging import request_id
from portfolio.observability.metrics import ENDPOINT, METHODS
from portfolio.observability.trace_context import TraceContext, trace_context, unsampled

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class TracingMiddleware:
    """WSGI middleware around Flask that makes a span of each sampled request.

    The caller's decision holds; without one, a fraction of the requests, from 0 to 1, is sampled.
    No span carries a query or a header: they hold names of portfolios and keys.
    """

    def __init__(self, app: WSGIApplication, sample_rate: float) -> None:
        self._app = app
        self._sample_rate = sample_rate
        self._tracer: Tracer | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        parent = trace_context.get()
        sampled = parent.sampled if parent is not None else random.random() < self._sample_rate
        if not sampled or self._tracer is None:
            trace_context.set(unsampled(parent))
            return self._app(environ, start_response)
        span = _start_span(self._tracer, environ, parent)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            _describe(span, environ, status)
            return start_response(status, headers, exc_info)

        with use_span(span, end_on_exit=True):
            return self._app(environ, start)

    def start(self, provider: TracerProvider) -> None:
        """Trace requests, in the worker: their spans go to ``provider`` from now on."""
        self._tracer = provider.get_tracer(__name__)

    def stop(self) -> None:
        """Trace no further request."""
        self._tracer = None


class CommandSpans(CommandListener):
    """A PyMongo listener that makes a child span of each command of a sampled request.

    Pings in the background and the commands of other requests are not traced; nor are those of a
    streamed response, which follow the end of the request's span.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer(__name__)
        self._spans: dict[int, Span] = {}

    def started(self, event: CommandStartedEvent) -> None:
        """Begin a span."""
        if not get_current_span().is_recording():
            return
        name, database = event.command_name, event.database_name
        host, port = event.connection_id
        attributes: dict[str, str | int] = {
            "db.system": "mongodb",
            "db.name": database,
            "db.statement": name,
            "net.peer.name": host,
            "net.peer.port": port or 0,
        }
        collection = event.command.get(name)
        if isinstance(collection, str):
            attributes["db.mongodb.collection"] = collection
        span = self._tracer.start_span(f"{database}.{name}", None, SpanKind.CLIENT, attributes)
        self._spans[event.request_id] = span

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """End the span."""
        span = self._spans.pop(event.request_id, None)
        if span is not None:
            span.end()

    def failed(self, event: CommandFailedEvent) -> None:
        """End the span as an error."""
        span = self._spans.pop(event.request_id, None)
        if span is not None:
            span.set_status(StatusCode.ERROR, event.failure.get("errmsg"))
            span.end()


def _start_span(tracer: Tracer, environ: WSGIEnvironment, parent: TraceContext | None) -> Span:
    carrier = {
        "traceparent": parent.traceparent if parent else "",
        "tracestate": environ.get("HTTP_TRACESTATE", ""),
    }
    method = environ["REQUEST_METHOD"]
    attributes = {
        "http.request.method": method if method in METHODS else "_OTHER",
        "url.path": environ["PATH_INFO"],
        "client.address": environ.get("REMOTE_ADDR", ""),
        "request.id": request_id.get(),
    }
    context = TraceContextTextMapPropagator().extract(carrier)
    span = tracer.start_span(method, context, SpanKind.SERVER, attributes)
    own = span.get_span_context()
    ids = format_trace_id(own.trace_id), format_span_id(own.span_id)
    trace_context.set(TraceContext(*ids, sampled=True))
    return span


def _describe(span: Span, environ: WSGIEnvironment, status: str) -> None:
    """Add to ``span`` what is known when the response starts."""
    code, endpoint = int(status[:3]), environ.get(ENDPOINT)
    if endpoint is not None:
        span.set_attribute("http.route", endpoint)
    # Not the raw path, which has no bound.
    span.update_name(f"{environ['REQUEST_METHOD']} {endpoint or 'unmatched'}")
    span.set_attribute("http.response.status_code", code)
    if code >= 500:
        span.set_attribute("error.type", str(code))
        span.set_status(StatusCode.ERROR)
