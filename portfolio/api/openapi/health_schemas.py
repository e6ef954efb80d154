"""Marshmallow schemas of the service's information and health; see ``response_schemas``."""

from __future__ import annotations

from marshmallow import fields

from portfolio.api.openapi.response_schemas import (
    Count,
    DateTime,
    Flag,
    ListOf,
    Nested,
    Number,
    Response,
    Text,
    field,
    map_of,
)

_health = Text("the state of this part", enum=["healthy", "unhealthy", "degraded", "disabled"])


class ServiceInfoSchema(Response):
    message = Text("the name of the service")
    version = Text("the version of the API")
    environment = Text("the profile", enum=["development", "staging", "production"])
    status = Text("always operational")
    features = map_of("whether each optional feature is on", fields.Boolean())


class _Probe(Response):
    timestamp = DateTime("when the response was made")
    service = Text("the name of the service")
    probe_type = Text("which probe this is")
    response_time_ms = Number("milliseconds that the check took")


class LivenessSchema(_Probe):
    status = Text("always alive", enum=["alive"])
    cached = Flag("always false")


class DatabaseStatusSchema(Response):
    status = _health
    response_time_ms = Number("milliseconds that the latest ping took")


class BreakersStatusSchema(Response):
    status = _health
    healthy_ratio = Number("fraction of the breakers that are closed", maximum=1)


class ReadinessChecksSchema(Response):
    database = Nested("MongoDB", DatabaseStatusSchema)
    circuit_breakers = Nested("the circuit breakers", BreakersStatusSchema)


class ReadinessSchema(_Probe):
    status = Text("whether requests can be served", enum=["ready", "not_ready"])
    checks = Nested("what readiness depends on", ReadinessChecksSchema)


class StartupSchema(_Probe):
    status = Text("whether MongoDB was reached", enum=["started", "starting"])


class PoolSchema(Response):
    max = Count("connections allowed")
    min = Count("connections kept open")
    in_use = Count("connections in use")
    available = Count("connections that can still be checked out")
    waiting = Count("callers that wait for a connection")


class DatabaseReportSchema(DatabaseStatusSchema):
    server_version = Text("the version of MongoDB")
    topology = Text("the topology", enum=["standalone", "replica set", "sharded", "unknown"])
    pool = Nested("the connections of all workers", PoolSchema)


class BreakerSchema(Response):
    state = Text("the state, of all workers the worst", enum=["closed", "half-open", "open"])
    failure_count = Count("consecutive failures")


class BreakersReportSchema(Response):
    status = _health
    total_breakers = Count("breakers")
    healthy_breakers = Count("breakers that are closed")
    open_breakers = Count("breakers that are open")
    overall_health = _health
    breakers = map_of("each breaker by its name", fields.Nested(BreakerSchema))


class CacheReportSchema(Response):
    status = _health
    size = Count("entries")
    max_size = Count("entries allowed")
    hits = Count("look-ups answered from the cache")
    misses = Count("look-ups that were not")
    hit_rate = Number("fraction of look-ups answered from the cache", maximum=1)
    evictions = Count("entries removed to make room")


class HealthChecksSchema(Response):
    database = Nested("MongoDB", DatabaseReportSchema)
    circuit_breakers = Nested("the circuit breakers", BreakersReportSchema)
    validation_cache = Nested("the validation cache", CacheReportSchema)
    telemetry = field(fields.Dict, "the exports of metrics and spans", required=False)


class HealthReportSchema(_Probe):
    status = Text("the worst state of all parts", enum=["healthy", "unhealthy"])
    version = Text("the version of the API")
    environment = Text("the profile")
    checks = Nested("the state of each part, over all workers", HealthChecksSchema)


class LatencySchema(Response):
    mean = Number("the mean")
    p50 = Number("the median")
    p95 = Number("the 95th percentile")
    p99 = Number("the 99th percentile")


class EndpointMetricsSchema(Response):
    count = Count("requests answered")
    errors = Count("requests answered with 500 or above")
    latency_ms = Nested("milliseconds until the last byte", LatencySchema)
    buckets = ListOf("requests in each bucket", fields.Integer())


class RequestMetricsSchema(Response):
    total = Count("requests answered")
    in_flight = Count("requests in flight")
    errors = Count("requests answered with 500 or above")
    by_status = map_of("requests by their status", fields.Integer())
    latency_ms = Nested("milliseconds until the last byte", LatencySchema)
    bounds_ms = ListOf("the upper bounds of all buckets but the last, in ms", fields.Float())
    endpoints = map_of("the requests by method and route", fields.Nested(EndpointMetricsSchema))


class ProcessMetricsSchema(Response):
    pid = field(fields.Integer, "the id of the process")
    cpu_seconds = Number("CPU time used")
    memory_bytes = Count("resident memory")
    max_memory_bytes = Count("the most resident memory so far")


class ServiceMetricsSchema(Response):
    service = Text("the name of the service")
    timestamp = DateTime("when the response was made")
    uptime_seconds = Number("seconds since the start")
    requests = Nested("the requests to all workers", RequestMetricsSchema)
    portfolios = map_of(
        "how often something happened to portfolios, by the version of the API",
        fields.Dict(values=fields.Integer()),
    )
    circuit_breakers = map_of("each breaker by its name", fields.Nested(BreakerSchema))
    validation_cache = Nested("the validation cache", CacheReportSchema)
    pool = Nested("the connections of all workers", PoolSchema)
    process = Nested("all workers together", ProcessMetricsSchema)
    workers = ListOf("each worker, this one first", fields.Nested(ProcessMetricsSchema))
