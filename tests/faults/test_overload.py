"""More is asked than can be done, or clients are slow: the service sheds and serves the others."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from select import select
from socket import create_connection, socket

import pytest
import requests

from portfolio.devserver.mongod import Mongod
from tests.faults.conftest import StartDrill
from tests.support.calls import V2
from tests.support.gunicorn import Gunicorn, running, wait_until
from tests.support.harness import SHED
from tests.support.proxy import Proxy
from tests.support.slow import BODY, HEADERS, LARGEST_BODY, SlowSenders, open_slow_reader

# What the worker gives a head or a body to arrive in is 10 s; the rest is for a busy machine.
_ARRIVAL_S = 10.0 + 10.0
REFUSAL = '{"detail":"Too many requests are in flight","code":"overloaded"}'
# More of the largest bodies than a worker takes at once.
_TOO_MANY_BODIES = 32


def readable(sockets: list[socket]) -> list[socket]:
    """Return those of ``sockets`` on which something has come in."""
    return select(sockets, [], [], 0)[0]


@contextmanager
def constantly(ask: Callable[[], object], pause_s: float = 0.0) -> Iterator[None]:
    """Ask again and again, all the while."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(pause_s):
            ask()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def probing(service: Gunicorn) -> Iterator[Counter[int]]:
    """Probe liveness and readiness all the while; count the statuses."""
    statuses: Counter[int] = Counter()

    def probe() -> None:
        statuses[service.status("/health/live")] += 1
        statuses[service.status("/health/ready")] += 1

    with constantly(probe, 0.1):
        yield statuses


