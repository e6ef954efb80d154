"""More is asked than can be done, or clients are slow: the service sheds and serves the others."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import pytest
import requests

from portfolio.local.mongod import Mongod
from tests.faults.conftest import StartDrill
from tests.faults.harness import SHED
from tests.faults.proxy import Proxy
from tests.faults.slow import BODY, HEADERS, SlowSenders, open_slow_reader
from tests.gunicorn import Gunicorn, wait_until
from tests.integration.calls import V2

# What the worker gives a head or a body to arrive in is 10 s; the rest is for a busy machine.
_ARRIVAL_S = 10.0 + 10.0


@contextmanager
def probing(service: Gunicorn) -> Iterator[Counter[int]]:
    """Probe liveness and readiness all the while; count the statuses."""
    statuses: Counter[int] = Counter()
    stop = threading.Event()

    def probe() -> None:
        while not stop.wait(0.1):
            statuses[service.status("/health/live")] += 1
            statuses[service.status("/health/ready")] += 1

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
def test_three_times_what_can_be_done_is_shed_at_once_and_probes_answer(
    start_mongod: Callable[..., Mongod], serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    """Two workers with 8 under way each, and 300 ms a database call: about 50 requests a second."""
    mongod = start_mongod()
    with Proxy(mongod.port) as network:
        service = serve(network.uri, MAX_REQUESTS_UNDER_WAY="8")
        with (
            drill("3 times the load", [service], mongod.uri, clients=6, rate=30) as under_load,
            probing(service) as statuses,
        ):
            under_load.run_for(1)
            network.delay_s = 0.3
            with under_load.more_load(clients=60, rate=150):
                under_load.run_for(8)
            with under_load.cure():
                network.delay_s = 0.0
    kinds = {kind for _, kind in under_load.ledger.failures}
    assert kinds == {SHED}
    assert set(statuses) == {200}, "probes are never refused"


def test_a_refusal_looks_like_every_other_answer(
    start_mongod: Callable[..., Mongod], serve: Callable[..., Gunicorn]
) -> None:
    mongod = start_mongod()
    with Proxy(mongod.port) as network:
        service = serve(
            network.uri,
            MAX_REQUESTS_UNDER_WAY="1",
            WEB_CONCURRENCY="1",
            PORTFOLIO_SERVICE_ENV="production",
        )
        service.wait_ready()
        network.delay_s = 0.5

        def ask(number: int) -> requests.Response:
            headers = {"X-Request-ID": f"call {number}", "Origin": "https://portal.example"}
            return requests.get(service.url + V2, headers=headers, timeout=10)

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, range(4)))
    assert sorted(answer.status_code for answer in answers)[1:] == [503] * 3
    assert [answer.headers["X-Request-ID"] for answer in answers] == [
        f"call {number}" for number in range(4)
    ]
    served, refused = sorted(answers, key=lambda answer: answer.status_code)[:2]
    assert refused.json() == {"detail": "Too many requests are under way"}
    assert refused.headers["Retry-After"] == "1"
    assert served.headers.keys() - refused.headers.keys() <= {"Link", "Server"}


@pytest.mark.parametrize(
    "request_",
    [pytest.param(HEADERS, id="headers"), pytest.param(BODY, id="bodies", marks=pytest.mark.slow)],
)
def test_clients_that_send_a_byte_a_second_do_not_stop_others(
    start_mongod: Callable[..., Mongod],
    serve: Callable[..., Gunicorn],
    drill: StartDrill,
    request_: bytes,
) -> None:
    mongod = start_mongod()
    service = serve(mongod.uri, MAX_REQUESTS_UNDER_WAY="20")
    what = "headers" if request_ is HEADERS else "bodies"
    with (
        drill(
            f"200 clients send {what} a byte a second", [service], mongod.uri, rate=100
        ) as under_load,
        SlowSenders(service, request_, 200) as slow,
    ):
        under_load.run_for(3)
        assert slow.patient > 0
    assert under_load.ledger.failed == []


@pytest.mark.slow
@pytest.mark.parametrize("request_", [HEADERS, BODY], ids=["headers", "bodies"])
def test_more_slow_clients_than_a_worker_has_connections_are_given_up_in_time(
    start_mongod: Callable[..., Mongod], serve: Callable[..., Gunicorn], request_: bytes
) -> None:
    mongod = start_mongod()
    service = serve(mongod.uri, GUNICORN_CMD_ARGS="--worker-connections 20")
    service.wait_ready()
    with SlowSenders(service, request_, 60):
        wait_until(
            lambda: service.status("/health/live") == 200, "another client is served", _ARRIVAL_S
        )


@pytest.mark.slow
def test_clients_that_do_not_read_do_not_stop_others(
    start_mongod: Callable[..., Mongod], serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    mongod = start_mongod()
    service = serve(mongod.uri)
    with (
        mongod.client() as client,
        drill(
            "60 clients do not read their answers", [service], mongod.uri, rate=100
        ) as under_load,
        ExitStack() as held,
    ):
        portfolios = client["portfolio"]["portfolio"]
        # A list that no socket's buffers hold.
        portfolios.insert_many({"name": "x" * 200} for _ in range(25_000))
        for _ in range(60):
            held.enter_context(closing(open_slow_reader(service)))
        under_load.run_for(5)
        portfolios.delete_many({"name": "x" * 200})
    assert under_load.ledger.failed == []
