"""A search that runs into its own deadline takes nobody else's service away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portfolio.config import Settings
from portfolio.models import Search
from portfolio.storage.repository import PortfolioRepository
from tests.support.calls import V2, create, one
from tests.support.gunicorn import wait_until

SLOW = f"{V2}?name_like="
# What MongoDB is at for longer than any deadline here.
_SLOW_FILTER = {"$where": "function () { sleep(3000); return true; }"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a small pool and a deadline that tests can wait for."""
    return replace(settings, request_timeout_ms=500, max_pool_size=8)


@pytest.fixture
def started(app: Flask) -> Flask:
    """The application as a worker runs it: MongoDB is pinged."""
    app.extensions["portfolio"].database.start()
    return app


@pytest.fixture
def slow_searches(started: Flask, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keep so many clients busy with searches by substring that MongoDB never gets done with."""
    criteria = PortfolioRepository._criteria

    def slow_criteria(self: PortfolioRepository, search: Search) -> Any:
        if search.name_like is not None:
            return _SLOW_FILTER, {}
        return criteria(self, search)

    monkeypatch.setattr(PortfolioRepository, "_criteria", slow_criteria)

    @contextmanager
    def search(clients: int) -> Iterator[list[int]]:
        statuses: list[int] = []
        over = False

        def keep_searching(number: int) -> None:
            client = started.test_client()
            while not over:
                # Each its own, so that none joins another's.
                statuses.append(client.get(f"{SLOW}{number}").status_code)

        with ThreadPoolExecutor(clients) as pool:
            running: list[Future[None]] = [
                pool.submit(keep_searching, number) for number in range(clients)
            ]
            try:
                yield statuses
            finally:
                over = True
        for each in running:
            each.result()

    return search


@pytest.mark.parametrize("clients", [4, 40])
def test_while_searches_time_out_all_else_is_served(
    started: Flask, client: FlaskClient, slow_searches: Callable[[int], Any], clients: int
) -> None:
    path = one(create(client)["portfolioId"])
    database = started.extensions["portfolio"].database
    with slow_searches(clients) as searches:
        for some in (6, 12, 18):
            # More failures in a row than open a breaker.
            wait_until(lambda: len(searches) >= some, "more searches have timed out")  # noqa: B023
            assert client.get(path).status_code == 200
            assert database.breaker.state == "closed"
            assert database.health.reachable
    assert set(searches) == {503}


def test_a_timeout_counts_where_nothing_else_is_answered(app: Flask, client: FlaskClient) -> None:
    create(client)
    database = app.extensions["portfolio"].database
    database.health._failing_since = time.monotonic()  # as pings do when they are not answered
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PortfolioRepository, "_criteria", lambda *_: (_SLOW_FILTER, {}))
        assert client.get(f"{SLOW}x").status_code == 503
    assert database.breaker.failure_count == 1
