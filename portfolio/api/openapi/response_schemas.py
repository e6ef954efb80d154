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


def _text(description: str | None = None, **metadata: Any) -> fields.String:
    return fields.String(required=True, metadata=_described(description, metadata))


def _enum(*values: str) -> fields.String:
    return fields.String(required=True, validate=validate.OneOf(values))


def _count(description: str | None = None, minimum: int = 0) -> fields.Integer:
    return fields.Integer(required=True, metadata=_described(description, {"minimum": minimum}))


def _number(**metadata: Any) -> fields.Float:
    return fields.Float(required=True, metadata={"minimum": 0, **metadata})


def _flag(description: str | None = None) -> fields.Boolean:
    return fields.Boolean(required=True, metadata=_described(description, {}))


def _date_time(description: str | None = None) -> fields.DateTime:
    return fields.DateTime(required=True, metadata=_described(description, {}))


def _nested(schema: type[Schema], **kwargs: Any) -> fields.Nested:
    return fields.Nested(schema, **{"required": True, **kwargs})


def _texts(description: str) -> fields.List[str]:
    return fields.List(fields.String(), required=True, metadata={"description": description})


def _map_of(values: fields.Field[Any], **kwargs: Any) -> fields.Dict:
    return fields.Dict(values=values, **{"required": True, **kwargs})


def _described(description: str | None, metadata: dict[str, Any]) -> dict[str, Any]:
    return metadata if description is None else {"description": description, **metadata}


def _health() -> fields.String:
    return _enum("healthy", "unhealthy", "degraded", "disabled")


# Portfolios


class PortfolioSchema(_Response):
    portfolioId = _text(pattern="^[0-9a-f]{24}$")
    name = _text()
    dateCreated = _date_time("UTC, milliseconds, with Z")
    version = fields.Integer(
        required=True,
        metadata={
            "format": "int64",
            "description": "1 at creation unless given; +1 with each change",
        },
    )


def _portfolios() -> fields.List[Any]:
    return fields.List(fields.Nested(PortfolioSchema), required=True)


class PaginationSchema(_Response):
    totalElements = _count("portfolios that match, on all pages")
    totalPages = _count()
    currentPage = _count("offset divided by limit; the first is 0")
    pageSize = _count("the limit of the request", minimum=1)
    hasNext = _flag("whether a portfolio lies beyond this page")
    hasPrevious = _flag()


class CursorPaginationSchema(_Response):
    pageSize = _count("the limit of the request", minimum=1)
    hasNext = _flag("whether a portfolio lies beyond this page")
    nextCursor = fields.String(
        required=True, allow_none=True, metadata={"description": "the cursor of the next page"}
    )


class PortfolioPageSchema(_Response):
    portfolios = _portfolios()
    pagination = fields.Raw(
        required=True,
        metadata={
            "anyOf": [
                {"$ref": "#/components/schemas/Pagination"},
                {"$ref": "#/components/schemas/CursorPagination"},
            ]
        },
    )


class FastPortfolioPageSchema(_Response):
    portfolios = _portfolios()
    pagination = _nested(PaginationSchema)
    processingTimeMs = _number()


class BulkCreateResultSchema(_Response):
    portfolios = _portfolios()
    count = _count()
    processingTimeMs = _number()


class IdValidationResultSchema(_Response):
    valid = _texts("ids of portfolios that exist")
    invalid = _texts("ids of portfolios that don't")
    inactive = _texts("always empty")


# Errors


class ErrorSchema(_Response):
    detail = _text("what is wrong, in a sentence")


class FieldErrorSchema(_Response):
    loc = fields.List(
        fields.Raw(metadata={"type": ["string", "integer"]}),
        required=True,
        metadata={"description": "the path to the value; body, query or path first"},
    )
    msg = _text()
    type = _text("the kind of error, for programs")


class ValidationErrorSchema(_Response):
    detail = fields.List(fields.Nested(FieldErrorSchema), required=True)


# Health


class ServiceInfoSchema(_Response):
    message = _text()
    version = _text()
    environment = _enum("development", "staging", "production")
    status = _text()
    features = _map_of(fields.Boolean())


class _Probe(_Response):
    timestamp = _date_time()
    service = _text()
    probe_type = _text()
    response_time_ms = _number()


class LivenessSchema(_Probe):
    status = _enum("alive")
    cached = _flag()


class DatabaseStatusSchema(_Response):
    status = _health()
    response_time_ms = _number()


class BreakersStatusSchema(_Response):
    status = _health()
    healthy_ratio = _number(maximum=1)


class ReadinessChecksSchema(_Response):
    database = _nested(DatabaseStatusSchema)
    circuit_breakers = _nested(BreakersStatusSchema)


class ReadinessSchema(_Probe):
    status = _enum("ready", "not_ready")
    checks = _nested(ReadinessChecksSchema)


class StartupSchema(_Probe):
    status = _enum("started", "starting")


class PoolSchema(_Response):
    max = _count()
    min = _count()
    in_use = _count()
    available = _count()
    waiting = _count()


class DatabaseReportSchema(DatabaseStatusSchema):
    server_version = _text()
    topology = _enum("standalone", "replica set", "sharded", "unknown")
    pool = _nested(PoolSchema)


class BreakerSchema(_Response):
    state = _enum("closed", "half-open", "open")
    failure_count = _count()


class BreakersReportSchema(_Response):
    status = _health()
    total_breakers = _count()
    healthy_breakers = _count()
    open_breakers = _count()
    overall_health = _health()
    breakers = _map_of(fields.Nested(BreakerSchema))


class CacheReportSchema(_Response):
    status = _health()
    size = _count()
    max_size = _count()
    hits = _count()
    misses = _count()
    hit_rate = _number(maximum=1)
    evictions = _count()


class HealthChecksSchema(_Response):
    database = _nested(DatabaseReportSchema)
    circuit_breakers = _nested(BreakersReportSchema)
    validation_cache = _nested(CacheReportSchema)
    telemetry = fields.Dict()


class HealthReportSchema(_Probe):
    status = _enum("healthy", "unhealthy")
    version = _text()
    environment = _text()
    checks = _nested(HealthChecksSchema)


class ServiceMetricsSchema(_Response):
    service = _text()
    timestamp = _date_time()
    uptime_seconds = _number()
    pool = _nested(PoolSchema, required=False)
    circuit_breakers = _map_of(fields.Nested(BreakerSchema), required=False)
    validation_cache = _nested(CacheReportSchema, required=False)


class FastHealthSchema(_Response):
    status = _enum("healthy")
    service = _text()
    timestamp = _date_time()


class FastPathLimitsSchema(_Response):
    enabled = _flag()
    maxBulkSize = _count()
    maxRequestSizeBytes = _count()


class FastPathEnvironmentSchema(_Response):
    profile = _text()
    databaseTracing = _flag()


class FastPathStatsSchema(_Response):
    fastPath = _nested(FastPathLimitsSchema)
    environment = _nested(FastPathEnvironmentSchema)
    endpoints = _map_of(fields.String())
