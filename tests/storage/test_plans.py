"""What MongoDB has to look at: each read is served by an index, in the order of that index.

The commands that are explained are the ones that the service sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from flask import Flask
from pymongo import MongoClient, monitoring

from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.devserver.mongod import Mongod
from portfolio.storage.search import PortfolioSearch
from tests.support.calls import BULK, V2, one
from tests.support.listening import Listener
from tests.support.parts import storage

DOCUMENTS = 2000
# What a command says of its query; the rest concerns sessions and deadlines.
QUERY = ("find", "aggregate", "pipeline", "filter", "query", "key", "sort", "skip")
QUERY += ("limit", "singleBatch", "batchSize", "projection", "collation", "hint", "cursor")

Plan = dict[str, Any]


class Sent(Listener):
    """Keeps the reads that a client sent."""

    def __init__(self) -> None:
        self.queries: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in ("find", "aggregate"):
            command = event.command
            self.queries.append({key: command[key] for key in command if key in QUERY})


@pytest.fixture(scope="module")
def plans(standalone: Mongod) -> Iterator[Callable[..., list[Plan]]]:
    """Explain what the service sends for a path, over a collection worth an index."""
    sent = Sent()

    def connect(uri: str, **options: Any) -> MongoClient[dict[str, Any]]:
        options["event_listeners"] = [*options["event_listeners"], sent]
        return MongoClient(uri, **options)

    settings = Settings.from_environment(
        {"MONGODB_URI": standalone.uri, "MONGODB_DB": "plans", "MIN_POOL_SIZE": "0"}
    )
    app = create_app(settings, connect)
    another = create_app(settings, connect)
    database = app.extensions["portfolio"].database
    database.ensure_indexes()
    database.portfolios.insert_many(
        {
            "name": f"Portfolio {number}",
            "dateCreated": datetime(2024, 1, 1) + timedelta(minutes=number * 7919 % DOCUMENTS),
            "version": 1,
        }
        for number in range(DOCUMENTS)
    )

    def explain(path: str, app: Flask = app, **request: Any) -> list[Plan]:
        def ask() -> None:
            response = app.test_client().open(path, **request)
            assert response.status_code < 300, response.text

        return explain_all(ask)

    def explain_all(ask: Callable[[], Any]) -> list[Plan]:
        sent.queries.clear()
        ask()
        explained = [
            database.database.command("explain", query, verbosity="executionStats")
            for query in sent.queries
        ]
        assert explained
        return explained

    portfolios = app.extensions["portfolio"].portfolios
    explain.identity = str(database.portfolios.find_one()["_id"])  # type: ignore[attr-defined]
    explain.another = another  # type: ignore[attr-defined]
    explain.export = lambda: explain_all(  # type: ignore[attr-defined]
        lambda: list(portfolios.list_by_id())
    )
    yield explain
    database.client.drop_database("plans")
    for each in (app, another):
        each.extensions["portfolio"].database.close()


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


def test_one_portfolio_is_found_by_its_id_alone(plans: Any) -> None:
    explained = plans(one(plans.identity))
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) == 1


def test_the_first_page_reads_no_more_than_it_shows(plans: Any) -> None:
    explained = plans(V2)
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) <= 51


def test_a_name_is_found_by_an_index_whatever_its_case(plans: Any) -> None:
    explained = plans(V2 + "?name=PORTFOLIO%20777")
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) == 1
    assert keys_examined(explained) <= 3


def test_names_that_may_exist_are_found_by_an_index(plans: Any) -> None:
    body = [{"name": f"New portfolio {number}"} for number in range(100)]
    explained = plans(BULK, method="POST", json=body)
    assert_no_scan_and_no_sort(explained)
    # The hundred that the bulk has stored by now, and no other.
    assert documents_examined(explained) <= 100
    assert keys_examined(explained) <= 201


@pytest.mark.parametrize("number", [1, 1000])
def test_names_are_resolved_by_one_query_along_an_index(plans: Any, number: int) -> None:
    names = [f" portfolio {each} " for each in range(number)]
    explained = plans(f"{V2}/resolve", method="POST", json={"names": names})
    assert len(explained) == 1
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) == number
    assert keys_examined(explained) <= 2 * number + 1


@pytest.mark.parametrize("number", [1, 500])
def test_ids_and_names_are_resolved_by_two_queries_along_indexes(plans: Any, number: int) -> None:
    names = [f"PORTFOLIO {each}" for each in range(number)]
    ids = [plans.identity, *(f"{each:024x}" for each in range(number - 1))]
    explained = plans(f"{V2}/resolve", method="POST", json={"ids": ids, "names": names})
    assert len(explained) == 2
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) == 1 + number
    assert keys_examined(explained) <= 4 * number + 1


def test_a_selective_substring_reads_keys_and_only_the_documents_it_shows(plans: Any) -> None:
    explained = plans(V2 + "?name_like=folio%20777")
    assert_no_scan_and_no_sort(explained)
    assert documents_examined(explained) == 1


def test_a_common_substring_is_answered_from_the_newest(plans: Any) -> None:
    page, count = plans(V2 + "?name_like=folio&limit=10")
    assert_no_scan_and_no_sort([page])
    assert documents_examined([page]) <= 11
    assert keys_examined([page]) <= 11
    # Counting looks at each name, but at no document.
    assert_no_scan_and_no_sort([count])
    assert documents_examined([count]) == 0


def test_among_very_many_either_half_looks_at_keys_of_its_own(
    plans: Any,
) -> None:
    search = V2 + "?name_like=folio&limit=10"
    _, whole = plans(search)
    with storage(plans.another, search=partial(PortfolioSearch, parallel_threshold=DOCUMENTS)):
        _sample, *pages, newer, older = plans(search, plans.another)
    assert len(pages) == 2
    assert_no_scan_and_no_sort([*pages, newer, older])
    # A key at either end tells where a half begins and that it is over.
    assert max(keys_examined([page]) for page in pages) <= 11 + 2
    assert keys_examined([newer, older]) <= keys_examined([whole]) + 4
    assert 0 < keys_examined([newer]) < keys_examined([whole])
    assert documents_examined([newer, older]) == 0


def test_each_list_of_an_export_reads_what_it_holds_along_the_ids(plans: Any) -> None:
    explained = plans.export()
    assert_no_scan_and_no_sort(explained)
    assert len(explained) > 2
    assert max(documents_examined([each]) for each in explained) <= 1000
