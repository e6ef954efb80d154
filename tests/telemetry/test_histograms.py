"""What a worker counts adds up."""

from __future__ import annotations

import pytest

from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.errors import NameConflict, Unavailable
from portfolio.observability.metrics import BOUNDS, HistogramData, Metrics
from portfolio.storage.breaker import Breaker


def test_a_duration_falls_into_the_bucket_that_ends_at_or_above_it() -> None:
    durations = HistogramData()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] + 1e-9, BOUNDS[-1], BOUNDS[-1] + 1):
        durations.record(seconds)
    assert durations.buckets == [2, 1, *[0] * (len(BOUNDS) - 3), 1, 1]
    assert durations.count == 5


def test_quantiles_are_within_their_bucket() -> None:
    durations = HistogramData()
    for _ in range(99):
        durations.record(0.003)
    durations.record(0.3)
    assert 0.0025 < durations.quantile(0.5) <= 0.005
    assert 0.0025 < durations.quantile(0.99) <= 0.005
    assert 0.2 < durations.quantile(1.0) <= 0.5
    assert HistogramData().quantile(0.5) == 0.0


@pytest.fixture
def metrics() -> Metrics:
    found: Metrics = create_app(Settings.from_environment({})).extensions["portfolio"].metrics
    return found


def test_the_states_of_breakers_are_the_numbers_of_the_contract(metrics: Metrics) -> None:
    breaker = Breaker("b", failures=1, reset_s=60, successes=1, counts=lambda _: True)
    metrics.breakers = [breaker]
    read = metrics.readers()["circuit_breaker.state"]
    seen = [read()]
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)
    seen.append(read())
    breaker.half_open()
    seen.append(read())
    assert seen == [{("b",): 0}, {("b",): 2}, {("b",): 1}]


def test_requests_are_counted_once_and_by_the_methods_of_http(metrics: Metrics) -> None:
    metrics.answered("GET", "/health", "200", 0.001)
    metrics.answered("GET", "/health", "200", 0.001)
    metrics.answered("BREW", "refused", "503", 0.0)
    counts = {attributes: found.count for attributes, found in metrics.requests.items()}
    assert counts == {("GET", "/health", "200"): 2, ("_OTHER", "refused", "503"): 1}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NameConflict(["taken"]), "refused"),
        (Unavailable("gone"), "failure"),
        (OSError(), "failure"),
    ],
)
def test_a_bulk_that_raises_is_counted_by_whose_fault_it_is(
    metrics: Metrics, error: Exception, outcome: str
) -> None:
    with pytest.raises(type(error)), metrics.bulk("v2"):
        raise error
    assert list(metrics.bulks) == [("v2", outcome)]
