"""What one worker counts, as plain numbers, which the health report and the exporter read.

The instruments of the OpenTelemetry SDK cost more a record and take a lock that greenlets can
deadlock on. Nothing here waits, so greenlets cannot interleave inside it.
"""

from __future__ import annotations

import gc
import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

from werkzeug.routing import Map

from portfolio.errors import PortfolioError
from portfolio.models import CreateResult
from portfolio.storage.database import Database

# Upper bounds of the buckets, in seconds; the runbook's targets are 5, 10, 50 and 200 ms.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)

# Best first. The metric has the index, and the worst state among the workers is reported.
BREAKER_STATES = ("closed", "half-open", "open")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

# Where the WSGI environment holds the route template of a request.
ENDPOINT = "portfolio.endpoint"
# The endpoint of requests that are rejected before they are routed.
REJECTED = "refused"

# The endpoints beside the API's that alerts count.
_PROBES = frozenset({"/health/live", "/health/ready"})
_SUCCESSES = {"GET": ("200",), "POST": ("200", "201"), "PUT": ("200",), "DELETE": ("204",)}
_FAILURES = ("500", "503")

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Attributes = tuple[str, ...]


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where the kernel is not Linux."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def route_template(rule: str) -> str:
    """Return the template of a Flask rule: ``/portfolio/{id}`` for ``/portfolio/<id>``."""
    return rule.replace("<", "{").replace(">", "}")


def initial_requests(routes: Map) -> list[tuple[str, str, str]]:
    """Return method, endpoint and status code of the request series that exist from the start.

    Prometheus sees no increase in a series that appears with a value, so the first burst of errors
    would be invisible to alerts. The successes belong to them: errors alone would count as all of
    the requests of a process that has just started.
    """
    # Rejected in overload, and a connection that failed.
    series = [(method, REJECTED, "503") for method in _SUCCESSES] + [("_OTHER", REJECTED, "500")]
    for rule in routes.iter_rules():
        endpoint = route_template(rule.rule)
        if endpoint.startswith("/api/") or endpoint in _PROBES:
            for method in _SUCCESSES.keys() & (rule.methods or ()):
                statuses = (*_SUCCESSES[method], *_FAILURES)
                series += [(method, endpoint, status) for status in statuses]
    return series


class CacheStatistics(NamedTuple):
    """What a cache did since the worker started."""

    size: int
    max_size: int
    hits: int
    misses: int
    evictions: int

    @property
    def hit_rate(self) -> float:
        """The fraction of look-ups that were answered from the cache, from 0 to 1."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else 0.0


class HistogramData:
    """The durations of one kind of event: their number in each bucket, and their sum in seconds.

    The buckets end at each of ``BOUNDS``; one more is beyond the last.
    """

    __slots__ = ("buckets", "total")

    def __init__(self, buckets: list[int] | None = None, total: float = 0.0) -> None:
        self.buckets = buckets or [0] * (len(BOUNDS) + 1)
        self.total = total

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.buckets)

    def record(self, seconds: float) -> None:
        """Record a duration."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def add(self, other: HistogramData) -> None:
        """Add the durations of ``other``."""
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.total += other.total

    def quantile(self, share: float) -> float:
        """Return the quantile ``share``, from 0 to 1, in seconds, interpolated in its bucket."""
        rank = share * self.count
        below = 0
        for index, count in enumerate(self.buckets):
            if count and below + count >= rank:
                if index == len(BOUNDS):
                    return BOUNDS[-1]
                low = BOUNDS[index - 1] if index else 0.0
                return low + (BOUNDS[index] - low) * (rank - below) / count
            below += count
        return 0.0


# Maps the values of attributes, which must come from bounded sets, to their data.
Histogram = defaultdict[Attributes, HistogramData]


