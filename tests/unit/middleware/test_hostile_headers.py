"""No header costs a request much of its worker's time, whatever is in it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.parts import mongomock_app

SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PATHS = ["/health", "/docs", "/api/v1/portfolios", "/api/v1/portfolio/65abd8e45c6f2a0c3f1e9b7d"]
HEADERS = [
    "Accept",
    "Accept-Encoding",
    "Access-Control-Request-Headers",
    "Authorization",
    "baggage",
    "Content-Type",
    "Cookie",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "Range",
    "tracestate",
    "X-Request-ID",
]
# Repetitions that parsers are slow at; the server lets 8 KiB of a header through.
VALUES = ["a={}b", "a;q=0.1,{}", 'a="{}', "a{}"]
REPEATED = ["\t", "a;q=0.1,", '\\"', "; "]
_BYTES = 8000
# Eight times as long a header takes a request up to eight times the time, or 64 times the time if
# that grows with the square of the length.
_LONGER = 8
_MOST_GROWTH = 20
_REPEATS = 3


@pytest.fixture(scope="module")
def traced_client() -> Iterator[FlaskClient]:
    """A client of an application that traces its requests."""
    app = mongomock_app(ENABLE_TRACING="true")
    tracing = app.extensions["portfolio"].telemetry.tracing
    tracing.start(Resource.get_empty(), InMemorySpanExporter())
    yield app.test_client()
    tracing.shutdown()


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_holds_up_a_worker(traced_client: FlaskClient, header: str) -> None:
    def cpu_seconds(path: str, value: str) -> float:
        begun = time.process_time()
        traced_client.get(path, headers={"traceparent": SAMPLED, header: value})
        return time.process_time() - begun

    for path in PATHS:
        traced_client.get(path)
        for value, repeated in zip(VALUES, REPEATED, strict=True):
            count = _BYTES // len(repeated)
            values = [value.format(repeated * n) for n in (count // _LONGER, count)]
            short, long = (min(cpu_seconds(path, v) for _ in range(_REPEATS)) for v in values)
            assert long < _MOST_GROWTH * short, f"{path}, {values[0][:9]!r}: {long / short:.0f}"
