"""Version 2 of the API keeps section 3 of the contract, on a real MongoDB."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from bson import ObjectId
from flask import Flask
from flask.testing import FlaskClient
from pymongo.collection import Collection

from tests.support.calls import (
    INVALID_NAME,
    SEARCH,
    V1,
    V2,
    create,
    create_all,
    faults,
    refusal,
)

Documents = Collection[dict[str, Any]]

# v2 and fast search alike: each promise holds for both.
both_searches = pytest.mark.parametrize("path", [V2, SEARCH])


def names(client: FlaskClient, path: str) -> list[str]:
    response = client.get(path)
    assert response.status_code == 200, response.text
    return [portfolio["name"] for portfolio in response.json["portfolios"]]


def pages(client: FlaskClient, path: str, limit: int) -> Iterator[dict[str, Any]]:
    """Follow the pages as a client does, until there is no next."""
    offset, more = 0, True
    while more:
        page = client.get(f"{path}limit={limit}&offset={offset}").json
        yield page
        offset += limit
        more = page["pagination"]["hasNext"]


# Pages


@both_searches
def test_nothing_is_one_empty_page(client: FlaskClient, path: str) -> None:
    body = client.get(path).json
    assert body["portfolios"] == []
    assert body["pagination"] == {
        "totalElements": 0,
        "totalPages": 0,
        "currentPage": 0,
        "pageSize": 50,
        "hasNext": False,
        "hasPrevious": False,
    }


def test_the_first_page_has_the_fifty_newest(client: FlaskClient) -> None:
    days = list(range(1, 29)) * 2
    random.Random(1).shuffle(days)
    response = client.post(
        V2,
        json=[
            {"name": f"P{number}", "dateCreated": f"2024-01-{day:02}"}
            for number, day in enumerate(days)
        ],
    )
    newest_first = sorted(
        response.json, key=lambda row: (row["dateCreated"], row["portfolioId"]), reverse=True
    )
    body = client.get(V2).json
    assert body["portfolios"] == newest_first[:50]
    assert body["pagination"] == {
        "totalElements": 56,
        "totalPages": 2,
        "currentPage": 0,
        "pageSize": 50,
        "hasNext": True,
        "hasPrevious": False,
    }


@pytest.mark.parametrize(
    ("limit", "offset", "rows", "expected"),
    [
        (10, 0, 10, (3, 0, True, False)),
        (10, 10, 10, (3, 1, True, True)),
        (10, 20, 5, (3, 2, False, True)),
        (10, 15, 10, (3, 1, False, True)),
        (25, 0, 25, (1, 0, False, False)),
        (1000, 0, 25, (1, 0, False, False)),
        (1, 24, 1, (25, 24, False, True)),
        (10, 25, 0, (3, 2, False, True)),
        (10, 2**63 - 1, 0, (3, (2**63 - 1) // 10, False, True)),
    ],
)
def test_a_page_tells_where_it_stands(
    client: FlaskClient, limit: int, offset: int, rows: int, expected: tuple[int, int, bool, bool]
) -> None:
    create_all(client, [f"P{number}" for number in range(25)])
    total_pages, current, has_next, has_previous = expected
    for search in ("", "name_like=p&"):
        body = client.get(f"{V2}?{search}limit={limit}&offset={offset}").json
        assert len(body["portfolios"]) == rows
        assert body["pagination"] == {
            "totalElements": 25,
            "totalPages": total_pages,
            "currentPage": current,
            "pageSize": limit,
            "hasNext": has_next,
            "hasPrevious": has_previous,
        }


def store_rows_of_one_date(collection: Documents) -> list[str]:
    """Store rows of which 25 share a date and 5 have none; return their ids as pages show them."""
    dated = [{"_id": ObjectId(), "dateCreated": datetime(2024, 1, 1)} for _ in range(25)]
    undated = [{"_id": ObjectId()} for _ in range(5)]
    rows = [row | {"name": "Same", "version": 1} for row in dated + undated]
    random.Random(2).shuffle(rows)
    collection.insert_many(rows)
    return [str(row["_id"]) for row in [*reversed(dated), *reversed(undated)]]


def ids(client: FlaskClient, path: str, limit: int) -> list[str]:
    found = [page["portfolios"] for page in pages(client, path, limit)]
    return [portfolio["portfolioId"] for page in found for portfolio in page]


@both_searches
@pytest.mark.parametrize("search", ["?", "?name=same&", "?name_like=am&"])
def test_pages_over_rows_of_one_date_never_overlap_or_skip(
    client: FlaskClient, collection: Documents, path: str, search: str
) -> None:
    stored = store_rows_of_one_date(collection)
    assert ids(client, path + search, limit=4) == stored


def test_pages_are_the_same_before_the_indexes_are_there(
    app: Flask, client: FlaskClient, collection: Documents
) -> None:
    collection.drop_indexes()
    try:
        stored = store_rows_of_one_date(collection)
        for search in ("?", "?name=same&", "?name_like=am&"):
            assert ids(client, V2 + search, limit=4) == stored
    finally:
        app.extensions["portfolio"].database.ensure_indexes()


# Searches


@both_searches
def test_name_is_equality_without_regard_to_case(client: FlaskClient, path: str) -> None:
    create_all(client, ["Growth", "growth fund", "Grow", "Growth-", "_Growth"])
    create(client, "GROWTH")
    assert sorted(names(client, path + "?name=gROWTH")) == ["GROWTH", "Growth"]
    assert names(client, path + "?name=Growt") == []


@both_searches
def test_name_like_is_a_substring_without_regard_to_case(client: FlaskClient, path: str) -> None:
    create_all(client, ["Growth", "Slow GROW", "Gr ow"])
    assert sorted(names(client, path + "?name_like=grow")) == ["Growth", "Slow GROW"]


@both_searches
def test_a_hyphen_and_a_space_mean_themselves(client: FlaskClient, path: str) -> None:
    create_all(client, ["a-b", "a b", "a_b", "ab"])
    for name in ("a-b", "a b", "a_b"):
        query = name.replace(" ", "%20")
        assert names(client, f"{path}?name={query}") == [name]
        assert names(client, f"{path}?name_like={query}") == [name]


def test_a_search_finds_what_v1_stored(client: FlaskClient) -> None:
    create(client, "Größe (7.5%)")
    assert names(client, V2 + "?name_like=7") == ["Größe (7.5%)"]


def test_a_search_that_was_asked_before_sees_what_is_new(client: FlaskClient) -> None:
    for count in (1, 2, 3):
        create(client, "Growth")
        assert client.get(V2 + "?name=growth").json["pagination"]["totalElements"] == count


@both_searches
@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("?name=a&name_like=b", "Only one search parameter allowed: name or name_like"),
        ("?name=&name_like=", "Only one search parameter allowed: name or name_like"),
        ("?name=", "Search parameter cannot be empty"),
        ("?name_like=", "Search parameter cannot be empty"),
        ("?name=%20%20", "Search parameter cannot be empty"),
        ("?name_like=a.*", INVALID_NAME),
        ("?name=" + "x" * 201, INVALID_NAME),
        ("?name=%ff", INVALID_NAME),
        ("?name=a%00", INVALID_NAME),
    ],
)
def test_a_search_that_breaks_a_rule_is_told_which(
    unit_client: FlaskClient, path: str, query: str, detail: str
) -> None:
    for _ in range(2):  # the second time past the validation cache
        assert refusal(unit_client.get(path + query)) == (400, detail)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?limit=0", {("query", "limit", "greater_than_equal")}),
        ("?limit=1001", {("query", "limit", "less_than_equal")}),
        ("?offset=-1", {("query", "offset", "greater_than_equal")}),
        ("?offset=9223372036854775808", {("query", "offset", "less_than_equal")}),
        (
            "?limit=ten&offset=1.5",
            {("query", "limit", "int_type"), ("query", "offset", "int_type")},
        ),
        ("?limit=", {("query", "limit", "int_type")}),
        (
            "?limit=0&name=a&name=b",
            {("query", "limit", "greater_than_equal"), ("query", "name", "repeated")},
        ),
    ],
)
def test_each_parameter_that_is_not_valid_is_named(
    unit_client: FlaskClient, query: str, expected: set[Any]
) -> None:
    assert faults(unit_client.get(V2 + query)) == expected


def test_unknown_parameters_are_ignored(client: FlaskClient) -> None:
    created = create(client)
    assert client.get(V2 + "?sort=name&sort=date").json["portfolios"] == [created]


# Bulk


@pytest.mark.parametrize("count", [1, 100])
def test_a_bulk_is_stored_and_answered_in_input_order(client: FlaskClient, count: int) -> None:
    asked = [f"P{number * 7 % count}" for number in range(count)]
    created = create_all(client, asked)
    assert [portfolio["name"] for portfolio in created] == asked
    assert client.get(V1).json == created


def test_each_item_of_a_bulk_keeps_its_own_date_and_version(client: FlaskClient) -> None:
    body = [{"name": "A", "dateCreated": 0, "version": "3"}, {"name": "B", "version": None}]
    first, second = client.post(V2, json=body).json
    assert (first["dateCreated"], first["version"]) == ("1970-01-01T00:00:00.000Z", 3)
    assert second["version"] == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ([], "Request must contain at least 1 portfolio"),
        ([{}] * 101, "Request cannot contain more than 100 portfolios"),
        (
            [{"name": name} for name in ("A", "b", " a", "C", "B ", "A")],
            "Duplicate portfolio names found in request: A, b",
        ),
        ([{"name": "A"}, {"name": "Größe"}], INVALID_NAME),
        ([{"name": ""}], INVALID_NAME),
        ([{"name": "A" * 201}], INVALID_NAME),
    ],
)
def test_a_bulk_that_breaks_a_rule_stores_nothing(
    unit_client: FlaskClient, body: list[Any], detail: str
) -> None:
    assert refusal(unit_client.post(V2, json=body)) == (400, detail)
    assert unit_client.get(V1).json == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": "A"}, {("body", "list_type")}),
        ("A", {("body", "list_type")}),
        (
            [{"name": "A"}, {}, {"name": 3}, 4, {"name": "B", "version": True}],
            {
                ("body", 1, "name", "missing"),
                ("body", 2, "name", "string_type"),
                ("body", 3, "dict_type"),
                ("body", 4, "version", "int_type"),
            },
        ),
    ],
)
def test_a_bulk_of_the_wrong_kind_is_told_each_fault(
    unit_client: FlaskClient, body: object, expected: set[Any]
) -> None:
    assert faults(unit_client.post(V2, json=body)) == expected
    assert unit_client.get(V1).json == []
