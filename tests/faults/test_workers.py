"""Workers die, are replaced and are recycled, under load."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import psutil
import pytest
from pymongo import MongoClient

from portfolio.devserver.mongod import Mongod
from tests.faults.conftest import StartDrill
from tests.support.gunicorn import Gunicorn, wait_until
from tests.support.harness import RECOVERY_S, Connection, NoAnswer

# mongod's fail point between the documents of one insert command.
_HALT = "hangDuringBatchInsert"
_CLIENTS = 8
# Longer than a client may take to send the head of a request, which a worker looks after each
# second: after a standstill of more than one it does so at once.
_LONG_IDLE_S = 11.0
_STANDSTILL_S = 1.2
_DRAIN_S = 2


def worker_behind(service: Gunicorn, connection: Connection) -> psutil.Process:
    """Return the worker that serves ``connection``."""
    port = connection.local_port
    assert connection.request("GET", "/health/live").status == 200  # it has been accepted
    return next(
        worker
        for worker in service.workers()
        if any(end.raddr and end.raddr.port == port for end in worker.net_connections("tcp"))
    )


def halted(client: MongoClient[dict[str, Any]]) -> int:
    """Return how many inserts wait at the fail point."""
    waiting = [{"$currentOp": {}}, {"$match": {"failpointMsg": _HALT}}]
    return len(list(client.admin.aggregate(waiting)))


@pytest.fixture
def idle(start_mongod: Callable[..., Mongod], serve: Callable[..., Gunicorn]) -> Idle:
    """A service of one worker, and connections that it has answered on."""
    return Idle(serve(start_mongod().uri, WEB_CONCURRENCY="1", DRAIN_SECONDS=str(_DRAIN_S)))


class Idle:
    """Connections on keep-alive to a service of one worker, which may be made to stand still."""

    def __init__(self, service: Gunicorn) -> None:
        self.service = service
        (self.worker,) = service.workers()
        self._connections = [
            HTTPConnection("127.0.0.1", service.port, timeout=10) for _ in range(5)
        ]
        self.send()
        assert self.statuses() == {200}

    def send(self) -> None:
        """Send a request on each."""
        for connection in self._connections:
            connection.request("GET", "/health/live")

    def statuses(self) -> set[int]:
        """Return the statuses of the answers."""
        answers = [connection.getresponse() for connection in self._connections]
        return {answer.status for answer in answers if answer.read()}

    def send_in_a_standstill(self, seconds: float) -> None:
        """Send a request on each while the worker stands still, which it does for ``seconds``."""
        self.worker.suspend()
        wait_until(lambda: self.worker.status() == psutil.STATUS_STOPPED, "the worker stands still")
        self.send()
        time.sleep(seconds)
        self.worker.resume()


@pytest.mark.slow
def test_a_request_in_a_standstill_is_answered_though_its_connection_was_long_idle(
    idle: Idle,
) -> None:
    time.sleep(_LONG_IDLE_S)
    idle.send_in_a_standstill(_STANDSTILL_S)
    assert idle.statuses() == {200}


@pytest.mark.slow
def test_a_request_in_a_standstill_is_answered_though_the_drain_is_over_by_then(idle: Idle) -> None:
    idle.service.signal(signal.SIGTERM)
    wait_until(lambda: idle.service.status("/health/ready") != 200, "the drain has begun")
    idle.send_in_a_standstill(_DRAIN_S)
    assert idle.statuses() == {200}


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["standalone", "replica set"])
def test_a_worker_is_killed_in_the_middle_of_a_bulk(
    start_mongod: Callable[..., Mongod],
    serve: Callable[..., Gunicorn],
    drill: StartDrill,
    topology: str,
) -> None:
    mongod = start_mongod(replica_set="rs" if topology == "replica set" else None)
    if mongod.replica_set:
        mongod.initiate()
    service = serve(mongod.uri)
    bulk = [{"name": f"cut-{uuid.uuid4().hex}"} for _ in range(100)]
    fault = f"worker killed -9 in a bulk, {topology}"
    with (
        drill(fault, [service], mongod.uri, clients=_CLIENTS) as under_load,
        mongod.client() as client,
    ):
        connection = Connection([service.url])
        worker = worker_behind(service, connection)
        under_load.run_for(1)
        with ThreadPoolExecutor(1) as pool:
            # Its inserts look the same to MongoDB: let the bulk's be there first.
            with under_load.paused():
                client.admin.command("configureFailPoint", _HALT, mode="alwaysOn")
                answer = pool.submit(connection.request, "POST", "/api/v2/portfolios", bulk)
                wait_until(lambda: halted(client) == 1, "the bulk is being inserted")
            wait_until(lambda: halted(client) > 1, "so is something of the load")
            worker.kill()
            with pytest.raises(NoAnswer):
                answer.result()
        with under_load.cure():
            client.admin.command("configureFailPoint", _HALT, mode="off")
        under_load.unsure_of([item["name"] for item in bulk])


@pytest.mark.slow
def test_workers_are_killed_one_after_the_other(
    mongod: Mongod, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    service = serve(mongod.uri)
    with drill("a worker killed -9 each second", [service], mongod.uri) as under_load:
        for _ in range(6):
            under_load.run_for(1)
            wait_until(service.workers, "there is a worker")[0].kill()
        with under_load.cure():
            pass  # the master replaces the last one killed


@pytest.mark.slow
def test_the_master_is_told_to_reload(
    mongod: Mongod, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    service = serve(mongod.uri)
    with drill("master told to reload (HUP)", [service], mongod.uri) as under_load:
        under_load.run_for(1)
        old = service.workers()
        with under_load.cure():
            service.signal(signal.SIGHUP)
            _, alive = psutil.wait_procs(old, timeout=RECOVERY_S)
        assert alive == []
        assert len(service.workers()) == len(old)
    assert under_load.ledger.failed == []


@pytest.mark.slow
def test_workers_are_recycled(
    mongod: Mongod, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    recycling = "--max-requests 150 --max-requests-jitter 50"
    service = serve(mongod.uri, GUNICORN_CMD_ARGS=recycling)
    with drill("workers recycled (max_requests)", [service], mongod.uri) as under_load:
        first = {worker.pid for worker in service.workers()}
        wait_until(
            lambda: first.isdisjoint(worker.pid for worker in service.workers()),
            "every worker is replaced",
        )
        under_load.run_for(3)
    assert under_load.ledger.failed == []


@pytest.mark.slow
def test_two_instances_are_restarted_in_turn(
    mongod: Mongod, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    """As Kubernetes rolls a deployment, but without its help: connections stay open."""
    services = [serve(mongod.uri), serve(mongod.uri)]
    with drill("two instances restarted in turn", services, mongod.uri, rate=200) as under_load:
        under_load.run_for(2)
        for service in services:
            begun = time.monotonic()
            assert service.stop() == 0
            assert time.monotonic() - begun < 20  # DRAIN_SECONDS and a little
            service.start()
            service.wait_ready()
            under_load.run_for(2)
    assert under_load.ledger.failed == []
