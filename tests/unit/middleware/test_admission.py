"""A worker bounds what it has in flight, by number and by how long requests wait for the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from portfolio.middleware.admission import SECONDS_WAITED, AdmissionMiddleware

MAX_IN_FLIGHT = 10
SHORT_S = 0.01
LONG_S = 0.2


class Worker:
    """A worker whose requests come 50 ms apart, and which ends each before the next comes."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.admission = AdmissionMiddleware(self.app, MAX_IN_FLIGHT, clock=lambda: self.now_s)
        self.in_flight: list[int] = []

    def app(self, environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        """Answer a request that was admitted; while it is in flight, send others."""
        self.in_flight.append(self.admission.in_flight)
        if environ["others"]:
            self.send(environ["others"] - 1, SHORT_S)
        return []

    def send(self, others: int, waited_s: float) -> int:
        """Send a request, and others while it is in flight; return how many were admitted."""
        before = len(self.in_flight)
        environ = {"PATH_INFO": "/api/", "others": others, SECONDS_WAITED: lambda: waited_s}
        self.admission(environ, lambda *_: None)
        return len(self.in_flight) - before

    def ask(self, waited_s: float) -> bool:
        self.now_s += 0.05
        return self.send(0, waited_s) == 1

    def serve(self, waited_s: float, seconds: float) -> list[bool]:
        """Return, for each request of the next ``seconds``, whether it was admitted."""
        return [self.ask(waited_s) for _ in range(round(seconds / 0.05))]


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def overloaded(worker: Worker) -> Worker:
    worker.serve(LONG_S, seconds=1.0)
    return worker


def test_no_more_than_the_bound_are_in_flight(worker: Worker) -> None:
    assert worker.send(others=MAX_IN_FLIGHT, waited_s=SHORT_S) == MAX_IN_FLIGHT
    assert max(worker.in_flight) == MAX_IN_FLIGHT


def test_a_request_is_in_flight_until_it_has_its_response_or_fails() -> None:
    in_flight = []

    def app(environ: dict[str, Any], _start_response: Any) -> Iterator[bytes]:
        in_flight.append(admission.in_flight)
        if environ["PATH_INFO"] == "/api/fails":
            raise RuntimeError
        return iter([b"first", b"second"])

    admission = AdmissionMiddleware(app, MAX_IN_FLIGHT)
    stream = admission({"PATH_INFO": "/api/streams"}, None)
    assert (in_flight, admission.in_flight) == ([1], 0), "a client that reads slowly holds nothing"
    assert list(stream) == [b"first", b"second"]
    with pytest.raises(RuntimeError):
        admission({"PATH_INFO": "/api/fails"}, None)
    assert (in_flight, admission.in_flight) == ([1, 1], 0)


def test_a_stall_of_the_machine_rejects_nobody(worker: Worker) -> None:
    worker.serve(SHORT_S, seconds=1.0)
    assert all(worker.serve(LONG_S, seconds=0.15))
    assert all(worker.serve(SHORT_S, seconds=1.0))


def test_a_wait_for_mongodb_alone_is_no_overload(worker: Worker) -> None:
    worker.send(others=MAX_IN_FLIGHT - 1, waited_s=SHORT_S)
    assert max(worker.in_flight) == MAX_IN_FLIGHT
    assert not worker.admission.overloaded


def test_in_overload_those_that_have_waited_are_rejected(overloaded: Worker) -> None:
    assert overloaded.admission.overloaded
    assert not any(overloaded.serve(LONG_S, seconds=1.0))
    assert overloaded.ask(SHORT_S)


def test_in_overload_fewer_are_in_flight(overloaded: Worker) -> None:
    assert 1 <= overloaded.send(others=MAX_IN_FLIGHT, waited_s=SHORT_S) < MAX_IN_FLIGHT / 2


def test_two_seconds_after_an_overload_all_is_as_before(overloaded: Worker) -> None:
    overloaded.serve(SHORT_S, seconds=2.0)
    assert overloaded.admission.limit == MAX_IN_FLIGHT
    assert all(overloaded.serve(LONG_S, seconds=0.15)), "it takes another overload to reject"


def test_an_overload_is_logged_when_it_begins_and_when_it_ends(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.serve(LONG_S, seconds=5.0)
    worker.serve(SHORT_S, seconds=5.0)
    assert [record.message for record in caplog.records] == ["overloaded", "no longer overloaded"]
    assert caplog.records[1].__dict__["rejected"] == worker.admission.rejected > 0
