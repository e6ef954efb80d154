"""The request log: as much as is asked for, and errors always."""

from __future__ import annotations

import logging

import pytest
from flask import Flask

from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.devserver.mongomock_client import MongomockClient
from portfolio.observability.logging import LogLevelController


@pytest.fixture
def quiet() -> Settings:
    """Settings that keep nothing of the request log."""
    return Settings.from_environment(
        {"MONGODB_URI": "mongomock://localhost", "ENVIRONMENT": "production"}
    )


@pytest.fixture
def quiet_app(quiet: Settings) -> Flask:
    app = create_app(quiet, MongomockClient)

    @app.get("/breaks")
    def breaks() -> str:
        raise RuntimeError("on purpose")

    return app


def requests_logged(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [vars(record)["status"] for record in caplog.records if record.getMessage() == "request"]


def test_errors_are_logged_however_little_else_is(
    quiet_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "portfolio")
    client = quiet_app.test_client()
    for path in ("/health", "/breaks", "/nowhere"):
        client.get(path).close()
    assert requests_logged(caplog) == [500]


def test_detail_on_demand_brings_the_whole_request_log_and_goes_again(
    quiet: Settings, quiet_app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    controller: LogLevelController = quiet_app.extensions["portfolio"].log_level_controller
    client = quiet_app.test_client()
    try:
        controller.set_level("DEBUG")
        assert logging.getLogger("portfolio").level == logging.DEBUG
        client.get("/health").close()
        controller.set_level(None)
        assert logging.getLogger("portfolio").level == logging.WARNING
        client.get("/health").close()
    finally:
        logging.getLogger("portfolio").setLevel(logging.NOTSET)
        logging.getLogger("gunicorn.error").setLevel(logging.NOTSET)
    assert requests_logged(caplog) == [200]
