"""What one worker counts, in plain numbers: cheap to record, read by whoever shows or exports it.

A counter or histogram of the OpenTelemetry SDK takes 6 microseconds a record and a lock that
greenlets have dead-locked on; this takes 1 and none. Nothing here waits, so greenlets can't
interleave inside it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

from portfolio.errors import PortfolioError
from portfolio.models import CreateResult

# Upper bounds of the buckets, in seconds; the runbook's targets are 5, 10, 50 and 200 ms.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

# Where the WSGI environment holds the route template of a request.
ENDPOINT = "portfolio.endpoint"
# The endpoint of requests that are rejected before they are routed.
REJECTED = "refused"

Attributes = tuple[str, ...]


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
    """How long the occurrences of one thing took, in buckets.

    Attributes:
        buckets: how many took up to each of ``BOUNDS``, and longer than all of them.
        total: the sum of all, in seconds.
    """

    __slots__ = ("buckets", "total")

    def __init__(self, buckets: list[int] | None = None, total: float = 0.0) -> None:
        self.buckets = buckets or [0] * (len(BOUNDS) + 1)
        self.total = total

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.buckets)

    def record(self, seconds: float) -> None:
        """Count one that took ``seconds``."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def add(self, other: HistogramData) -> None:
        """Count all that ``other`` has counted."""
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.total += other.total

    def quantile(self, share: float) -> float:
        """Return the seconds that ``share`` of all stayed below, interpolated in its bucket."""
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
    """Maps attribute values, which must come from bounded sets, to their data.

    The registry names the attributes.
    """

    def record(self, attributes: Attributes, seconds: float) -> None:
        """Count one occurrence that took ``seconds``."""
        durations = self.get(attributes)
        if durations is None:
            durations = self[attributes] = HistogramData()
        durations.record(seconds)


class RequestMetrics:
    """Requests by rate, errors and duration; recorded where every request passes."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.durations = Histogram()

    def begin(self) -> None:
        """Count a request that came in."""
        self.in_flight += 1

    def refuse(self, method: str, status: str) -> None:
        """Count a request that was answered without asking the application.

        Args:
            method: the HTTP method, as far as it is known.
            status: the three digits of the answer's status.
        """
        self.begin()
        self.end(method, REJECTED, status, 0.0)

    def end(self, method: str, endpoint: str, status: str, seconds: float) -> None:
        """Count a request whose answer was sent or given up.

        Args:
            method: the HTTP method; one that is not known counts as ``_OTHER``.
            endpoint: the route template, never the raw path.
            status: the three digits of the answer's status.
            seconds: how long it took, the sending of the answer included.
        """
        self.in_flight -= 1
        self.durations.record(
            (method if method in _METHODS else "_OTHER", endpoint, status), seconds
        )


class Metrics:
    """All that one worker counts itself; what others count is read where they keep it."""

    def __init__(self) -> None:
        self.requests = RequestMetrics()
        self.bulks = Histogram()
        self.operations = Histogram()
        self.creations: Counter[str] = Counter()

    def created(self, api: str, created: CreateResult) -> None:
        """Count portfolios that were created, unless that was answered once before.

        Args:
            api: the version of the API that was called.
            created: what the call has made.
        """
        if not created.replayed:
            self.creations[api] += len(created.portfolios)

    @contextmanager
    def bulk(self, api: str) -> Iterator[None]:
        """Time a bulk creation that runs inside.

        Its outcome is ``success``, ``refused`` where the caller is at fault, else ``failure``.

        Args:
            api: the version of the API that was called.
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
            self.bulks.record((api, outcome), perf_counter() - begun)
