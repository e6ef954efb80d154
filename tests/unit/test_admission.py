"""A worker bounds what it has under way, by number and by how long requests wait for the CPU."""

from __future__ import annotations

import pytest

from portfolio.http.admission import Admission, Place

MOST = 10
SHORT_S = 0.01
LONG_S = 0.2


class Worker:
    """A worker whose requests come 50 ms apart, and which ends each before the next comes."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.admission = Admission(MOST, clock=lambda: self.now_s)

    def ask(self, waited_s: float) -> Place | None:
        self.now_s += 0.05
        return self.admission.enter(lambda: waited_s)

    def serve(self, waited_s: float, seconds: float) -> list[bool]:
        """Return, for each request of the next ``seconds``, whether it was admitted."""
        admitted = []
        for _ in range(round(seconds / 0.05)):
            place = self.ask(waited_s)
            admitted.append(place is not None)
            if place is not None:
                place.leave()
        return admitted


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def overloaded(worker: Worker) -> Worker:
    worker.serve(LONG_S, seconds=1.0)
    return worker


def test_no_more_than_the_bound_are_under_way(worker: Worker) -> None:
    places = [worker.admission.enter(lambda: SHORT_S) for _ in range(MOST + 1)]
    assert [place is not None for place in places] == [True] * MOST + [False]


def test_a_place_that_was_left_is_free_again(worker: Worker) -> None:
    places = [worker.admission.enter(lambda: SHORT_S) for _ in range(MOST)]
    assert places[0] is not None
    places[0].leave()
    places[0].leave()
    assert worker.admission.under_way == MOST - 1
    assert worker.admission.enter(lambda: SHORT_S) is not None
    assert worker.admission.enter(lambda: SHORT_S) is None


def test_a_stall_of_the_machine_refuses_nobody(worker: Worker) -> None:
    worker.serve(SHORT_S, seconds=1.0)
    assert all(worker.serve(LONG_S, seconds=0.15))
    assert all(worker.serve(SHORT_S, seconds=1.0))


def test_a_wait_for_mongodb_alone_is_no_overload(worker: Worker) -> None:
    places = [worker.ask(SHORT_S) for _ in range(MOST)]
    assert None not in places
    assert not worker.admission.overloaded


def test_in_overload_those_that_have_waited_are_refused(overloaded: Worker) -> None:
    assert overloaded.admission.overloaded
    assert not any(overloaded.serve(LONG_S, seconds=1.0))
    assert overloaded.ask(SHORT_S) is not None


def test_in_overload_fewer_are_under_way(overloaded: Worker) -> None:
    places = [overloaded.admission.enter(lambda: SHORT_S) for _ in range(MOST)]
    assert 1 <= sum(place is not None for place in places) < MOST / 2


def test_two_seconds_after_an_overload_all_is_as_before(overloaded: Worker) -> None:
    overloaded.serve(SHORT_S, seconds=2.0)
    assert overloaded.admission.limit == MOST
    assert all(overloaded.serve(LONG_S, seconds=0.15)), "it takes another overload to refuse"


def test_an_overload_is_logged_when_it_begins_and_when_it_ends(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.serve(LONG_S, seconds=5.0)
    worker.serve(SHORT_S, seconds=5.0)
    assert [record.message for record in caplog.records] == ["overloaded", "no longer overloaded"]
    assert caplog.records[1].__dict__["refused"] == worker.admission.refused > 0
