"""A search that runs into its own deadline takes nobody else's service away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from bson import ObjectId
from flask import Flask
from pymongo import MongoClient
from pymongo.database import Database

from portfolio.api.pagination import CursorCodec
from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.models import Search, SortKey
from tests.support.calls import V2, create, one
from tests.support.gunicorn import wait_until

SLOW = f"{V2}?name_like="
# What MongoDB is at for longer than any deadline here.
_SLOW_FILTER = {"$where": "function () { sleep(3000); return true; }"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a small pool and a deadline that tests can wait for."""
    return replace(settings, request_timeout_ms=500, max_pool_size=8)


class SlowDatabase(Database[dict[str, Any]]):
    """Has MongoDB search for all but one portfolio longer than any deadline here."""

    def command(self, command: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("limit", 1) > 1:
            options["filter"] = _SLOW_FILTER
            options.pop("skip", None)
        return super().command(command, *arguments, **options)


class SlowClient(MongoClient[dict[str, Any]]):
    """A client of which every database is a slow one."""

    def get_database(self, name: str | None = None, *arguments: Any, **options: Any) -> Any:
        return SlowDatabase(self, name or "", *arguments, **options)


@pytest.fixture
def started(app: Flask, settings: Settings) -> Iterator[Flask]:
    """The application as a worker runs it, MongoDB being pinged, beside the one with indexes."""
    started = create_app(settings, SlowClient)
    database = started.extensions["portfolio"].database
    database.start()
    yield started
    database.close()


@pytest.fixture
def slow_searches(started: Flask) -> Any:
    """Keep so many clients busy with searches that MongoDB never gets done with."""

    @contextmanager
    def search(clients: int, query: str) -> Iterator[list[int]]:
        statuses: list[int] = []
        over = False

        def keep_searching(number: int) -> None:
            client = started.test_client()
            while not over:
                # Each its own, so that none joins another's.
                statuses.append(client.get(f"{V2}?{query}{number}").status_code)

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


@pytest.mark.parametrize(
    ("clients", "query"),
    [(4, "name_like="), (40, "name_like="), (40, "offset=9000"), (40, "cursor={}&limit=1")],
)
def test_while_searches_time_out_all_else_is_served(
    started: Flask, slow_searches: Callable[..., Any], settings: Settings, clients: int, query: str
) -> None:
    behind_an_array = CursorCodec(settings).encode(Search(), SortKey([], ObjectId()))
    client = started.test_client()
    path = one(create(client)["portfolioId"])
    database = started.extensions["portfolio"].database
    with slow_searches(clients, query.format(behind_an_array)) as searches:
        for some in (6, 12, 18):
            # More failures in a row than open a breaker.
            wait_until(lambda: len(searches) >= some, "more searches have timed out")  # noqa: B023
            assert client.get(path).status_code == 200
            assert database.breaker.state == "closed"
            assert database.health.reachable
    assert set(searches) == {503}


def test_a_timeout_counts_where_pings_fail_as_well(
    started: Flask, fail: Callable[..., None]
) -> None:
    client = started.test_client()
    create(client)
    database = started.extensions["portfolio"].database
    fail(["count"], 1000, closeConnection=True)
    wait_until(lambda: not database.health.reachable, "a ping has failed")
    assert client.get(f"{SLOW}x").status_code == 503
    assert database.breaker.failure_count == 1
