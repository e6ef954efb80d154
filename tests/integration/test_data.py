"""Portfolios on disk keep section 1 of the contract, whichever service wrote them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from bson import Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from flask import Flask
from flask.testing import FlaskClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.storage.indexes import INDEXES
from tests.support.calls import SEARCH, V1, V2, create, create_all, one
from tests.support.gunicorn import wait_until

Documents = Collection[dict[str, Any]]

IDENTITY = ObjectId("65abdb7c0123456789abcdef")  # made at 2024-01-20T14:41:00Z
FOREIGN = [
    pytest.param({}, {"dateCreated": "2024-01-20T14:41:00.000Z"}, id="without a date"),
    pytest.param(
        {"dateCreated": None}, {"dateCreated": "2024-01-20T14:41:00.000Z"}, id="with a null date"
    ),
    pytest.param(
        {"dateCreated": datetime(2024, 2, 3, 4, 5, 6, 789000), "owner": {"a": [1]}},
        {"dateCreated": "2024-02-03T04:05:06.789Z"},
        id="with extra fields",
    ),
    pytest.param({"version": Int64(5)}, {"version": 5}, id="with a version of 64 bits"),
    pytest.param({"version": 5.0}, {"version": 5}, id="with a version that is a double"),
    pytest.param({"version": None}, {"version": 1}, id="without a version"),
    pytest.param(
        {"dateCreated": DatetimeMS(2**60)},
        {"dateCreated": "9999-12-31T23:59:59.999Z"},
        id="dated beyond the year 9999",
    ),
    pytest.param({"name": "Größe.*"}, {"name": "Größe.*"}, id="with a name that v2 refuses"),
]


@pytest.mark.parametrize(("fields", "expected"), FOREIGN)
def test_a_document_that_another_service_wrote_is_served_and_updated(
    client: FlaskClient,
    collection: Documents,
    fields: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    collection.insert_one({"_id": IDENTITY, "name": "Growth", "version": 1, **fields})
    shown = {"portfolioId": str(IDENTITY), "name": "Growth", "version": 1}
    shown |= {"dateCreated": "2024-01-20T14:41:00.000Z"} | expected
    path = one(str(IDENTITY))
    assert client.get(path).json == shown
    assert client.get(V1).json == [shown]
    assert client.get(V2).json["portfolios"] == [shown]
    assert client.get(SEARCH + "?name_like=gr").json["portfolios"] == [shown]

    changed = client.put(path, json=shown | {"name": "Value"})
    assert (changed.status_code, changed.json["version"]) == (200, shown["version"] + 1)
    extra = set(fields) - {"name", "dateCreated", "version"}
    assert extra <= set(collection.find_one(IDENTITY) or {})
    assert client.delete(f"{path}?version={changed.json['version']}").status_code == 204


def test_a_document_without_a_version_is_deleted_as_version_one(
    client: FlaskClient, collection: Documents
) -> None:
    collection.insert_one({"_id": IDENTITY, "name": "Growth"})
    assert client.get(one(str(IDENTITY))).json["version"] == 1
    assert client.delete(one(str(IDENTITY)) + "?version=2").status_code == 409
    assert client.delete(one(str(IDENTITY)) + "?version=1").status_code == 204


def test_a_document_has_the_four_fields_of_the_contract_and_their_types(
    client: FlaskClient, collection: Documents
) -> None:
    single = create(client, dateCreated="2024-01-20T14:45:00.123456Z", version=3)
    (bulk,) = create_all(client, ["Value"], dateCreated="2024-01-20")
    assert client.put(one(bulk["portfolioId"]), json=bulk).status_code == 200
    assert list(collection.find()) == [
        {
            "_id": ObjectId(single["portfolioId"]),
            "name": "Growth",
            "dateCreated": datetime(2024, 1, 20, 14, 45, 0, 123000),
            "version": 3,
        },
        {
            "_id": ObjectId(bulk["portfolioId"]),
            "name": "Value",
            "dateCreated": datetime(2024, 1, 20),
            "version": 2,
        },
    ]


def test_a_version_of_64_bits_is_kept(client: FlaskClient) -> None:
    created = create(client, version=2**63 - 2)
    updated = client.put(one(created["portfolioId"]), json=created)
    assert updated.json["version"] == 2**63 - 1
    assert client.get(one(created["portfolioId"])).json == updated.json
    again = client.put(one(created["portfolioId"]), json=updated.json)
    assert again.status_code == 422


def test_indexes_are_created_as_often_as_one_likes(app: Flask, collection: Documents) -> None:
    database = app.extensions["portfolio"].database
    before = collection.index_information()
    database.ensure_indexes()
    assert collection.index_information() == before
    assert len(before) > 1


def test_an_index_in_the_way_does_not_block_the_start(settings: Settings) -> None:
    other = replace(settings, mongodb_db=settings.mongodb_db + "-index")
    app = create_app(other)
    services = app.extensions["portfolio"]
    services.database.portfolios.create_index("other", name=INDEXES[0].document["name"])
    try:
        with pytest.raises(OperationFailure):
            services.database.ensure_indexes()
        services.start()
        wait_until(lambda: services.database.health.started, "the database was reached")
        client = app.test_client()
        assert client.get("/health/startup").status_code == 200
        assert client.get(one(create(client)["portfolioId"])).status_code == 200
    finally:
        services.database.client.drop_database(other.mongodb_db)
        services.stop()