@pytest.mark.slow
def test_three_times_what_can_be_done_is_shed_at_once_and_probes_answer(
    mongod: Mongod, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    """Two workers with 8 in flight each, and 300 ms a database call: about 50 requests a second."""
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


@pytest.fixture(scope="module")
def one_place(standalone: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A service with one place, in which a request that reads stays for a second."""
    folder = tmp_path_factory.mktemp("full")
    variables = {
        "MONGODB_DB": folder.name,
        "WEB_CONCURRENCY": "1",
        "MAX_REQUESTS_UNDER_WAY": "1",
        "PORTFOLIO_SERVICE_ENV": "production",
    }
    with (
        Proxy(standalone.port) as network,
        running(folder, network.uri, **variables) as service,
    ):
        network.delay_s = 0.5
        yield service


@pytest.fixture
def full(one_place: Gunicorn) -> Gunicorn:
    """The same, with its place free."""
    wait_until(lambda: one_place.status(V2) == 200, "the place is free")
    return one_place


@pytest.fixture(scope="module")
def three_places(
    replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gunicorn]:
    """A service with three places, and a list of portfolios that no socket's buffers hold."""
    folder = tmp_path_factory.mktemp("list")
    with replica_set.client() as client:
        portfolios = client[folder.name]["portfolio"]
        portfolios.insert_many({"name": "x" * 200} for _ in range(25_000))
    variables = {"MONGODB_DB": folder.name, "WEB_CONCURRENCY": "1", "MAX_REQUESTS_UNDER_WAY": "3"}
    with running(folder, replica_set.uri, **variables) as service:
        yield service


@pytest.fixture(scope="module")
def roomy(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A service with the places that it has by default."""
    folder = tmp_path_factory.mktemp("roomy")
    variables = {"MONGODB_DB": folder.name, "WEB_CONCURRENCY": "1"}
    with running(folder, replica_set.uri, **variables) as service:
        yield service


def test_a_refusal_looks_like_every_other_answer(full: Gunicorn) -> None:
    def ask(number: int) -> requests.Response:
        headers = {"X-Request-ID": f"call {number}", "Origin": "https://portal.example"}
        return requests.get(full.url + V2, headers=headers, timeout=10)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert sorted(answer.status_code for answer in answers)[1:] == [503] * 3
    assert [answer.headers["X-Request-ID"] for answer in answers] == [
        f"call {number}" for number in range(4)
    ]
    served, refused = sorted(answers, key=lambda answer: answer.status_code)[:2]
    assert refused.text == REFUSAL
    assert refused.headers["Retry-After"] == "1"
    assert served.headers.keys() - refused.headers.keys() <= {"Link", "Server"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/portfolio/unknown", REFUSAL),
        ("GET", "/%61pi/v1/portfolios", REFUSAL),
        ("HEAD", V2, ""),
    ],
)
def test_however_it_is_asked_a_request_is_refused_and_the_next_one_answered(
    full: Gunicorn, method: str, path: str, body: str
) -> None:
    both = f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"
    both += "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    def refused() -> str:
        with create_connection(("127.0.0.1", full.port), timeout=10) as connection:
            connection.sendall(both.encode())
            answers = connection.makefile(newline="").read()
        return answers if answers.startswith("HTTP/1.1 503") else ""

    with constantly(lambda: full.status(V2)):
        answers = wait_until(refused, f"{method} {path} is refused")
    head, _, rest = answers.partition("\r\n\r\n")
    assert f"Content-Length: {len(REFUSAL)}" in head
    assert rest.startswith(f"{body}HTTP/1.1 200")


@pytest.mark.parametrize(
    ("target", "admitted", "others"),
    [
        ("//api/v1/portfolios", 404, 404),
        ("http://x//api/v1/portfolios", 404, 404),
        ("/%2fapi/v1/portfolios", 404, 404),
        ("http://x/api/v1/portfolios", 200, 503),
        ("/%61pi/v1/portfolios", 200, 503),
    ],
)
def test_no_spelling_of_a_path_passes_by_admission_control(
    full: Gunicorn, target: str, admitted: int, others: int
) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    with ExitStack() as held:
        clients = [
            held.enter_context(create_connection(("127.0.0.1", full.port), timeout=10))
            for _ in range(10)
        ]
        for client in clients:
            client.sendall(request)
        statuses = [int(client.makefile("rb").read().split()[1]) for client in clients]
    assert sorted(statuses) == [admitted, *[others] * 9]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_those_who_read_a_list_slowly_leave_others_their_place(
    three_places: Gunicorn, version: str
) -> None:
    request = f"GET /api/v1/portfolios HTTP/{version}\r\nHost: x\r\n\r\n".encode()
    with ExitStack() as held:
        readers = [
            held.enter_context(closing(open_slow_reader(three_places, request))) for _ in range(3)
        ]
        wait_until(lambda: len(readable(readers)) == 3, "all are being answered")
        wait_until(lambda: three_places.status(V2) == 200, "another client is served", 5.0)


def test_bodies_that_are_announced_and_do_not_come_take_no_room_from_others(
    roomy: Gunicorn,
) -> None:
    with ExitStack() as held:
        for _ in range(_TOO_MANY_BODIES):
            held.enter_context(closing(open_slow_reader(roomy, LARGEST_BODY)))
        answer = requests.post(f"{roomy.url}/api/v1/portfolios", json={"name": "s"}, timeout=10)
        assert answer.status_code == 201


def test_no_more_bodies_arrive_at_once_than_memory_was_set_aside_for(roomy: Gunicorn) -> None:
    most = LARGEST_BODY + b" " * (1024 * 1024 - 1)
    with ExitStack() as held:
        arriving = [
            held.enter_context(closing(open_slow_reader(roomy, most)))
            for _ in range(_TOO_MANY_BODIES)
        ]
        wait_until(
            lambda: any(readable([each]) and b" 503 " in each.recv(100) for each in arriving),
            "one is refused",
        )
        assert len(readable(arriving)) <= _TOO_MANY_BODIES / 2


@pytest.mark.slow
def test_a_client_that_does_not_read_many_small_answers_leaves_others_its_place(
    mongod: Mongod, serve: Callable[..., Gunicorn]
) -> None:
    service = serve(mongod.uri, MAX_REQUESTS_UNDER_WAY="1", WEB_CONCURRENCY="1")
    service.wait_ready()
    with mongod.client() as client:
        client["portfolio"]["portfolio"].insert_many({"name": "x" * 200} for _ in range(100))

    def answered() -> int:
        metrics = requests.get(service.url + "/health/metrics", timeout=10).json()
        return int(metrics["requests"]["endpoints"].get(f"GET {V2}", {"count": 0})["count"])

    def is_stalled() -> bool:
        counts = {answered() for _ in range(5)}
        return len(counts) == 1 and counts != {0}

    page = f"GET {V2}?limit=100 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with closing(open_slow_reader(service, page * 1000)):
        wait_until(is_stalled, "no further page is sent")
        assert {service.status(V2) for _ in range(10)} == {200}


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_",
    [pytest.param(HEADERS, id="headers"), pytest.param(BODY, id="bodies")],
)
def test_clients_that_send_a_byte_a_second_do_not_stop_others(
    mongod: Mongod, serve: Callable[..., Gunicorn], drill: StartDrill, request_: bytes
) -> None:
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
    mongod: Mongod, serve: Callable[..., Gunicorn], request_: bytes
) -> None:
    service = serve(mongod.uri, GUNICORN_CMD_ARGS="--worker-connections 20")
    service.wait_ready()
    with SlowSenders(service, request_, 60):
        wait_until(
            lambda: service.status("/health/live") == 200, "another client is served", _ARRIVAL_S
        )


@pytest.mark.slow
def test_clients_that_do_not_read_do_not_stop_others(
    mongod: Mongod, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
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
