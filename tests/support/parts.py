"""Doubles in the place of parts that ``create_app`` has built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from flask import Flask

from portfolio.service import PortfolioService
from portfolio.storage.database import Database
from portfolio.storage.repository import PortfolioRepository
from portfolio.storage.search import PortfolioSearch
from portfolio.storage.writer import PortfolioWriter


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
