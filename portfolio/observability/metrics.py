"""What one worker counts, as plain numbers, which the health report and the exporter read.

The instruments of the OpenTelemetry SDK cost more a record and take a lock that greenlets can
deadlock on. Nothing here waits, so greenlets cannot interleave inside it.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from portfolio.errors import PortfolioError
from portfolio.models import CreateResult

# Upper bounds of the buckets, in seconds; the runbook's targets are 5, 10, 50 and 200 ms.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

# Where the WSGI environment holds the route template of a request.
ENDPOINT = "portfolio.endpoint"
# The endpoint of requests that are rejected before they are routed.
REJECTED = "refused"

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


class Histogram(dict[Attributes, HistogramData]):
    """Maps attribute values, which must come from bounded sets, to their data."""

    def __missing__(self, attributes: Attributes) -> HistogramData:
        data = self[attributes] = HistogramData()
        return data


class RequestMetrics:
    """Requests: how many have come in and are in flight, and the durations of those answered."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.durations = Histogram()

    def refuse(self, method: str, status: str) -> None:
        """Count a request that was rejected before it reached the application; see ``end``."""
        self.in_flight += 1
        self.end(method, REJECTED, status, 0.0)

    def end(self, method: str, endpoint: str, status: str, seconds: float) -> None:
        """Count a request whose response was sent or abandoned.

        Args:
            method: the HTTP method; unknown ones count as ``_OTHER``.
            endpoint: the route template, never the raw path.
            status: the three digits of the response's status.
            seconds: the duration, including sending the response.
        """
        self.in_flight -= 1
        method = method if method in _METHODS else "_OTHER"
        self.durations[method, endpoint, status].record(seconds)


class Metrics:
    """Everything that one worker counts itself."""

    def __init__(self) -> None:
        self.requests = RequestMetrics()
        self.bulks = Histogram()
        self.operations = Histogram()
        # What happened to portfolios, by the version of the API that was called.
        self.portfolios: dict[str, Counter[str]] = {"creations": Counter()}

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


class CommandDurations(CommandListener):
    """A PyMongo listener that records the duration of every command by operation and outcome."""

    def __init__(self, operations: Histogram) -> None:
        self._operations = operations

    def started(self, event: CommandStartedEvent) -> None:
        """Do nothing: the duration comes with the outcome."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Record a command that succeeded."""
        self._operations[event.command_name, "success"].record(event.duration_micros / 1e6)

    def failed(self, event: CommandFailedEvent) -> None:
        """Record a command that failed."""
        self._operations[event.command_name, "failure"].record(event.duration_micros / 1e6)
