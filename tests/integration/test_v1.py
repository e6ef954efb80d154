"""Version 1 of the API keeps section 2 of the contract, on a real MongoDB."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from flask import Flask
from flask.testing import FlaskClient
from pymongo.collection import Collection

from tests.support.calls import UNKNOWN, V1, V2, create, create_all, faults, one, refusal

NOT_FOUND = (404, "Portfolio not found")
CONFLICT = (409, "Version conflict")


# The list of all


def test_an_empty_list_is_an_empty_array(client: FlaskClient) -> None:
    response = client.get(V1)
    assert (response.status_code, response.json) == (200, [])
    assert response.mimetype == "application/json"


def test_the_list_has_every_portfolio_in_insertion_order(client: FlaskClient) -> None:
    newest = create(client, "B", dateCreated="2030-01-01")
    bulk = create_all(client, ["C", "A"], dateCreated="2020-01-01")
    assert client.get(V1).json == [newest, *bulk]


def test_the_list_ignores_query_parameters(client: FlaskClient) -> None:
    create_all(client, ["A", "B"])
    response = client.get(V1 + "?limit=1&offset=x&name=&limit=2")
    assert (response.status_code, len(response.json)) == (200, 2)


LINES = "application/x-ndjson"


def test_the_list_goes_on_beyond_a_batch_as_an_array_or_as_lines(
    client: FlaskClient, collection: Collection[dict[str, Any]]
) -> None:
    names = [f"Fund {number}\n" for number in range(2345)]
    collection.insert_many({"name": name} for name in names)
    array = client.get(V1)
    assert [portfolio["name"] for portfolio in array.json] == names
    lines = client.get(V1, headers={"Accept": LINES})
    assert lines.data.endswith(b"\n")
    assert [json.loads(line) for line in lines.data.splitlines()] == array.json


def test_no_portfolios_are_no_lines(client: FlaskClient) -> None:
    assert client.get(V1, headers={"Accept": LINES}).data == b""


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("application/json, application/x-ndjson", "application/json"),
        ("application/json;q=0.5, application/x-ndjson", LINES),
        ("application/x-ndjson, */*;q=0.1", LINES),
        ("text/html", "application/json"),
        ("nonsense", "application/json"),
    ],
)
def test_a_client_chooses_between_an_array_and_lines(
    unit_client: FlaskClient, accept: str, expected: str
) -> None:
    answer = unit_client.get(V1, headers={"Accept": accept})
    assert answer.mimetype == expected
    assert "Accept" in answer.headers["Vary"]


# Creation


def test_a_created_portfolio_is_read_back_the_same(client: FlaskClient) -> None:
    created = create(client, name="Größe 7, «été»", version=3)
    assert set(created) == {"portfolioId", "name", "dateCreated", "version"}
    assert ObjectId.is_valid(created["portfolioId"])
    assert (created["name"], created["version"]) == ("Größe 7, «été»", 3)
    assert client.get(one(created["portfolioId"])).json == created
    assert client.get(V1).json == [created]
    assert client.get(V2).json["portfolios"] == [created]


def test_a_portfolio_is_dated_at_its_creation(client: FlaskClient) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    created = datetime.fromisoformat(create(client)["dateCreated"])
    assert before <= created <= datetime.now(UTC)


def test_two_portfolios_may_have_one_name(client: FlaskClient) -> None:
    assert create(client)["portfolioId"] != create(client)["portfolioId"]


def test_a_portfolio_that_is_not_valid_is_not_created(unit_client: FlaskClient) -> None:
    wrong = {"name": "x" * 201, "version": -1, "dateCreated": "never"}
    assert faults(unit_client.post(V1, json=wrong)) == {
        ("body", "name", "string_length"),
        ("body", "version", "greater_than_equal"),
        ("body", "dateCreated", "datetime_type"),
    }
    assert faults(unit_client.post(V1, json={})) == {("body", "name", "missing")}
    assert faults(unit_client.post(V1, json=[])) == {("body", "dict_type")}
    assert faults(unit_client.post(V1, json="Growth")) == {("body", "dict_type")}
    assert unit_client.get(V1).json == []


# One portfolio


@pytest.mark.parametrize("unknown", [UNKNOWN, "nonsense", "0", "x" * 24, "é", "0" * 25])
def test_an_unknown_or_impossible_id_is_not_found(client: FlaskClient, unknown: str) -> None:
    body = {"portfolioId": unknown, "name": "Growth", "version": 1}
    assert refusal(client.get(one(unknown))) == NOT_FOUND
    assert refusal(client.put(one(unknown), json=body)) == NOT_FOUND
    assert refusal(client.delete(one(unknown) + "?version=1")) == NOT_FOUND


def test_an_id_may_be_written_in_capitals(client: FlaskClient) -> None:
    created = create(client)
    path = one(created["portfolioId"].upper())
    assert client.get(path).json == created
    assert client.put(path, json=created).json == created | {"version": 2}


# Updates


def test_an_update_changes_name_and_date_and_counts_the_version_up(client: FlaskClient) -> None:
    created = create(client, version=7)
    body = created | {"name": "Value", "dateCreated": "2024-01-20T14:45:00.123999+01:00"}
    updated = client.put(one(created["portfolioId"]), json=body)
    assert updated.status_code == 200
    assert updated.json == created | {
        "name": "Value",
        "dateCreated": "2024-01-20T13:45:00.123Z",
        "version": 8,
    }
    assert client.get(one(created["portfolioId"])).json == updated.json


@pytest.mark.parametrize("absent", [{}, {"dateCreated": None}])
def test_an_update_without_a_date_leaves_it_unchanged(client: FlaskClient, absent: dict) -> None:
    created = create(client, dateCreated="2020-02-20")
    body = {"portfolioId": created["portfolioId"], "name": "Value", "version": "1", **absent}
    updated = client.put(one(created["portfolioId"]), json=body).json
    assert updated == created | {"name": "Value", "version": 2}


@pytest.mark.parametrize("version", [0, 1, 3])
def test_an_update_of_another_version_is_a_conflict(client: FlaskClient, version: int) -> None:
    created = create(client, version=2)
    path = one(created["portfolioId"])
    body = created | {"version": version, "name": "Value"}
    assert refusal(client.put(path, json=body)) == CONFLICT
    assert client.get(path).json == created


def test_an_update_that_is_not_valid_changes_nothing(client: FlaskClient) -> None:
    created = create(client)
    path = one(created["portfolioId"])
    assert faults(client.put(path, json={})) == {
        ("body", "portfolioId", "missing"),
        ("body", "name", "missing"),
        ("body", "version", "missing"),
    }
    assert faults(client.put(path, json=created | {"portfolioId": UNKNOWN})) == {
        ("body", "portfolioId", "id_mismatch")
    }
    wrong = {"portfolioId": UNKNOWN, "name": " ", "version": 1.5}
    assert faults(client.put(path, json=created | wrong)) == {
        ("body", "portfolioId", "id_mismatch"),
        ("body", "name", "string_blank"),
        ("body", "version", "int_type"),
    }
    assert client.get(path).json == created


def test_of_sixteen_updates_of_one_version_one_wins(app: Flask, client: FlaskClient) -> None:
    portfolio = create(client)
    path = one(portfolio["portfolioId"])

    def update(number: int) -> int:
        body = portfolio | {"name": f"Update {number}"}
        return app.test_client().put(path, json=body).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(update, range(16)))
    assert sorted(statuses) == [200] + [409] * 15
    winner = statuses.index(200)
    assert client.get(path).json == portfolio | {"name": f"Update {winner}", "version": 2}


# Deletion


def test_a_deleted_portfolio_is_gone(client: FlaskClient) -> None:
    created, kept = create_all(client, ["A", "B"])
    path = one(created["portfolioId"])
    response = client.delete(path + "?version=1")
    assert (response.status_code, response.data) == (204, b"")
    assert refusal(client.get(path)) == NOT_FOUND
    assert refusal(client.delete(path + "?version=1")) == NOT_FOUND
    assert client.get(V1).json == [kept]


def test_a_deletion_of_another_version_is_a_conflict(client: FlaskClient) -> None:
    created = create(client, version=2)
    path = one(created["portfolioId"])
    for version in (0, 1, 3):
        assert refusal(client.delete(f"{path}?version={version}")) == CONFLICT
    assert client.get(path).json == created


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("", "missing"),
        ("?version=", "int_type"),
        ("?version=one", "int_type"),
        ("?version=1.0", "int_type"),
        ("?version=-9223372036854775809", "greater_than_equal"),
        ("?version=9223372036854775808", "less_than_equal"),
    ],
)
def test_a_deletion_needs_a_version_that_is_an_integer(
    unit_client: FlaskClient, query: str, kind: str
) -> None:
    created = create(unit_client)
    response = unit_client.delete(one(created["portfolioId"]) + query)
    assert faults(response) == {("query", "version", kind)}
    assert unit_client.get(V1).json == [created]


def test_of_sixteen_updates_and_deletions_of_one_version_one_wins(app: Flask) -> None:
    client = app.test_client()
    portfolio = create(client)
    path = one(portfolio["portfolioId"])

    def change(number: int) -> int:
        other = app.test_client()
        if number % 2:
            return other.delete(path + "?version=1").status_code
        return other.put(path, json=portfolio).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(change, range(16)))
    won = [status for status in statuses if status < 400]
    assert len(won) == 1
    assert set(statuses) - set(won) <= ({404} if won == [204] else {409})


# Validation of ids


def test_ids_are_sorted_by_whether_they_exist_in_input_order(client: FlaskClient) -> None:
    first, second = (portfolio["portfolioId"] for portfolio in create_all(client, ["A", "B"]))
    ids = [second, "nonsense", first, UNKNOWN, first, ""]
    response = client.post(V1 + "/validate", json={"portfolioIds": ids})
    assert response.status_code == 200
    assert response.json == {
        "valid": [second, first, first],
        "invalid": ["nonsense", UNKNOWN, ""],
        "inactive": [],
    }


def test_up_to_a_thousand_ids_are_validated_at_once(client: FlaskClient) -> None:
    ids = [str(ObjectId()) for _ in range(1000)]
    response = client.post(V1 + "/validate", json={"portfolioIds": ids})
    assert response.json == {"valid": [], "invalid": ids, "inactive": []}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {("body", "portfolioIds", "missing")}),
        ({"portfolioIds": "x"}, {("body", "portfolioIds", "list_type")}),
        ({"portfolioIds": None}, {("body", "portfolioIds", "list_type")}),
        ({"portfolioIds": []}, {("body", "portfolioIds", "list_length")}),
        ({"portfolioIds": ["x"] * 1001}, {("body", "portfolioIds", "list_length")}),
        (
            {"portfolioIds": ["x", 1, None, "\ud800"]},
            {("body", "portfolioIds", index, "string_type") for index in (1, 2, 3)},
        ),
        ([], {("body", "dict_type")}),
    ],
)
def test_a_list_of_ids_that_is_not_valid_is_refused(
    unit_client: FlaskClient, body: object, expected: set
) -> None:
    assert faults(unit_client.post(V1 + "/validate", json=body)) == expected
