"""What tests of the service on a real MongoDB share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from portfolio.app import create_app
from portfolio.config import SERVICE, Settings
from portfolio.devserver.mongod import Mongod


@pytest.fixture(scope="session")
def database_name() -> str:
    """The name of the database that these tests use one after the other, each from empty."""
    return f"test-{uuid.uuid4().hex[:16]}"


@pytest.fixture(scope="session")
def prepared() -> set[str]:
    """Which MongoDB has the indexes: making and dropping them takes most of a short test."""
    return set()


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings without telemetry, which has no collector here, for a pod of the test's own."""
    return replace(settings, otel_sdk_disabled=True, runtime_dir=str(tmp_path / "run"))


@pytest.fixture
def app(settings: Settings, prepared: set[str]) -> Iterator[Flask]:
    """The application on the real MongoDB: its indexes in place, its collections empty."""
    app = create_app(settings)
    database = app.extensions["portfolio"].database
    if settings.mongodb_uri not in prepared:
        database.ensure_indexes()
        prepared.add(settings.mongodb_uri)
    yield app
    for collection in (database.portfolios, database.idempotency):
        collection.delete_many({})
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
