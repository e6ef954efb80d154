"""Applications with doubles in the place of MongoDB or of parts that ``create_app`` has built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from flask import Flask

from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.devserver.mongomock_client import MongomockClient
from portfolio.service import PortfolioService
from portfolio.storage.database import Database
from portfolio.storage.repository import PortfolioRepository
from portfolio.storage.search import PortfolioSearch
from portfolio.storage.writer import PortfolioWriter


def mongomock_app(**variables: str) -> Flask:
    """Return an application on mongomock, for what does not concern the database."""
    environment = {"MONGODB_URI": "mongomock://localhost", **variables}
    return create_app(Settings.from_environment(environment), MongomockClient)


@contextmanager
def storage(
    app: Flask,
    repository: Callable[[Database], PortfolioRepository] = PortfolioRepository,
    *,
    search: Callable[[Database], PortfolioSearch] = PortfolioSearch,
    writer: Callable[[Database], PortfolioWriter] = PortfolioWriter,
) -> Iterator[None]:
    """Let ``app`` read and store portfolios through other parts, for a while."""
    services = app.extensions["portfolio"]
    database = services.database
    portfolios = PortfolioService(repository(database), search(database), writer(database))
    app.extensions["portfolio"] = replace(services, portfolios=portfolios)
    try:
        yield
    finally:
        app.extensions["portfolio"] = services
