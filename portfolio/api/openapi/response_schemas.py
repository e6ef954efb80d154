"""Marshmallow schemas of responses, for the OpenAPI document.

They describe and do not serialize: responses are made of plain dictionaries. Tests validate real
responses against the document.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from marshmallow import EXCLUDE, Schema, fields


class _Response(Schema):
    """What all responses share: they may have more fields than are described."""

    class Meta:
        unknown = EXCLUDE


def _field(kind: Any, description: str, *args: Any, required: bool = True, **metadata: Any) -> Any:
    return kind(*args, required=required, metadata={"description": description, **metadata})


_text = partial(_field, fields.String)
_count = partial(_field, fields.Integer, minimum=0)
_number = partial(_field, fields.Float, minimum=0)
_flag = partial(_field, fields.Boolean)
_date_time = partial(_field, fields.DateTime)
_list = partial(_field, fields.List)
_nested = partial(_field, fields.Nested)


def _map(description: str, values: fields.Field[Any]) -> fields.Dict:
    return fields.Dict(values=values, required=True, metadata={"description": description})


_health = _text("the state of this part", enum=["healthy", "unhealthy", "degraded", "disabled"])


# Portfolios


class PortfolioSchema(_Response):
    portfolioId = _text("the id, 24 hexadecimal digits", pattern="^[0-9a-f]{24}$")
    name = _text("the name; several portfolios can have the same one")
    dateCreated = _date_time("when it was created; UTC, milliseconds, with Z")
    version = _field(
        fields.Integer, "1 at creation unless given; +1 with each change", format="int64"
    )


# Some fields of a portfolio: those that the parameter ``fields`` names.
partial_portfolio = PortfolioSchema(partial=True)

_portfolios = _list("the portfolios, in order", fields.Nested(PortfolioSchema))
_partial_portfolios = _list("the portfolios, in order", fields.Nested(partial_portfolio))


class PaginationSchema(_Response):
    totalElements = _count("portfolios that match, on all pages")
    totalPages = _count("pages of this size")
    currentPage = _count("offset divided by limit; the first is 0")
    pageSize = _count("the limit of the request", minimum=1)
    hasNext = _flag("whether a portfolio lies beyond this page")
    hasPrevious = _flag("whether a portfolio lies before this page")


class CursorPaginationSchema(_Response):
    pageSize = _count("the limit of the request", minimum=1)
    hasNext = _flag("whether a portfolio lies beyond this page")
    nextCursor = _text(
        "the cursor of the next page; null on the last page", type=["string", "null"]
    )


class PortfolioPageSchema(_Response):
    portfolios = _portfolios
    pagination = _field(
        fields.Raw,
        "by offset, or by cursor if the request has one",
        anyOf=[
            {"$ref": "#/components/schemas/Pagination"},
            {"$ref": "#/components/schemas/CursorPagination"},
        ],
    )


class FastPortfolioPageSchema(_Response):
    portfolios = _portfolios
    pagination = _nested("the place of this page among all", PaginationSchema)
    processingTimeMs = _number("milliseconds that the service took")


class MissingPortfoliosSchema(_Response):
    ids = _list("ids of the request that no portfolio has, each once", fields.String())
    names = _list("spellings of names that no portfolio has, each once", fields.String())


class PortfolioResolutionSchema(_Response):
    portfolios = _portfolios
    missing = _nested("what no portfolio has", MissingPortfoliosSchema)


# With ``fields``. A generated client gets either, so that without it no field is optional.
PartialPortfolioPageSchema, PartialFastPortfolioPageSchema, PartialPortfolioResolutionSchema = (
    schema.from_dict({"portfolios": _partial_portfolios}, name=f"Partial{schema.__name__}")
    for schema in (PortfolioPageSchema, FastPortfolioPageSchema, PortfolioResolutionSchema)
)


class BulkCreateResultSchema(_Response):
    portfolios = _portfolios
    count = _count("portfolios created")
    processingTimeMs = _number("milliseconds that the service took")


class IdValidationResultSchema(_Response):
    valid = _list("ids of portfolios that exist", fields.String())
    invalid = _list("ids of portfolios that don't", fields.String())
    inactive = _list("always empty", fields.String())


# Errors


_code = _field(
    fields.Raw,
    "what is wrong, in a word for programs",
    # apispec drops a bare $ref.
    allOf=[{"$ref": "#/components/schemas/ErrorCode"}],
)


class ErrorSchema(_Response):
    detail = _text("what is wrong, in a sentence")
    code = _code


class FieldErrorSchema(_Response):
    loc = _list(
        "the path to the value; body, query or path first",
        fields.Raw(metadata={"type": ["string", "integer"]}),
    )
    msg = _text("what is wrong, in a sentence")
    type = _text("the kind of error, for programs")


class ValidationErrorSchema(_Response):
    detail = _list("every error of the request", fields.Nested(FieldErrorSchema))
    code = _code


# Health


class ServiceInfoSchema(_Response):
    message = _text("the name of the service")
    version = _text("the version of the API")
    environment = _text("the profile", enum=["development", "staging", "production"])
    status = _text("always operational")
    features = _map("whether each optional feature is on", fields.Boolean())


class _Probe(_Response):
    timestamp = _date_time("when the response was made")
    service = _text("the name of the service")
    probe_type = _text("which probe this is")
    response_time_ms = _number("milliseconds that the check took")


class LivenessSchema(_Probe):
    status = _text("always alive", enum=["alive"])
    cached = _flag("always false")


class DatabaseStatusSchema(_Response):
    status = _health
    response_time_ms = _number("milliseconds that the latest ping took")


class BreakersStatusSchema(_Response):
    status = _health
    healthy_ratio = _number("fraction of the breakers that are closed", maximum=1)


class ReadinessChecksSchema(_Response):
    database = _nested("MongoDB", DatabaseStatusSchema)
    circuit_breakers = _nested("the circuit breakers", BreakersStatusSchema)


class ReadinessSchema(_Probe):
    status = _text("whether requests can be served", enum=["ready", "not_ready"])
    checks = _nested("what readiness depends on", ReadinessChecksSchema)


class StartupSchema(_Probe):
    status = _text("whether MongoDB was reached", enum=["started", "starting"])


class PoolSchema(_Response):
    max = _count("connections allowed")
    min = _count("connections kept open")
    in_use = _count("connections in use")
    available = _count("connections that can still be checked out")
    waiting = _count("callers that wait for a connection")


class DatabaseReportSchema(DatabaseStatusSchema):
    server_version = _text("the version of MongoDB")
    topology = _text("the topology", enum=["standalone", "replica set", "sharded", "unknown"])
    pool = _nested("the connections of all workers", PoolSchema)


class BreakerSchema(_Response):
    state = _text("the state, of all workers the worst", enum=["closed", "half-open", "open"])
    failure_count = _count("consecutive failures")


class BreakersReportSchema(_Response):
    status = _health
    total_breakers = _count("breakers")
    healthy_breakers = _count("breakers that are closed")
    open_breakers = _count("breakers that are open")
    overall_health = _health
    breakers = _map("each breaker by its name", fields.Nested(BreakerSchema))


class CacheReportSchema(_Response):
    status = _health
    size = _count("entries")
    max_size = _count("entries allowed")
    hits = _count("look-ups answered from the cache")
    misses = _count("look-ups that were not")
    hit_rate = _number("fraction of look-ups answered from the cache", maximum=1)
    evictions = _count("entries removed to make room")


class HealthChecksSchema(_Response):
    database = _nested("MongoDB", DatabaseReportSchema)
    circuit_breakers = _nested("the circuit breakers", BreakersReportSchema)
    validation_cache = _nested("the validation cache", CacheReportSchema)
    telemetry = _field(fields.Dict, "the exports of metrics and spans", required=False)


class HealthReportSchema(_Probe):
    status = _text("the worst state of all parts", enum=["healthy", "unhealthy"])
    version = _text("the version of the API")
    environment = _text("the profile")
    checks = _nested("the state of each part, over all workers", HealthChecksSchema)


class LatencySchema(_Response):
    mean = _number("the mean")
    p50 = _number("the median")
    p95 = _number("the 95th percentile")
    p99 = _number("the 99th percentile")


class EndpointMetricsSchema(_Response):
    count = _count("requests answered")
    errors = _count("requests answered with 500 or above")
    latency_ms = _nested("milliseconds until the last byte", LatencySchema)
    buckets = _list("requests in each bucket", fields.Integer())


class RequestMetricsSchema(_Response):
    total = _count("requests answered")
    in_flight = _count("requests in flight")
    errors = _count("requests answered with 500 or above")
    by_status = _map("requests by their status", fields.Integer())
    latency_ms = _nested("milliseconds until the last byte", LatencySchema)
    bounds_ms = _list("the upper bounds of all buckets but the last, in ms", fields.Float())
    endpoints = _map("the requests by method and route", fields.Nested(EndpointMetricsSchema))


class ProcessMetricsSchema(_Response):
    pid = _field(fields.Integer, "the id of the process")
    cpu_seconds = _number("CPU time used")
    memory_bytes = _count("resident memory")
    max_memory_bytes = _count("the most resident memory so far")


class ServiceMetricsSchema(_Response):
    service = _text("the name of the service")
    timestamp = _date_time("when the response was made")
    uptime_seconds = _number("seconds since the start")
    requests = _nested("the requests to all workers", RequestMetricsSchema)
    portfolios = _map(
        "how often something happened to portfolios, by the version of the API",
        fields.Dict(values=fields.Integer()),
    )
    circuit_breakers = _map("each breaker by its name", fields.Nested(BreakerSchema))
    validation_cache = _nested("the validation cache", CacheReportSchema)
    pool = _nested("the connections of all workers", PoolSchema)
    process = _nested("all workers together", ProcessMetricsSchema)
    workers = _list("each worker, the one that responds first", fields.Nested(ProcessMetricsSchema))


class FastHealthSchema(_Response):
    status = _text("always healthy", enum=["healthy"])
    service = _text("the name of the fast path")
    timestamp = _date_time("when the response was made")


class FastPathLimitsSchema(_Response):
    enabled = _flag("always true")
    maxBulkSize = _count("portfolios that one request can create")
    maxRequestSizeBytes = _count("bytes that a request body can have")


class FastPathEnvironmentSchema(_Response):
    profile = _text("the profile")
    databaseTracing = _flag("whether database commands have spans")


class FastPathStatsSchema(_Response):
    fastPath = _nested("the limits", FastPathLimitsSchema)
    environment = _nested("how the service runs", FastPathEnvironmentSchema)
    endpoints = _map("what each endpoint does, by its path", fields.String())
