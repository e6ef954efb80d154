"""A wrong ``MONGODB_URI`` is told in the log, within 5 s and once; readiness does not hide it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest
import requests
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from portfolio.config import Settings
from portfolio.devserver.mongod import Mongod
from portfolio.storage.connection import Connection
from tests.support.gunicorn import Gunicorn, wait_until

_LIMIT_S = 5.0


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A MongoDB that asks for a login. ``app`` may do all, ``reader`` may read."""
    mongod = Mongod(tmp_path_factory.mktemp("locked"), arguments=("--auth",))
    mongod.start()
    with mongod.client() as client:
        # The first user may be created without a login, from this machine.
        client.admin.command("createUser", "app", pwd="hunter2", roles=["root"])
    with mongod.client("app:hunter2@") as client:
        client.admin.command("createUser", "stranger", pwd="hunter2", roles=[])
        client.admin.command("createUser", "reader", pwd="hunter2", roles=["readAnyDatabase"])
    yield mongod
    mongod.stop()


def case(name: str, uri: str, cause: str, *marks: pytest.MarkDecorator) -> object:
    return pytest.param(uri, cause, id=name, marks=marks)


SLOW = pytest.mark.slow
CASES = [
    case("wrong port", "mongodb://127.0.0.1:9", "127.0.0.1:9: [Errno 111] Connection refused"),
    case("wrong host", "mongodb://db.invalid", "db.invalid:27017: [Errno -", SLOW),
    case("wrong password", "mongodb://app:hunter3@{address}", "wrong user or password (", SLOW),
    case("no login", "mongodb://{address}", "it asks for a user and a password", SLOW),
    case("no right", "mongodb://stranger:hunter2@{address}", "the user lacks a right", SLOW),
    case("no balancer", "mongodb://{address}/?loadBalanced=true", "does not support this", SLOW),
    case("wrong set", "mongodb://{address}/?replicaSet=other", "No replica set members", SLOW),
]


@pytest.mark.parametrize(("uri", "cause"), CASES)
def test_a_wrong_database_is_told_within_5_s_and_once(
    serve: Callable[..., Gunicorn], locked: Mongod, uri: str, cause: str
) -> None:
    uri = uri.format(address=locked.address)
    begun = time.monotonic()
    gunicorn = serve(uri, WEB_CONCURRENCY="1", LOG_LEVEL="INFO")

    def verdicts() -> list[str]:
        return [line["msg"] for line in gunicorn.log_lines() if "does not answer" in line["msg"]]

    told = wait_until(lambda: [text for text in verdicts() if cause in text], cause)
    assert time.monotonic() - begun < 2 * _LIMIT_S  # the start of Gunicorn included
    shown = uri.replace("hunter2", "***").replace("hunter3", "***").partition("/?")[0]
    assert told[0].startswith(f"MongoDB at {shown} does not answer: ")
    assert told[0].endswith(". Check MONGODB_URI.")
    for path in ("/health/ready", "/health/startup", "/api/v2/portfolios"):
        assert gunicorn.status(path) == 503
    time.sleep(3)  # more checks of the health monitor, which must say nothing new
    # On a busy machine the first check may end before the cause is known.
    assert [text for text in verdicts() if "no answer in time" not in text] == told
    assert len(set(verdicts())) == len(verdicts()) <= 2
    assert "hunter" not in gunicorn.log.read_text()


@pytest.mark.slow
def test_a_secondary_alone_is_not_ready_until_it_is_primary(
    three_members: list[Mongod], serve: Callable[..., Gunicorn]
) -> None:
    """PyMongo reads from it, but it takes no writes."""
    secondary = three_members[1]
    uri = f"mongodb://{secondary.address}/?directConnection=true"
    gunicorn = serve(uri, WEB_CONCURRENCY="1", LOG_LEVEL="INFO")
    wait_until(lambda: "is not the primary. Check MONGODB_URI." in gunicorn.log.read_text(), "told")
    assert gunicorn.status("/health/ready") == 503
    with secondary.client() as client:
        client.admin.command("replSetStepUp")
    gunicorn.wait_ready()
    response = requests.post(f"{gunicorn.url}/api/v1/portfolios", json={"name": "Growth"})
    assert response.status_code == 201


@pytest.mark.slow
def test_with_the_right_login_it_is_ready(serve: Callable[..., Gunicorn], locked: Mongod) -> None:
    gunicorn = serve(f"mongodb://app:hunter2@{locked.address}", WEB_CONCURRENCY="1")
    gunicorn.wait_ready()
    assert "hunter2" not in gunicorn.log.read_text()


@pytest.mark.slow
def test_it_logs_in_again_after_its_user_was_made_anew(locked: Mongod) -> None:
    """As a restore of all databases does; the connections of the old user are worth nothing."""
    uri = f"mongodb://again:hunter2@{locked.address}"
    settings = Settings.from_environment({"MONGODB_URI": uri, "MIN_POOL_SIZE": "0"})
    connection = Connection(settings, MongoClient)
    with locked.client("app:hunter2@") as client, closing(connection):
        create = partial(client.admin.command, "createUser", "again", pwd="hunter2", roles=["root"])
        create()
        connection.ping()
        client.admin.command("dropUser", "again")
        create()
        with pytest.raises(OperationFailure, match="requires authentication"):
            connection.ping()
        connection.ping()


@pytest.mark.slow
def test_a_user_who_may_only_read_is_served_reads_and_refused_writes(
    serve: Callable[..., Gunicorn], locked: Mongod
) -> None:
    gunicorn = serve(f"mongodb://reader:hunter2@{locked.address}", WEB_CONCURRENCY="1")
    gunicorn.wait_ready()
    for _ in range(10):  # more than open the circuit breaker
        response = requests.post(f"{gunicorn.url}/api/v1/portfolios", json={"name": "Growth"})
        assert response.status_code == 503
    assert gunicorn.status("/api/v2/portfolios") == 200
    assert any("not authorized" in line.get("error", "") for line in gunicorn.log_lines())
    told = gunicorn.flask("db", "indexes")
    assert told.returncode == 1
    assert "the user lacks a right" in told.stderr
