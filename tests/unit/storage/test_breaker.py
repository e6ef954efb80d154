"""The circuit breaker opens on failures in a row, and lets few calls try before it closes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from pybreaker import CircuitBreakerError

from portfolio.errors import NotFound
from portfolio.storage.breaker import Breaker

FAILURES = 3
SUCCESSES = 2


def breaker(reset_s: float = 3600.0) -> Breaker:
    return Breaker(
        "database",
        failures=FAILURES,
        reset_s=reset_s,
        successes=SUCCESSES,
        counts=lambda error: isinstance(error, ConnectionError),
    )


def fail(error: type[Exception] = ConnectionError) -> Callable[[], None]:
    def operation() -> None:
        raise error

    return operation


def open_(broken: Breaker) -> Breaker:
    for _ in range(FAILURES):
        with pytest.raises(ConnectionError):
            broken.call(fail())
    assert broken.state == "open"
    return broken


def test_calls_run_side_by_side() -> None:
    closed, together = breaker(), threading.Barrier(16)
    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(closed.call, lambda: together.wait(10)) for _ in range(16)]
    assert {call.result() for call in calls} == set(range(16))


def test_an_open_one_refuses_calls_without_making_them() -> None:
    broken, made = open_(breaker()), []
    with pytest.raises(CircuitBreakerError):
        broken.call(lambda: made.append(1))
    assert made == []
    assert 3590 <= broken.retry_after <= 3600
    assert broken.outcomes == {"failure": FAILURES, "refused": 1}


def test_only_failures_in_a_row_open_it() -> None:
    closed = breaker()
    for _ in range(2 * FAILURES):
        with pytest.raises(ConnectionError):
            closed.call(fail())
        assert closed.failure_count == 1
        closed.call(int)
    assert closed.state == "closed"


def test_errors_of_the_caller_are_no_failures() -> None:
    closed = breaker()
    for _ in range(2 * FAILURES):
        with pytest.raises(NotFound):
            closed.call(fail(NotFound))
    assert (closed.state, closed.outcomes) == ("closed", {"success": 2 * FAILURES})


def test_after_its_time_it_closes_once_enough_calls_have_succeeded() -> None:
    broken = open_(breaker(reset_s=0.0))
    states = []
    for _ in range(SUCCESSES):
        broken.call(int)
        states.append(broken.state)
    assert states == ["half-open", "closed"]


def test_a_trial_call_that_fails_opens_it_again() -> None:
    broken = open_(breaker())
    broken.half_open()
    with pytest.raises(ConnectionError):
        broken.call(fail())
    assert broken.state == "open"


def test_no_more_trial_calls_run_at_once_than_have_to_succeed() -> None:
    broken, in_flight, go_on = open_(breaker()), threading.Barrier(SUCCESSES + 1), threading.Event()
    broken.half_open()

    def trial() -> bool:
        in_flight.wait(10)
        return go_on.wait(10)

    with ThreadPoolExecutor(SUCCESSES) as pool:
        calls = [pool.submit(broken.call, trial) for _ in range(SUCCESSES)]
        try:
            in_flight.wait(10)
            with pytest.raises(CircuitBreakerError):
                broken.call(int)
        finally:
            go_on.set()
    assert all(call.result() for call in calls)
    assert broken.state == "closed"


def test_a_call_that_ends_after_it_opened_leaves_it_open() -> None:
    broken = breaker()
    broken.call(lambda: open_(broken))
    assert broken.state == "open"


def test_it_can_be_closed_by_hand() -> None:
    broken = open_(breaker())
    broken.reset()
    assert broken.call(lambda: "served") == "served"
    assert (broken.state, broken.failure_count) == ("closed", 0)
