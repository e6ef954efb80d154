"""Spans: one a request that is sampled, one a database command below it, and nobody's names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import requests

from portfolio.telemetry.trace_context import TraceContext, parse
from tests.gunicorn import Gunicorn
from tests.telemetry.collector import Collector, attributes_of
from tests.telemetry.conftest import Script

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"


def spans(collector: Collector, name: str) -> list[Any]:
    """The spans of that name."""
    return [span for span in collector.spans if span.name == name]


def test_one_trace_spans_client_request_and_database(
    collector: Collector, export: Callable[..., Gunicorn]
) -> None:
    gunicorn = export(collector.address)
    answer = requests.get(
        f"{gunicorn.url}/api/v2/portfolios?name=Secret",
        headers={"traceparent": SAMPLED, "X-Request-ID": "req-1"},
        timeout=10,
    )
    gunicorn.stop()

    (request,) = spans(collector, "GET /api/v2/portfolios")
    (command,) = [span for span in collector.spans if span.parent_span_id == request.span_id]
    assert request.trace_id.hex() == command.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == CALLER
    assert answer.headers["traceparent"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    attributes = attributes_of(request)
    assert attributes["http.route"] == "/api/v2/portfolios"
    assert attributes["http.response.status_code"] == 200
    assert attributes["request.id"] == "req-1"
    assert attributes_of(command)["db.statement"] == "find"
    assert "Secret" not in str(collector.spans)


def test_a_callers_decision_holds_and_its_trace_goes_on_without_a_span(
    collector: Collector, export: Callable[..., Gunicorn]
) -> None:
    gunicorn = export(collector.address)
    answer = requests.get(
        f"{gunicorn.url}/api/v2/portfolios",
        headers={"traceparent": UNSAMPLED, "X-Request-ID": "req-2"},
        timeout=10,
    )
    gunicorn.stop()

    assert spans(collector, "GET /api/v2/portfolios") == []
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-00", answer.headers["traceparent"])
    (line,) = [line for line in gunicorn.log_lines() if line["request_id"] == "req-2"]
    assert line["trace_id"] == TRACE
    assert line["span_id"] == answer.headers["traceparent"].split("-")[2]


@pytest.mark.parametrize(("rate", "sampled"), [("0", 0), ("1", 5)])
def test_the_sample_rate_decides_where_no_caller_has(
    rate: str, sampled: int, collector: Collector, export: Callable[..., Gunicorn]
) -> None:
    gunicorn = export(collector.address, METRICS_SAMPLE_RATE=rate)
    for _ in range(5):
        requests.get(f"{gunicorn.url}/api/v2/portfolios", timeout=10)
    gunicorn.stop()
    assert len(spans(collector, "GET /api/v2/portfolios")) == sampled


def test_commands_are_traced_only_where_database_tracing_is_on(
    collector: Collector, export: Callable[..., Gunicorn]
) -> None:
    gunicorn = export(collector.address, ENABLE_DATABASE_TRACING="false")
    requests.get(f"{gunicorn.url}/api/v2/portfolios", timeout=10)
    gunicorn.stop()
    assert {span.name.split(" ")[0] for span in collector.spans} == {"GET"}


def test_a_refused_request_has_a_span_and_an_unmatched_one_no_name_of_its_own(
    collector: Collector, export: Callable[..., Gunicorn], script: type[Script]
) -> None:
    gunicorn = export(collector.address, API_KEYS="secret-key")
    sender = script(gunicorn.url)
    assert sender.send("GET", "/api/v2/portfolios", "").status_code == 401
    assert sender.send("GET", "/no/such/path", "").status_code == 404
    gunicorn.stop()
    assert len(spans(collector, "GET unmatched")) == 1
    (refused,) = spans(collector, "GET /api/v2/portfolios")
    assert attributes_of(refused)["http.response.status_code"] == 401


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (SAMPLED, TraceContext(TRACE, CALLER, True)),
        (UNSAMPLED, TraceContext(TRACE, CALLER, False)),
        (f"00-{TRACE}-{CALLER}-03", TraceContext(TRACE, CALLER, True)),
        (f"cc-{TRACE}-{CALLER}-01-what-the-future-brings", TraceContext(TRACE, CALLER, True)),
        (f"{SAMPLED}-more", None),
        (f"ff-{TRACE}-{CALLER}-01", None),
        (f"00-{'0' * 32}-{CALLER}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (SAMPLED.upper(), None),
        ("", None),
    ],
)
def test_traceparent_is_read_as_the_w3c_recommends(
    header: str, expected: TraceContext | None
) -> None:
    assert parse(header) == expected
