"""Spans: one a request that is sampled, one a database command below it, and nobody's names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
import requests
from flask import Flask
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent

from portfolio.config import Settings
from portfolio.devserver.mongod import Mongod
from portfolio.observability.trace_context import TraceContext, parse, trace_context
from portfolio.observability.tracing import TracingMiddleware
from tests.support.collector import Collector, attributes_of
from tests.support.gunicorn import Gunicorn
from tests.telemetry.conftest import exporting

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"


def spans(collector: Collector, name: str) -> list[Any]:
    """The spans of that name."""
    return [span for span in collector.spans if span.name == name]


class Run(NamedTuple):
    """What a service answered to requests by their ids, what it logged and what it exported."""

    answers: dict[str, requests.Response]
    log: list[dict[str, Any]]
    collector: Collector


def ask(gunicorn: Gunicorn, **headers: dict[str, str]) -> dict[str, requests.Response]:
    """Search once for each request id, with the headers given for it."""
    return {
        request_id: requests.get(
            f"{gunicorn.url}/api/v2/portfolios?name=Secret",
            headers={"X-Request-ID": request_id, **more},
            timeout=10,
        )
        for request_id, more in headers.items()
    }


@pytest.fixture(scope="module")
def undecided(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A service that samples nothing of its own accord, and traces database commands."""
    folder = tmp_path_factory.mktemp("undecided")
    with exporting(folder, replica_set.uri, METRICS_SAMPLE_RATE="0") as (gunicorn, collector):
        answers = ask(
            gunicorn,
            sampled={"traceparent": SAMPLED},
            unsampled={"traceparent": UNSAMPLED},
            undecided={},
        )
        gunicorn.stop()
        yield Run(answers, gunicorn.log_lines(), collector)


@pytest.fixture(scope="module")
def sampling(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A service that samples all, traces no database commands, and asks for a key."""
    folder = tmp_path_factory.mktemp("sampling")
    environment = {
        "METRICS_SAMPLE_RATE": "1",
        "ENABLE_DATABASE_TRACING": "false",
        "API_KEYS": "secret-key",
    }
    with exporting(folder, replica_set.uri, **environment) as (gunicorn, collector):
        key = {"X-API-Key": "secret-key"}
        answers = ask(gunicorn, first=key, second=key, unsampled=key | {"traceparent": UNSAMPLED})
        answers |= ask(gunicorn, refused={})
        requests.get(f"{gunicorn.url}/no/such/path", timeout=10)
        gunicorn.stop()
        yield Run(answers, gunicorn.log_lines(), collector)


def test_one_trace_spans_client_request_and_database(undecided: Run) -> None:
    (request,) = spans(undecided.collector, "GET /api/v2/portfolios")
    # The first read of a worker asks for the commit point as well.
    commands = [
        span for span in undecided.collector.spans if span.parent_span_id == request.span_id
    ]
    assert {attributes_of(command)["db.statement"] for command in commands} == {"find"}
    assert {span.trace_id.hex() for span in (request, *commands)} == {TRACE}
    assert request.parent_span_id.hex() == CALLER
    answer = undecided.answers["sampled"]
    assert answer.headers["traceparent"] == f"00-{TRACE}-{request.span_id.hex()}-01"


def test_a_span_carries_route_status_and_request_id_and_nobodys_names(undecided: Run) -> None:
    (request,) = spans(undecided.collector, "GET /api/v2/portfolios")
    attributes = attributes_of(request)
    assert attributes["http.route"] == "/api/v2/portfolios"
    assert attributes["http.response.status_code"] == 200
    assert attributes["request.id"] == "sampled"
    assert "Secret" not in str(undecided.collector.spans)


def test_an_unsampled_trace_goes_on_in_answer_and_log(undecided: Run) -> None:
    traceparent = undecided.answers["unsampled"].headers["traceparent"]
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-00", traceparent)
    (line,) = [line for line in undecided.log if line["request_id"] == "unsampled"]
    assert (line["trace_id"], line["span_id"]) == (TRACE, traceparent.split("-")[2])


def test_the_rate_decides_where_no_caller_has(undecided: Run, sampling: Run) -> None:
    def traced(run: Run) -> set[str]:
        found = spans(run.collector, "GET /api/v2/portfolios")
        return {attributes_of(span)["request.id"] for span in found}

    assert traced(undecided) == {"sampled"}
    assert traced(sampling) == {"first", "second", "refused"}


def test_commands_are_traced_only_where_database_tracing_is_on(sampling: Run) -> None:
    assert {span.name.split(" ")[0] for span in sampling.collector.spans} == {"GET"}


def test_a_refused_request_has_a_span_and_an_unmatched_one_no_name_of_its_own(
    sampling: Run,
) -> None:
    statuses = {
        attributes_of(span)["request.id"]: attributes_of(span)["http.response.status_code"]
        for span in spans(sampling.collector, "GET /api/v2/portfolios")
    }
    assert statuses["refused"] == 401
    assert len(spans(sampling.collector, "GET unmatched")) == 1


def test_a_failed_command_has_no_text_in_its_span_that_may_name_a_portfolio() -> None:
    app, listeners, exporter = Flask("failing"), [], InMemorySpanExporter()
    trace_context.set(None)  # tests before may have left one that is not sampled
    tracing = TracingMiddleware(app, Settings.from_environment({}), listeners)
    app.wsgi_app = tracing  # type: ignore[method-assign]
    tracing.start(Resource.get_empty(), exporter)

    @app.get("/")
    def fail() -> str:
        call = {"request_id": 1, "connection_id": ("db", 27017), "operation_id": 1}
        failure = {"errmsg": "not authorized to update Secret", "codeName": "Unauthorized"}
        (listener,) = listeners
        listener.started(CommandStartedEvent({"find": "portfolio"}, "portfolio", **call))
        listener.failed(CommandFailedEvent(timedelta(0), failure, "find", **call))
        return ""

    assert app.test_client().get("/").status_code == 200
    tracing.shutdown()
    (command, _) = exporter.get_finished_spans()
    assert command.status.description == "Unauthorized"


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
