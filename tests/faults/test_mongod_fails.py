"""MongoDB fails, under load, and comes back: nothing acknowledged is lost, no answer is wrong."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from portfolio.config import Settings
from portfolio.devserver.mongod import Mongod
from portfolio.storage.connection import Connection
from tests.faults.conftest import StartDrill
from tests.support.gunicorn import Gunicorn

_OUT_OF_DISK_SPACE = 14031


def test_mongod_is_killed_and_restarted(
    mongod: Mongod, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    service = serve(mongod.uri)
    with drill("mongod killed -9, restarted", [service], mongod.uri) as under_load:
        under_load.run_for(2)
        mongod.kill()
        under_load.run_for(3)
        with under_load.cure():
            mongod.start()


@pytest.mark.slow
def test_mongod_hangs_for_20_seconds_and_goes_on(
    mongod: Mongod, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    service = serve(mongod.uri)
    with drill("mongod stopped for 20 s (SIGSTOP)", [service], mongod.uri) as under_load:
        under_load.run_for(2)
        mongod.signal(signal.SIGSTOP)
        under_load.run_for(20)
        with under_load.cure():
            mongod.signal(signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("replica_set", [None, "rs"], ids=["standalone", "replica-set"])
def test_the_disk_of_mongod_is_full(
    start_mongod: Callable[..., Mongod],
    serve: Callable[..., Gunicorn],
    drill: StartDrill,
    replica_set: str | None,
) -> None:
    mongod = start_mongod(replica_set=replica_set)
    if replica_set:
        mongod.initiate()
    service = serve(mongod.uri)
    topology = "replica set" if replica_set else "standalone"
    failing_writes = {
        "configureFailPoint": "failCommand",
        "mode": "alwaysOn",
        "data": {
            "failCommands": ["insert", "update", "findAndModify"],
            "errorCode": _OUT_OF_DISK_SPACE,
        },
    }
    with (
        drill(f"disk full (failing writes), {topology}", [service], mongod.uri) as under_load,
        mongod.client() as client,
    ):
        under_load.run_for(2)
        client.admin.command(failing_writes)
        under_load.run_for(4)
        with under_load.cure():
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_client_closes_without_waiting_for_mongod(mongod: Mongod, number: signal.Signals) -> None:
    """It has sessions that it would end in MongoDB."""
    settings = {"MONGODB_URI": mongod.uri, "REQUEST_TIMEOUT_MS": "60000"}
    connection = Connection(Settings.from_environment(settings), MongoClient)
    with connection.client.start_session() as session:
        connection.portfolios.find_one(session=session)
        connection.portfolios.find_one()  # in a session of its own
    mongod.signal(number)
    with suppress(PyMongoError):
        connection.ping(1.0)
    closing = Thread(target=connection.close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
