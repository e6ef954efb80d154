"""Marshmallow schemas of responses, for the OpenAPI document.

They describe and do not serialize: responses are made of plain dictionaries. Tests validate real
responses against the document.
"""

from __future__ import annotations

from typing import Any

from marshmallow import EXCLUDE, Schema, fields, validate


class _Response(Schema):
    """What all responses share: they may have more fields than are described."""

    class Meta:
        unknown = EXCLUDE


def _text(description: str, **metadata: Any) -> fields.String:
    return fields.String(required=True, metadata={"description": description, **metadata})


def _enum(description: str, *values: str) -> fields.String:
    one_of = validate.OneOf(values)
    return fields.String(required=True, validate=one_of, metadata={"description": description})


def _count(description: str, minimum: int = 0) -> fields.Integer:
    metadata = {"description": description, "minimum": minimum}
    return fields.Integer(required=True, metadata=metadata)


def _number(description: str, **metadata: Any) -> fields.Float:
    metadata = {"description": description, "minimum": 0, **metadata}
    return fields.Float(required=True, metadata=metadata)


def _flag(description: str) -> fields.Boolean:
    return fields.Boolean(required=True, metadata={"description": description})


def _date_time(description: str) -> fields.DateTime:
    return fields.DateTime(required=True, metadata={"description": description})


def _nested(schema: type[Schema], description: str, required: bool = True) -> fields.Nested:
    return fields.Nested(schema, required=required, metadata={"description": description})


def _list_of(values: fields.Field[Any], description: str) -> fields.List[Any]:
    return fields.List(values, required=True, metadata={"description": description})


def _map_of(values: fields.Field[Any], description: str, required: bool = True) -> fields.Dict:
    return fields.Dict(values=values, required=required, metadata={"description": description})


def _health() -> fields.String:
    return _enum("the state of this part", "healthy", "unhealthy", "degraded", "disabled")


# Portfolios


class PortfolioSchema(_Response):
    portfolioId = _text("the id, 24 hexadecimal digits", pattern="^[0-9a-f]{24}$")
    name = _text("the name; several portfolios can have the same one")
    dateCreated = _date_time("when it was created; UTC, milliseconds, with Z")
    version = fields.Integer(
        required=True,
        metadata={
            "format": "int64",
            "description": "1 at creation unless given; +1 with each change",
        },
    )


# Some fields of a portfolio: those that the parameter ``fields`` names.
partial_portfolio = PortfolioSchema(partial=True)


def _portfolios(schema: Any = PortfolioSchema) -> fields.List[Any]:
    return _list_of(fields.Nested(schema), "the portfolios, in order")


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
    nextCursor = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "the cursor of the next page; null on the last page"},
    )


class PortfolioPageSchema(_Response):
    portfolios = _portfolios()
    pagination = fields.Raw(
        required=True,
        metadata={
            "description": "by offset, or by cursor if the request has one",
            "anyOf": [
                {"$ref": "#/components/schemas/Pagination"},
                {"$ref": "#/components/schemas/CursorPagination"},
            ],
        },
    )


class FastPortfolioPageSchema(_Response):
    portfolios = _portfolios()
    pagination = _nested(PaginationSchema, "the place of this page among all")
    processingTimeMs = _number("milliseconds that the service took")


class MissingPortfoliosSchema(_Response):
    ids = _list_of(fields.String(), "ids of the request that no portfolio has, each once")
    names = _list_of(fields.String(), "spellings of names that no portfolio has, each once")


class PortfolioResolutionSchema(_Response):
    portfolios = _portfolios()
    missing = _nested(MissingPortfoliosSchema, "what no portfolio has")


# With ``fields``. A generated client gets either, so that without it no field is optional.


class PartialPortfolioPageSchema(PortfolioPageSchema):
    portfolios = _portfolios(partial_portfolio)


class PartialFastPortfolioPageSchema(FastPortfolioPageSchema):
    portfolios = _portfolios(partial_portfolio)


class PartialPortfolioResolutionSchema(PortfolioResolutionSchema):
    portfolios = _portfolios(partial_portfolio)


class BulkCreateResultSchema(_Response):
    portfolios = _portfolios()
    count = _count("portfolios created")
    processingTimeMs = _number("milliseconds that the service took")


class IdValidationResultSchema(_Response):
    valid = _list_of(fields.String(), "ids of portfolios that exist")
    invalid = _list_of(fields.String(), "ids of portfolios that don't")
    inactive = _list_of(fields.String(), "always empty")


# Errors