class Metrics:
    """Everything that one worker tells of itself in numbers.

    Args:
        database: whose pool and circuit breaker it reads.
        cache_statistics: returns the counts of the validation cache.

    Attributes:
        requests_in_flight: the requests that have come in and have no complete response yet.
        portfolios: what happened to portfolios, by the version of the API that was called.
        breakers: the circuit breakers of this worker.
        initial_requests: the request series that are exported as 0 until they occur.
    """

    def __init__(self, database: Database, cache_statistics: Callable[[], CacheStatistics]) -> None:
        self.database = database
        self.cache_statistics = cache_statistics
        self.requests_in_flight = 0
        self.requests = Histogram(HistogramData)
        self.bulks = Histogram(HistogramData)
        self.operations = Histogram(HistogramData)
        self.portfolios: dict[str, Counter[str]] = {"creations": Counter()}
        self.breakers = [database.breaker] if database.breaker else []
        self.initial_requests: list[tuple[str, str, str]] = []

    def readers(self) -> dict[str, Callable[[], Mapping[Attributes, Any]]]:
        """Return for each metric of the registry what reads its values, by those of its attributes.

        The values of histograms are ``HistogramData``, all others are numbers.
        """
        cache, database = self.cache_statistics, self.database
        creations = self.portfolios["creations"]
        return {
            "http.requests": lambda: (
                dict.fromkeys(self.initial_requests, 0)
                | {key: found.count for key, found in self.requests.items()}
            ),
            "http.request.duration": lambda: self.requests,
            "http.requests.in_flight": lambda: {(): self.requests_in_flight},
            "portfolio.bulk_operation.duration": lambda: self.bulks,
            "portfolio.creations": lambda: {(api,): creations[api] for api in ("v1", "v2", "fast")},
            "validation_cache.hits": lambda: {(): cache().hits},
            "validation_cache.requests": lambda: {(): cache().hits + cache().misses},
            "validation_cache.hit_rate": lambda: {(): cache().hit_rate},
            "circuit_breaker.state": lambda: {
                (each.name,): BREAKER_STATES.index(each.state) for each in self.breakers
            },
            "circuit_breaker.requests": lambda: {
                (each.name, outcome): count
                for each in self.breakers
                for outcome, count in each.outcomes.items()
            },
            "mongodb.connection_pool.active": lambda: {(): database.pool.in_use},
            "mongodb.connection_pool.available": lambda: {(): database.pool.available},
            "mongodb.connection_pool.max": lambda: {(): database.pool.max},
            "mongodb.connection_pool.waiting": lambda: {(): database.pool.waiting},
            "mongodb.operation.duration": lambda: self.operations,
            "process.cpu.time": lambda: {
                ("user",): os.times().user,
                ("system",): os.times().system,
            },
            "process.memory.usage": lambda: {(): resident_bytes()},
            "process.open_file_descriptor.count": lambda: {(): len(os.listdir("/dev/fd"))},
            "cpython.gc.collections": lambda: {
                (str(index),): each["collections"] for index, each in enumerate(gc.get_stats())
            },
        }

    def answered(self, method: str, endpoint: str, status: str, seconds: float) -> None:
        """Record a request whose response was sent or abandoned.

        Args:
            method: the HTTP method; unknown ones count as ``_OTHER``.
            endpoint: the route template, never the raw path.
            status: the three digits of the response's status.
            seconds: the duration, including sending the response.
        """
        method = method if method in _METHODS else "_OTHER"
        self.requests[method, endpoint, status].record(seconds)

    def attempted(self, operation: str, outcome: str, seconds: float) -> None:
        """Record the duration of an attempt of a database operation; see ``Database.run``."""
        self.operations[operation, outcome].record(seconds)

    def created(self, api: str, created: CreateResult) -> None:
        """Count the portfolios that a call of ``api`` created, unless it is a replay."""
        if not created.replayed:
            self.portfolios["creations"][api] += len(created.portfolios)

    @contextmanager
    def bulk(self, api: str) -> Iterator[None]:
        """Record the duration of the block, a bulk creation by ``api``, and its outcome.

        The outcome is ``success``, ``refused`` for 4xx errors, else ``failure``.
        """
        begun = perf_counter()
        outcome = "failure"
        try:
            yield
            outcome = "success"
        except PortfolioError as error:
            outcome = "failure" if error.status >= 500 else "refused"
            raise
        finally:
            self.bulks[api, outcome].record(perf_counter() - begun)
