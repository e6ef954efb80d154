"""What tests share: a real MongoDB of each topology, and the service on top of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pymongo.collection import Collection

from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.devserver.mongod import Mongod
from portfolio.devserver.mongomock_client import MongomockClient
from tests.support.gunicorn import Gunicorn
from tests.support.mongod import TEST_PARAMETERS


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A standalone MongoDB."""
    mongod = Mongod(tmp_path_factory.mktemp("standalone"), parameters=TEST_PARAMETERS)
    mongod.start()
    yield mongod
    mongod.kill()


@pytest.fixture(scope="session")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A replica set of one member: what it takes to have transactions."""
    mongod = Mongod(
        tmp_path_factory.mktemp("replica-set"), replica_set="rs", parameters=TEST_PARAMETERS
    )
    mongod.start()
    mongod.initiate()
    yield mongod
    mongod.kill()


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
    """The name of a database that no other test uses."""
    return f"test-{uuid.uuid4().hex[:16]}"


@pytest.fixture
def settings(mongod: Mongod, database_name: str) -> Settings:
    """Settings for a service on the real MongoDB, with a database of the test's own."""
    return Settings.from_environment(
        {}, mongodb_uri=mongod.uri, mongodb_db=database_name, min_pool_size=0
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """The application on the real MongoDB, its indexes in place."""
    app = create_app(settings)
    database = app.extensions["portfolio"].database
    database.ensure_indexes()
    yield app
    database.client.drop_database(settings.mongodb_db)
    database.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the application on the real MongoDB."""
    return app.test_client()


@pytest.fixture
def collection(app: Flask) -> Collection[dict[str, Any]]:
    """The collection that the application uses, to look behind its back."""
    return app.extensions["portfolio"].database.portfolios


@pytest.fixture
def unit_client() -> FlaskClient:
    """A client of an application on mongomock, for what does not concern the database."""
    settings = Settings.from_environment({}, mongodb_uri="mongomock://localhost")
    return create_app(settings, MongomockClient).test_client()


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
