"""Hundreds of connections that are idle, silent or late do no harm to others."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from bson import ObjectId

from portfolio.devserver.mongod import Mongod
from tests.server.clients import connections, outcomes, send, wait_readable
from tests.support.calls import UNKNOWN, V1, one
from tests.support.gunicorn import Gunicorn, wait_until
from tests.support.together import get, post

_UNKNOWN = one(UNKNOWN)
_PROBE = get("/health/live")
# A probe that is kept out waits for 10 s, until silent connections are given up.
_PROMPT_S = 5.0
_HEADS = 300
_DRAIN_S = 2


@pytest.fixture
def service(serve: Callable[..., Gunicorn], replica_set: Mongod) -> Gunicorn:
    """A service of one worker."""
    gunicorn = serve(
        replica_set.uri,
        WEB_CONCURRENCY="1",
        DRAIN_SECONDS=str(_DRAIN_S),
        MONGODB_DB="connections",
        MAX_REQUESTS_UNDER_WAY="1000",
    )
    gunicorn.wait_ready()
    return gunicorn


@pytest.mark.slow
def test_heads_that_are_completed_as_their_time_ends_wedge_nobody(service: Gunicorn) -> None:
    """All are completed at the moment at which the first is given up."""
    request = get(_UNKNOWN)
    with connections(service, _HEADS) as clients:
        send(clients, request[:-2])
        wait_readable(clients)
        send(clients, request[-2:])
        counts = Counter(outcomes(clients))
    assert counts.keys() <= {"404", "503", "closed"}, counts  # 503: a busy machine is overloaded
    wait_until(lambda: service.status(_UNKNOWN) == 404, "others are served", 5.0)
    assert [service.status(_UNKNOWN) for _ in range(5)] == [404] * 5


@pytest.mark.slow
def test_requests_that_come_as_the_drain_ends_are_answered_or_not_taken(
    service: Gunicorn, replica_set: Mongod
) -> None:
    """None fails: what is answered with 201 is stored, what gets no answer is not."""
    count = 900
    marker = f"drain-{ObjectId()}"
    request = post(V1, {"name": marker})
    with connections(service, count) as clients:
        send(clients, _PROBE)
        assert set(outcomes(clients)) == {"200"}
        service.signal(signal.SIGTERM)
        wait_readable(clients, _DRAIN_S + 10)  # the first idle one ends
        send(clients, request)
        counts = Counter(outcomes(clients))
    assert counts.keys() <= {"201", "503", "closed"}, counts
    assert service.process is not None
    assert service.process.wait(30) == 0
    with replica_set.client() as client_:
        stored = client_["connections"]["portfolio"].count_documents({"name": marker})
    assert counts["201"] <= stored <= counts["201"] + counts["503"]


def test_what_is_in_flight_is_answered_when_the_service_is_to_stop_at_once(
    service: Gunicorn, fail: Callable[..., None]
) -> None:
    fail(["find"], blockConnection=True, blockTimeMS=1000)
    with connections(service, 2) as clients:
        idle, busy = clients
        idle.sendall(_PROBE)
        assert outcomes([idle]) == ["200"]
        busy.sendall(f"GET {_UNKNOWN} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_until(lambda: _in_flight(service) == 2, "it asks MongoDB")  # and the probe
        service.signal(signal.SIGINT)  # as Ctrl-C does
        assert outcomes(clients) == ["closed", "404"]
    assert service.process is not None
    assert service.process.wait(_DRAIN_S) == 0
    assert "exception" not in service.log.read_text()


def _in_flight(service: Gunicorn) -> int:
    metrics = requests.get(service.url + "/health/metrics", timeout=_PROMPT_S).json()
    return int(metrics["requests"]["in_flight"])


def probes(service: Gunicorn, seconds: float) -> Iterator[float]:
    """Probe liveness, on a connection each time, and tell how long each took."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.monotonic()
        with requests.get(service.url + "/health/live", timeout=_PROMPT_S) as response:
            assert response.status_code == 200
        yield time.monotonic() - begun
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("limit", "count"), [(30, 100), pytest.param(1000, 2000, marks=pytest.mark.slow)]
)
def test_idle_and_silent_connections_keep_no_probe_out(
    serve: Callable[..., Gunicorn], replica_set: Mongod, limit: int, count: int
) -> None:
    service = serve(replica_set.uri, GUNICORN_CMD_ARGS=f"--worker-connections {limit}")
    service.wait_ready()
    with ThreadPoolExecutor(1) as pool:
        probed = pool.submit(lambda: list(probes(service, 2.0)))
        with connections(service, count) as idle, connections(service, count) as silent:
            send(idle, _PROBE)
            took = probed.result()
            assert max(took) < _PROMPT_S
            assert list(probes(service, 0.5))
            assert "hangs" not in outcomes(idle)
            assert len(silent) == count


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"GET /health/live HTTP/1.1\r\nX-Slow: ", id="heads"),
        pytest.param(
            b"POST /api/v1/portfolios HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n ",
            id="bodies",
        ),
    ],
)
def test_requests_that_are_begun_and_not_ended_keep_no_probe_out(
    serve: Callable[..., Gunicorn], replica_set: Mongod, begin: bytes
) -> None:
    service = serve(
        replica_set.uri, WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS="--worker-connections 20"
    )
    service.wait_ready()
    with connections(service, 300) as clients:
        send(clients, begin)
        assert max(probes(service, 1.0)) < _PROMPT_S


def test_a_connection_that_is_ended_for_another_is_the_one_that_was_idle_longest(
    serve: Callable[..., Gunicorn], replica_set: Mongod
) -> None:
    service = serve(
        replica_set.uri, WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS="--worker-connections 10"
    )
    service.wait_ready()
    with connections(service, 10) as clients:
        for number in (*range(10), 0):  # the first is used once more
            clients[number].sendall(_PROBE)
            assert outcomes([clients[number]]) == ["200"]
        with connections(service, 1) as one_more:
            one_more[0].sendall(_PROBE)
            assert outcomes(one_more) == ["200"]
            wait_until(lambda: outcomes([clients[1]], 0.1) == ["closed"], "the second is ended")
            others = clients[:1] + clients[2:]
            send(others, _PROBE)
            assert outcomes(others) == ["200"] * 9
