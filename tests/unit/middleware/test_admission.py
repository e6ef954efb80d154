"""A worker bounds what it has in flight, by number and by how long requests wait for the CPU."""

from __future__ import annotations

import pytest

from portfolio.middleware.admission import Admission, Permit

MAX_IN_FLIGHT = 10
SHORT_S = 0.01
LONG_S = 0.2


class Worker:
    """A worker whose requests come 50 ms apart, and which ends each before the next comes."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.admission = Admission(MAX_IN_FLIGHT, clock=lambda: self.now_s)

    def ask(self, waited_s: float) -> Permit | None:
        self.now_s += 0.05
        return self.admission.try_acquire(lambda: waited_s)

    def serve(self, waited_s: float, seconds: float) -> list[bool]:
        """Return, for each request of the next ``seconds``, whether it was admitted."""
        admitted = []
        for _ in range(round(seconds / 0.05)):
            permit = self.ask(waited_s)
            admitted.append(permit is not None)
            if permit is not None:
                permit.release()
        return admitted


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def overloaded(worker: Worker) -> Worker:
    worker.serve(LONG_S, seconds=1.0)
    return worker


def test_no_more_than_the_bound_are_in_flight(worker: Worker) -> None:
    permits = [worker.admission.try_acquire(lambda: SHORT_S) for _ in range(MAX_IN_FLIGHT + 1)]
    assert [permit is not None for permit in permits] == [True] * MAX_IN_FLIGHT + [False]


def test_a_place_that_was_left_is_free_again(worker: Worker) -> None:
    permits = [worker.admission.try_acquire(lambda: SHORT_S) for _ in range(MAX_IN_FLIGHT)]
    assert permits[0] is not None
    permits[0].release()
    permits[0].release()
    assert worker.admission.in_flight == MAX_IN_FLIGHT - 1
    assert worker.admission.try_acquire(lambda: SHORT_S) is not None
    assert worker.admission.try_acquire(lambda: SHORT_S) is None


def test_a_stall_of_the_machine_rejects_nobody(worker: Worker) -> None:
    worker.serve(SHORT_S, seconds=1.0)
    assert all(worker.serve(LONG_S, seconds=0.15))
    assert all(worker.serve(SHORT_S, seconds=1.0))


def test_a_wait_for_mongodb_alone_is_no_overload(worker: Worker) -> None:
    permits = [worker.ask(SHORT_S) for _ in range(MAX_IN_FLIGHT)]
    assert None not in permits
    assert not worker.admission.overloaded


def test_in_overload_those_that_have_waited_are_rejected(overloaded: Worker) -> None:
    assert overloaded.admission.overloaded
    assert not any(overloaded.serve(LONG_S, seconds=1.0))
    assert overloaded.ask(SHORT_S) is not None


def test_in_overload_fewer_are_in_flight(overloaded: Worker) -> None:
    permits = [overloaded.admission.try_acquire(lambda: SHORT_S) for _ in range(MAX_IN_FLIGHT)]
    assert 1 <= sum(permit is not None for permit in permits) < MAX_IN_FLIGHT / 2


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
