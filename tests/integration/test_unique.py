"""Section 3 of the contract: ``?unique=true`` refuses names that are stored, on a real MongoDB."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.collection import Collection
from werkzeug.test import TestResponse

from portfolio import service
from tests.support.calls import BULK, V2, create, faults, refusal

UNIQUE = f"{V2}?unique=true"
# v2 with unique and fast alike: one rule.
both = pytest.mark.parametrize("path", [UNIQUE, f"{V2}?unique=True", BULK])

Documents = Collection[dict[str, Any]]


def bulk(client: FlaskClient, path: str, *names: str, key: str | None = None) -> TestResponse:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(path, json=[{"name": name} for name in names], headers=headers)


@both
@pytest.mark.parametrize(
    ("stored", "asked"),
    [("Growth", "gROWTH"), ("Growth", " Growth "), (" Growth  ", "growth"), ("A\u00a0", "A")],
)
def test_names_that_are_stored_are_refused_trimmed_and_without_regard_to_case(
    client: FlaskClient, collection: Documents, path: str, stored: str, asked: str
) -> None:
    create(client, stored)
    sentence = f"Portfolio names already exist: {stored.strip()}"
    assert refusal(bulk(client, path, "New", asked)) == (409, sentence)
    assert collection.count_documents({}) == 1


@both
def test_all_names_that_are_stored_are_named(client: FlaskClient, path: str) -> None:
    for name in ("B", "a", "b ", "GrowthFund"):
        create(client, name)
    sentence = "Portfolio names already exist: a, b"
    assert refusal(bulk(client, path, "A", "B", "C")) == (409, sentence)
    assert bulk(client, path, "Growth Fund").status_code == 201


@both
def test_a_name_of_very_many_portfolios_is_named_too(
    client: FlaskClient, collection: Documents, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_NAMESAKES", 5)
    collection.insert_many([{"name": "Growth"} for _ in range(20)])
    sentence = "Portfolio names already exist: Growth"
    assert refusal(bulk(client, path, "Growth", "New")) == (409, sentence)


@pytest.mark.parametrize("path", [V2, f"{V2}?unique=false", f"{V2}?unique=FALSE"])
def test_names_need_not_be_unique_unless_asked_for(client: FlaskClient, path: str) -> None:
    create(client)
    assert bulk(client, path, "Growth").status_code == 201


@pytest.mark.parametrize("value", ["maybe", "", "1", "yes", "%20true"])
def test_anything_but_true_and_false_is_refused(client: FlaskClient, value: str) -> None:
    response = bulk(client, f"{V2}?unique={value}", "Growth")
    assert faults(response) == {("query", "unique", "bool_type")}
    repeated = bulk(client, f"{V2}?unique=true&unique=true", "Growth")
    assert faults(repeated) == {("query", "unique", "repeated")}


def test_a_retry_with_its_idempotency_key_gets_the_first_response(
    client: FlaskClient, collection: Documents
) -> None:
    first = bulk(client, UNIQUE, "Growth", key="k")
    again = bulk(client, f"{V2}/?unique=TRUE", "Growth", key="k")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotent-Replay"] == "true"
    assert again.json == first.json
    assert collection.count_documents({}) == 1


def test_another_unique_is_another_request_to_an_idempotency_key(client: FlaskClient) -> None:
    assert bulk(client, f"{V2}?unique=false", "Growth", key="k").status_code == 201
    # Absent means false.
    assert bulk(client, V2, "Growth", key="k").headers["Idempotent-Replay"] == "true"
    response = bulk(client, UNIQUE, "Growth", key="k")
    assert faults(response) == {("body", "idempotency_key_reused")}
