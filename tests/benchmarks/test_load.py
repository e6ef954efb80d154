"""The load programs measure what callers would see."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from benchmarks.load import Phase, closed_loop, open_loop, percentile, summarise
from benchmarks.operations import CREATE, GET_ONE, LIVE, MIX, identity, name
from tests.support.http_server import HTTPServer, Reply, Request

STALL_S = 0.4


Answering = Callable[[Callable[[Request], int]], int]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Start servers that answer each request with the status that a function returns."""
    with ExitStack() as servers:

        def start(decide: Callable[[Request], int]) -> int:
            def answer(request: Request) -> Reply:
                status = decide(request)
                return Reply(status, b"{}", {"Retry-After": "1"} if status == 503 else {})

            server = servers.enter_context(HTTPServer(answer))
            return int(server.address.partition(":")[2])

        yield start


def test_an_open_loop_sends_what_was_asked_in_the_shares_of_its_hand(answering: Answering) -> None:
    port = answering(lambda request: 201 if request.method == "POST" else 200)
    samples = open_loop(port, MIX, Phase(100, 0.5), Phase(50, 0.6))
    kinds = [sample.kind for sample in samples]
    counts = {operation.key: kinds.count(operation.key) for operation in MIX}
    assert counts == {"get_one": 56, "page": 12, "create": 8, "bulk": 4}
    assert all(sample.accepted for sample in samples)


def test_an_open_loop_charges_a_stall_to_every_request_that_fell_due_in_it(
    answering: Answering,
) -> None:
    gate = threading.Lock()
    stalled = threading.Event()

    def stall_once(_: Request) -> int:
        with gate:  # one at a time: who comes meanwhile waits too
            if not stalled.is_set():
                stalled.set()
                time.sleep(STALL_S)
        return 200

    samples = open_loop(answering(stall_once), {LIVE: 1}, Phase(50, 1.0))
    within = [sample for sample in samples if sample.due_s < 0.19]
    assert len(within) == 10
    assert min(sample.latency_ms for sample in within) > 1000 * (STALL_S - 0.2)


def test_refusals_are_errors_that_carry_their_header(answering: Answering) -> None:
    samples = open_loop(answering(lambda _: 503), {LIVE: 1}, Phase(50, 0.2))
    assert {(sample.status, sample.retry_after, sample.accepted) for sample in samples} == {
        (503, True, False)
    }
    assert summarise(samples).errors == len(samples) == 10


def test_a_server_that_is_gone_is_an_error_and_no_hang() -> None:
    samples = open_loop(1, {LIVE: 1}, Phase(50, 0.2))
    assert [sample.status for sample in samples] == [0] * 10


def test_a_closed_loop_counts_answers_alone(answering: Answering) -> None:
    load = closed_loop(answering(lambda _: 201), CREATE, connections=4, seconds=0.5)
    assert load.errors == 0
    assert load.requests > 4
    assert 0 < load.p50 <= load.p95 <= load.p99


def test_requests_take_turns_over_the_seeded_portfolios_and_number_what_they_create() -> None:
    assert GET_ONE.target(7).endswith(f"/{identity(7)}")
    assert GET_ONE.target(1007) == GET_ONE.target(7)
    assert CREATE.payload(iter([3])) == '{"name": "Single 3"}'
    assert [name(9), name(10)] == ["Growth fund 0000009", "Income fund 0000010"]


def test_a_percentile_is_the_value_that_so_many_lie_below() -> None:
    values = list(range(100, 0, -1))
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99)] == [51, 96, 100]
