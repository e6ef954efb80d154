"""What MongoDB has to look at: each read is served by an index, in the order of that index.

The commands that are explained are the ones that the service sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from bson import ObjectId
from flask import Flask

from portfolio.api.pagination import CursorCodec
from portfolio.config import Settings
from portfolio.devserver.mongod import Mongod
from portfolio.models import Search, SortKey
from portfolio.storage.search import PortfolioSearch
from tests.support.calls import BULK, V2, one
from tests.support.listening import Commands, listening
from tests.support.parts import storage

DOCUMENTS = 2000
NAMESAKES = 200
# What a command says of its query; the rest concerns sessions and deadlines.
QUERY = ("find", "aggregate", "pipeline", "filter", "query", "key", "sort", "skip")
QUERY += ("limit", "singleBatch", "batchSize", "projection", "collation", "hint", "cursor")

Plan = dict[str, Any]


class Plans:
    """Explains the reads that the service sends."""

    def __init__(self, app: Flask, commands: Commands) -> None:
        self.app = app
        self._commands = commands
        self._database = app.extensions["portfolio"].database.database

    def of(self, ask: Callable[[], Any]) -> list[Plan]:
        """Return the plan of each read that ``ask`` has the service send."""
        self._commands.sent.clear()
        ask()
        reads = [
            {key: command[key] for key in command if key in QUERY}
            for name, command in self._commands.sent
            if name in ("find", "aggregate")
        ]
        assert reads
        return [
            self._database.command("explain", read, verbosity="executionStats") for read in reads
        ]

    def of_request(self, path: str, **request: Any) -> list[Plan]:
        """Return the plan of each read that serves a request."""

        def ask() -> None:
            response = self.app.test_client().open(path, **request)
            assert response.status_code < 300, response.text

        return self.of(ask)


@pytest.fixture(scope="module")
def plans(standalone: Mongod) -> Iterator[Plans]:
    """Plans over a collection worth an index: older ones with one name, newer ones with many."""
    commands = Commands()
    settings = Settings.from_environment(
        {"MONGODB_URI": standalone.uri, "MONGODB_DB": "plans", "MIN_POOL_SIZE": "0"}
    )
    with listening(settings, commands) as app:
        database = app.extensions["portfolio"].database
        database.ensure_indexes()
        names = ["Fund"] * NAMESAKES + [f"Portfolio {number}" for number in range(DOCUMENTS)]
        dates = [datetime(2023, 1, 1) + timedelta(minutes=number) for number in range(NAMESAKES)]
        dates += [
            datetime(2024, 1, 1) + timedelta(minutes=number * 7919 % DOCUMENTS)
            for number in range(DOCUMENTS)
        ]
        database.portfolios.insert_many(
            {"name": name, "dateCreated": date, "version": 1}
            for name, date in zip(names, dates, strict=True)
        )
        yield Plans(app, commands)
        database.client.drop_database("plans")


def find_all(key: str, plan: Any) -> list[Any]:
    """Return every value of ``key`` in the plan, but not in plans that were rejected."""
    if isinstance(plan, list):
        return [value for item in plan for value in find_all(key, item)]
    if not isinstance(plan, dict):
        return []
    found = [plan[key]] if key in plan else []
    for name, value in plan.items():
        if name != "rejectedPlans":
            found += find_all(key, value)
    return found


def documents_examined(plans: list[Plan]) -> int:
    return sum(max(find_all("totalDocsExamined", plan)) for plan in plans)


def keys_examined(plans: list[Plan]) -> int:
    return sum(max(find_all("totalKeysExamined", plan)) for plan in plans)


def assert_no_scan_and_no_sort(plans: list[Plan]) -> None:
    stages = find_all("stage", plans)
    assert stages
    assert not {"COLLSCAN", "SORT"} & set(stages), stages


def any_id(plans: Plans) -> str:
    return plans.app.test_client().get(f"{V2}?limit=1").json["portfolios"][0]["portfolioId"]


def test_one_portfolio_is_found_by_its_id_alone(plans: Plans) -> None:
    explained = plans.of_request(one(any_id(plans)))
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) == 1


def test_the_first_page_reads_no_more_than_it_shows(plans: Plans) -> None:
    explained = plans.of_request(V2)
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) <= 51


@pytest.mark.parametrize("name", [None, "fund"])
def test_the_last_page_by_cursor_reads_no_more_than_the_first(
    plans: Plans, name: str | None
) -> None:
    cursors: CursorCodec = plans.app.extensions["portfolio"].cursors
    search = Search(name=name, limit=20)
    near_the_end = SortKey(datetime(2023, 1, 1, 0, 30), ObjectId("f" * 24))
    cursor = cursors.encode(search, near_the_end)
    named = "" if name is None else f"&name={name}"
    (explained,) = plans.of_request(f"{V2}?limit=20&cursor={cursor}{named}")
    assert_no_scan_and_no_sort([explained])
    assert explained["executionStats"]["nReturned"] == 21
    assert keys_examined([explained]) <= 3 * 21


def test_a_name_is_found_by_an_index_whatever_its_case(plans: Plans) -> None:
    explained = plans.of_request(V2 + "?name=PORTFOLIO%20777")
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) == 1
    assert keys_examined(explained) <= 3


def test_names_that_may_exist_are_found_by_an_index(plans: Plans) -> None:
    body = [{"name": f"New portfolio {number}"} for number in range(100)]
    explained = plans.of_request(BULK, method="POST", json=body)
    assert_no_scan_and_no_sort(explained)
    # The hundred that the bulk has stored by now, and no other.
    assert documents_examined(explained) <= 100
    assert keys_examined(explained) <= 201


@pytest.mark.parametrize("number", [1, 1000])
def test_names_are_resolved_by_one_query_along_an_index(plans: Plans, number: int) -> None:
    names = [f" portfolio {each} " for each in range(number)]
    explained = plans.of_request(f"{V2}/resolve", method="POST", json={"names": names})
    assert len(explained) == 1
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) == number
    assert keys_examined(explained) <= 2 * number + 1


@pytest.mark.parametrize("number", [1, 500])
def test_ids_and_names_are_resolved_by_two_queries_along_indexes(plans: Plans, number: int) -> None:
    names = [f"PORTFOLIO {each}" for each in range(number)]
    ids = [any_id(plans), *(f"{each:024x}" for each in range(number - 1))]
    explained = plans.of_request(f"{V2}/resolve", method="POST", json={"ids": ids, "names": names})
    assert len(explained) == 2
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) == 1 + number
    assert keys_examined(explained) <= 4 * number + 1


def test_a_selective_substring_reads_keys_and_only_the_documents_it_shows(plans: Plans) -> None:
    explained = plans.of_request(V2 + "?name_like=folio%20777")
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) == 1


def test_a_common_substring_is_answered_from_the_newest(plans: Plans) -> None:
    page, count = plans.of_request(V2 + "?name_like=folio&limit=10")
    assert_no_scan_and_no_sort([page])
    assert documents_examined([page]) <= 11
    assert keys_examined([page]) <= 11
    # Counting looks at each name, but at no document.
    assert_no_scan_and_no_sort([count])
    assert documents_examined([count]) == 0


def test_among_very_many_either_half_looks_at_keys_of_its_own(
    plans: Plans,
) -> None:
    search = V2 + "?name_like=folio&limit=10"
    _, whole = plans.of_request(search)
    with storage(plans.app, search=partial(PortfolioSearch, parallel_threshold=DOCUMENTS)):
        _sample, *pages, newer, older = plans.of_request(search)
    assert len(pages) == 2
    assert_no_scan_and_no_sort([*pages, newer, older])
    # A key at either end tells where a half begins and that it is over.
    assert max(keys_examined([page]) for page in pages) <= 11 + 2
    assert keys_examined([newer, older]) <= keys_examined([whole]) + 4
    assert 0 < keys_examined([newer]) < keys_examined([whole])
    assert documents_examined([newer, older]) == 0


def test_each_list_of_an_export_reads_what_it_holds_along_the_ids(plans: Plans) -> None:
    portfolios = plans.app.extensions["portfolio"].portfolios
    explained = plans.of(lambda: list(portfolios.list_by_id()))
    assert_no_scan_and_no_sort(explained)
    assert len(explained) > 2
    assert max(documents_examined([each]) for each in explained) <= 1000