def _code() -> fields.Raw:
    metadata = {
        "description": "what is wrong, in a word for programs",
        # apispec drops a bare $ref.
        "allOf": [{"$ref": "#/components/schemas/ErrorCode"}],
    }
    return fields.Raw(required=True, metadata=metadata)


class ErrorSchema(_Response):
    detail = _text("what is wrong, in a sentence")
    code = _code()


class FieldErrorSchema(_Response):
    loc = _list_of(
        fields.Raw(metadata={"type": ["string", "integer"]}),
        "the path to the value; body, query or path first",
    )
    msg = _text("what is wrong, in a sentence")
    type = _text("the kind of error, for programs")


class ValidationErrorSchema(_Response):
    detail = _list_of(fields.Nested(FieldErrorSchema), "every error of the request")
    code = _code()


# Health


class ServiceInfoSchema(_Response):
    message = _text("the name of the service")
    version = _text("the version of the API")
    environment = _enum("the profile", "development", "staging", "production")
    status = _text("always operational")
    features = _map_of(fields.Boolean(), "whether each optional feature is on")


class _Probe(_Response):
    timestamp = _date_time("when the response was made")
    service = _text("the name of the service")
    probe_type = _text("which probe this is")
    response_time_ms = _number("milliseconds that the check took")


class LivenessSchema(_Probe):
    status = _enum("always alive", "alive")
    cached = _flag("always false")


class DatabaseStatusSchema(_Response):
    status = _health()
    response_time_ms = _number("milliseconds that the latest ping took")


class BreakersStatusSchema(_Response):
    status = _health()
    healthy_ratio = _number("fraction of the breakers that are closed", maximum=1)


class ReadinessChecksSchema(_Response):
    database = _nested(DatabaseStatusSchema, "MongoDB")
    circuit_breakers = _nested(BreakersStatusSchema, "the circuit breakers")


class ReadinessSchema(_Probe):
    status = _enum("whether requests can be served", "ready", "not_ready")
    checks = _nested(ReadinessChecksSchema, "what readiness depends on")


class StartupSchema(_Probe):
    status = _enum("whether MongoDB was reached", "started", "starting")


class PoolSchema(_Response):
    max = _count("connections allowed")
    min = _count("connections kept open")
    in_use = _count("connections in use")
    available = _count("connections that can still be checked out")
    waiting = _count("callers that wait for a connection")


class DatabaseReportSchema(DatabaseStatusSchema):
    server_version = _text("the version of MongoDB")
    topology = _enum("the topology", "standalone", "replica set", "sharded", "unknown")
    pool = _nested(PoolSchema, "the connections of all workers")


class BreakerSchema(_Response):
    state = _enum("the state, of all workers the worst", "closed", "half-open", "open")
    failure_count = _count("consecutive failures")


class BreakersReportSchema(_Response):
    status = _health()
    total_breakers = _count("breakers")
    healthy_breakers = _count("breakers that are closed")
    open_breakers = _count("breakers that are open")
    overall_health = _health()
    breakers = _map_of(fields.Nested(BreakerSchema), "each breaker by its name")


class CacheReportSchema(_Response):
    status = _health()
    size = _count("entries")
    max_size = _count("entries allowed")
    hits = _count("look-ups answered from the cache")
    misses = _count("look-ups that were not")
    hit_rate = _number("fraction of look-ups answered from the cache", maximum=1)
    evictions = _count("entries removed to make room")


class HealthChecksSchema(_Response):
    database = _nested(DatabaseReportSchema, "MongoDB")
    circuit_breakers = _nested(BreakersReportSchema, "the circuit breakers")
    validation_cache = _nested(CacheReportSchema, "the validation cache")
    telemetry = fields.Dict(metadata={"description": "the exports of metrics and spans"})


class HealthReportSchema(_Probe):
    status = _enum("the worst state of all parts", "healthy", "unhealthy")
    version = _text("the version of the API")
    environment = _text("the profile")
    checks = _nested(HealthChecksSchema, "the state of each part, over all workers")


class ServiceMetricsSchema(_Response):
    service = _text("the name of the service")
    timestamp = _date_time("when the response was made")
    uptime_seconds = _number("seconds since the start")
    pool = _nested(PoolSchema, "the connections of all workers", required=False)
    circuit_breakers = _map_of(
        fields.Nested(BreakerSchema), "each breaker by its name", required=False
    )
    validation_cache = _nested(CacheReportSchema, "the validation cache", required=False)


class FastHealthSchema(_Response):
    status = _enum("always healthy", "healthy")
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
    fastPath = _nested(FastPathLimitsSchema, "the limits")
    environment = _nested(FastPathEnvironmentSchema, "how the service runs")
    endpoints = _map_of(fields.String(), "what each endpoint does, by its path")
