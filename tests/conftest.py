"""What tests share: a real MongoDB of each topology, and the service on top of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pymongo import MongoClient
from pymongo.collection import Collection

from portfolio.app import create_app
from portfolio.config import SERVICE, Settings
from portfolio.devserver.mongod import Mongod
from portfolio.devserver.processes import free_port
from portfolio.storage.connection import COLLECTION, IDEMPOTENCY_COLLECTION
from tests.support.gunicorn import ROOT, Gunicorn
from tests.support.mongod import QUICK_JOURNAL, TEST_PARAMETERS
from tests.support.parts import mongomock_app

# The folders whose files take longest, which must not be left for the end of a parallel run.
_FIRST = ("code", "telemetry", "faults", "server", "storage", "devserver")


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A standalone MongoDB."""
    mongod = Mongod(
        tmp_path_factory.mktemp("standalone"),
        port=free_port(),
        parameters=TEST_PARAMETERS,
    )
    mongod.start()
    yield mongod
    mongod.kill()


@pytest.fixture(scope="session")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A replica set of one member: what it takes to have transactions."""
    mongod = Mongod(
        tmp_path_factory.mktemp("replica-set"),
        replica_set="rs",
        port=free_port(),
        parameters=TEST_PARAMETERS,
        arguments=QUICK_JOURNAL,
    )
    mongod.start()
    mongod.initiate()
    yield mongod
    mongod.kill()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders of ``_FIRST`` first; ``--no-loadscope-reorder`` keeps the order."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(ROOT).parts[1]
        return _FIRST.index(folder) if folder in _FIRST else len(_FIRST)

    items.sort(key=rank)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked ``both_topologies`` on a standalone too."""
    if "mongod" in metafunc.fixturenames and metafunc.definition.get_closest_marker(
        "both_topologies"
    ):
        metafunc.parametrize("mongod", ["standalone", "replica_set"], indirect=True)


@pytest.fixture
def mongod(request: pytest.FixtureRequest) -> Mongod:
    """MongoDB: a replica set, unless a test is marked ``both_topologies``."""
    return request.getfixturevalue(getattr(request, "param", "replica_set"))


@pytest.fixture
def database_name() -> str:
    """The name of a database that no other test uses, for a service of the test's own."""
    return f"test-{uuid.uuid4().hex[:16]}"


@pytest.fixture(scope="session")
def shared_database_name() -> str:
    """The name of the database that tests of ``app`` use one after the other, each from empty."""
    return f"test-{uuid.uuid4().hex[:16]}"


@pytest.fixture
def settings(
    mongod: Mongod, shared_database_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """Settings without telemetry, for which there is no collector."""
    return Settings.from_environment(
        {
            "MONGODB_URI": mongod.uri,
            "MONGODB_DB": shared_database_name,
            "MIN_POOL_SIZE": "0",
            "OTEL_SDK_DISABLED": "true",
            "PORTFOLIO_RUNTIME_DIR": str(tmp_path_factory.getbasetemp() / "run"),
        }
    )


@pytest.fixture(scope="session")
def prepared() -> dict[str, MongoClient[Any]]:
    """A client without deadlines of each MongoDB that has the indexes.

    Making and dropping indexes would take most of a short test. The clients end with the process:
    to close one can take seconds.
    """
    return {}


@pytest.fixture(scope="module")
def apps() -> Iterator[dict[Settings, Flask]]:
    """The applications of a module's tests: to make one takes longer than most tests do."""
    apps: dict[Settings, Flask] = {}
    yield apps
    for app in apps.values():
        app.extensions["portfolio"].database.close()


@pytest.fixture
def app(
    settings: Settings,
    mongod: Mongod,
    apps: dict[Settings, Flask],
    prepared: dict[str, MongoClient[Any]],
) -> Iterator[Flask]:
    """The application on the real MongoDB: its indexes in place, its collections empty."""
    if settings not in apps:
        apps[settings] = create_app(settings)
    app = apps[settings]
    if settings.mongodb_uri not in prepared:
        app.extensions["portfolio"].database.ensure_indexes()
        prepared[settings.mongodb_uri] = mongod.client()
    yield app
    for name in (COLLECTION, IDEMPOTENCY_COLLECTION):
        prepared[settings.mongodb_uri][settings.mongodb_db][name].delete_many({})
    database = app.extensions["portfolio"].database
    if database.breaker.failure_count:
        # It has met failures that the next test must not count.
        del apps[settings]
        database.close()


@pytest.fixture
def another(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """Make applications beside ``app``, with other settings: ``another(api_keys=("key",))``."""
    made: list[Flask] = []

    def make(**changes: Any) -> Flask:
        made.append(create_app(replace(settings, **changes)))
        return made[-1]

    yield make
    for each in made:
        each.extensions["portfolio"].database.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the application on the real MongoDB."""
    return app.test_client()


@pytest.fixture
def collection(app: Flask) -> Collection[dict[str, Any]]:
    """The collection that the application uses, to look behind its back."""
    return app.extensions["portfolio"].database.portfolios


@pytest.fixture
def fail(mongod: Mongod) -> Iterator[Callable[..., None]]:
    """Let MongoDB fail commands of the service: ``fail(["insert"], times=1, errorCode=...)``."""

    def arm(commands: list[str], times: int = 1, **how: Any) -> None:
        data = {"failCommands": commands, "appName": SERVICE, **how}
        with mongod.client() as client:
            client.admin.command(
                "configureFailPoint", "failCommand", mode={"times": times}, data=data
            )

    yield arm
    with mongod.client() as client:
        client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.fixture
def unit_client() -> FlaskClient:
    """A client of an application on mongomock, for what does not concern the database."""
    return mongomock_app().test_client()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Gunicorn]]:
    """Start real Gunicorns: ``serve(mongodb_uri, VARIABLE=value)``; they end with the test."""
    started: list[Gunicorn] = []

    def start(mongodb_uri: str, **environment: str) -> Gunicorn:
        folder = tmp_path / f"gunicorn-{len(started)}"
        gunicorn = Gunicorn(folder, mongodb_uri, environment)
        started.append(gunicorn)
        gunicorn.start()
        return gunicorn

    yield start
    for gunicorn in started:
        gunicorn.kill()
