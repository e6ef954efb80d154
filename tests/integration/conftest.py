"""What tests of the service on a real MongoDB share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from pymongo import MongoClient

from portfolio.app import create_app
from portfolio.config import SERVICE, Settings
from portfolio.devserver.mongod import Mongod
from portfolio.storage.client import COLLECTION, IDEMPOTENCY_COLLECTION


@pytest.fixture(scope="session")
def database_name() -> str:
    """The name of the database that these tests use one after the other, each from empty."""
    return f"test-{uuid.uuid4().hex[:16]}"


@pytest.fixture(scope="session")
def prepared() -> dict[str, MongoClient[Any]]:
    """A client without deadlines of each MongoDB that has the indexes.

    Making and dropping indexes would take most of a short test. The clients end with the process:
    to close one can take seconds.
    """
    return {}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings without telemetry, which has no collector here, for a pod of the test's own."""
    return replace(settings, otel_sdk_disabled=True, runtime_dir=str(tmp_path / "run"))


@pytest.fixture
def app(
    settings: Settings, mongod: Mongod, prepared: dict[str, MongoClient[Any]]
) -> Iterator[Flask]:
    """The application on the real MongoDB: its indexes in place, its collections empty."""
    app = create_app(settings)
    database = app.extensions["portfolio"].database
    if settings.mongodb_uri not in prepared:
        database.ensure_indexes()
        prepared[settings.mongodb_uri] = mongod.client()
    yield app
    for name in (COLLECTION, IDEMPOTENCY_COLLECTION):
        prepared[settings.mongodb_uri][settings.mongodb_db][name].delete_many({})
    database.close()


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
