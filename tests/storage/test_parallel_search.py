"""A search among very many portfolios, asked in halves, answers what it would answer whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from bson import MaxKey, MinKey, ObjectId, Regex, Timestamp
from flask import Flask
from flask.testing import FlaskClient
from pymongo.collection import Collection

from portfolio.errors import Unavailable
from portfolio.models import Search
from portfolio.scheduling import budget
from portfolio.storage.documents import PAGES_INDEX
from portfolio.storage.search import PortfolioSearch
from tests.support.parts import storage

Stored = Collection[dict[str, Any]]

BORN = datetime(2024, 1, 1)
NO_DATES: list[Any] = [None, "yesterday", 7, True, {}, ObjectId(), MinKey()]
NO_DATES += [Timestamp(1, 1), Regex("a"), MaxKey()]
SEARCH = "/api/v2/portfolios?name_like=Fund"


@pytest.fixture
def halved(app: Flask, another: Callable[..., Flask]) -> Iterator[Flask]:
    """Another application on the portfolios of ``app``, for which a few are very many."""
    halved = another()
    with storage(halved, search=partial(PortfolioSearch, parallel_threshold=10)):
        yield halved


@pytest.fixture
def stored(collection: Stored) -> int:
    """Portfolios with dates, several of each, with what is no date, and with nothing; how many."""
    dates: list[dict[str, Any]] = [
        {"dateCreated": BORN + timedelta(hours=n // 3)} for n in range(60)
    ]
    dates += [{"dateCreated": value} for value in NO_DATES]
    dates += [{}, {}]
    collection.insert_many({"name": f"Fund {n % 4}", **date} for n, date in enumerate(dates))
    collection.insert_many({"name": "other", "dateCreated": BORN} for _ in range(5))
    return len(dates)


def pages(client: FlaskClient, query: str) -> list[dict[str, Any]]:
    """Return the pages of a search as they are answered, until one is the last."""
    found: list[dict[str, Any]] = []
    while True:
        offset = sum(len(page["portfolios"]) for page in found)
        answer = client.get(f"{query}&offset={offset}")
        assert answer.status_code == 200, answer.text
        found.append(answer.json)
        if not answer.json["pagination"]["hasNext"]:
            return found


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("query", [f"{SEARCH}&limit=7", f"{SEARCH}&limit=100", f"{SEARCH}%203"])
def test_every_page_and_total_is_that_of_one_search(
    client: FlaskClient, halved: Flask, query: str
) -> None:
    whole = pages(client, query)
    assert pages(halved.test_client(), query) == whole


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("limit", [7, 100])
def test_the_first_page_by_cursor_and_where_it_ends_are_those_of_one_search(
    client: FlaskClient, halved: Flask, limit: int
) -> None:
    query = f"{SEARCH}&limit={limit}&cursor="
    whole = client.get(query).json
    assert halved.test_client().get(query).json == whole


def test_without_the_index_of_pages_a_search_is_answered_all_the_same(
    halved: Flask, collection: Stored, stored: int
) -> None:
    collection.drop_index(PAGES_INDEX)
    try:
        answer = halved.test_client().get(SEARCH)
        assert answer.json["pagination"]["totalElements"] == stored, answer.text
    finally:
        halved.extensions["portfolio"].database.ensure_indexes()


@pytest.mark.usefixtures("stored")
def test_both_halves_keep_to_the_deadline_of_the_request(
    halved: Flask, fail: Callable[..., None]
) -> None:
    portfolios = halved.extensions["portfolio"].portfolios
    portfolios.search(Search(name_like="Fund"))  # finds the middle
    fail(["find"], times=2, blockConnection=True, blockTimeMS=2000)
    with pytest.raises(Unavailable), budget(0.5):
        portfolios.search(Search(name_like="Fund"))
