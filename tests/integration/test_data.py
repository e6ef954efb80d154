"""Portfolios on disk keep section 1 of the contract, whichever service wrote them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any

import bson
import pytest
from bson import CodecOptions, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from flask import Flask
from flask.testing import FlaskClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.storage.documents import INDEXES
from tests.support.calls import SEARCH, V1, V2, create, create_all, one
from tests.support.gunicorn import wait_until
from tests.support.listening import Commands, listening

Documents = Collection[dict[str, Any]]

IDENTITY = ObjectId("65abdb7c0123456789abcdef")  # made at 2024-01-20T14:41:00Z


def test_a_name_that_is_no_utf_8_is_shown(client: FlaskClient, collection: Documents) -> None:
    content = bson.encode({"_id": IDENTITY, "name": "M?ller"}).replace(b"M?", b"M\xfc")
    collection.with_options(CodecOptions(RawBSONDocument)).insert_one(RawBSONDocument(content))
    (shown,) = client.get(V1).json
    assert shown["name"] == "M\ufffdller"
    assert client.get(V2).json["portfolios"] == [shown]
    changed = client.put(one(str(IDENTITY)), json=shown | {"name": "Müller"})
    assert changed.json["name"] == "Müller"


def test_names_of_megabytes_are_listed_in_bounded_memory(app: Flask, collection: Documents) -> None:
    collection.insert_many({"name": "n" * 1_000_000} for _ in range(10))
    batches = list(app.extensions["portfolio"].portfolios.list_all())
    assert sum(map(len, batches)) == 10
    assert max(map(len, batches)) <= 2


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


BORN = "2024-01-20T14:41:00.000Z"
# What other services stored, or did not, and what it means.
FOREIGN = [
    ("dateCreated", "2024-01-20T15:45:00.123+01:00", "2024-01-20T14:45:00.123Z"),
    ("dateCreated", "1705761900", "2024-01-20T14:45:00.000Z"),
    ("dateCreated", "1705761900123", "2024-01-20T14:45:00.123Z"),
    ("dateCreated", 1705761900, "2024-01-20T14:45:00.000Z"),
    ("dateCreated", Int64(1705761900123), "2024-01-20T14:45:00.123Z"),
    ("dateCreated", 1705761900.5, "2024-01-20T14:45:00.500Z"),
    ("dateCreated", Decimal128("1705761900"), "2024-01-20T14:45:00.000Z"),
    ("dateCreated", DatetimeMS(2**60), "9999-12-31T23:59:59.999Z"),
    ("version", 3.0, 3),
    ("version", "3", 3),
    ("version", "-3", -3),
    ("version", "003", 3),
    ("version", Int64(2**40), 2**40),
    ("version", -(2**63), -(2**63)),
    ("version", Decimal128("3"), 3),
    ("name", "Größe.*", "Größe.*"),
    ("name", ObjectId(b"0" * 12), "303030303030303030303030"),
    # What means nothing counts as missing.
    *(("dateCreated", value, BORN) for value in (..., None, "yesterday", float("nan"), 1e300, {})),
    *(("version", value, 1) for value in (..., None, "abc", float("nan"), float("inf"), 1e300)),
    *(("version", value, 1) for value in ({"$gt": 1}, [2])),
    *(("name", value, "") for value in (..., None)),
]


@pytest.mark.parametrize(("field", "stored", "meaning"), FOREIGN)
def test_what_another_service_stored_is_shown_as_what_it_means_and_can_be_changed(
    client: FlaskClient, collection: Documents, field: str, stored: Any, meaning: Any
) -> None:
    document = {"_id": IDENTITY, "name": "Growth", "version": 1, "owner": {"a": [1]}}
    document |= {"dateCreated": datetime(2024, 1, 1), field: stored}
    if stored is ...:
        del document[field]
    collection.insert_one(document)
    path = one(str(IDENTITY))
    response = client.get(path)
    shown = response.json
    assert shown[field] == meaning
    assert client.get(V1).json == [shown]
    assert client.get(V2).json["portfolios"] == [shown]
    assert client.get(V2 + "?cursor=").json["portfolios"] == [shown]
    if field != "name":
        assert client.get(SEARCH + "?name_like=gr").json["portfolios"] == [shown]
    assert response.headers["ETag"] == f'"{IDENTITY}-{shown["version"]}"'

    change = {"portfolioId": str(IDENTITY), "name": "Value", "version": str(shown["version"])}
    other = change | {"version": shown["version"] + 1}
    assert client.put(path, json=other).status_code == 409
    assert client.delete(f"{path}?version={shown['version'] + 1}").status_code == 409
    updated = client.put(path, json=change, headers={"If-Match": response.headers["ETag"]})
    assert updated.status_code == 200, updated.text
    assert updated.json == shown | {"name": "Value", "version": shown["version"] + 1}
    found = collection.find_one(IDENTITY) or {}
    assert isinstance(found["version"], int)
    assert (found["version"], found["owner"]) == (shown["version"] + 1, document["owner"])

    collection.replace_one({"_id": IDENTITY}, document)
    assert client.delete(f"{path}?version={shown['version']}").status_code == 204


def test_an_update_of_a_document_of_this_service_is_one_command(
    settings: Settings, collection: Documents
) -> None:
    commands = Commands()
    collection.insert_one({"_id": IDENTITY, "name": "Growth", "version": 3})
    body = {"portfolioId": str(IDENTITY), "name": "Value", "version": 3}
    with listening(settings, commands) as app:
        assert app.test_client().put(one(str(IDENTITY)), json=body).status_code == 200
        assert app.test_client().delete(one(str(IDENTITY)) + "?version=4").status_code == 204
    names = [name for name, _ in commands.sent if name in ("find", "findAndModify", "delete")]
    assert names == ["findAndModify", "delete"]


@pytest.mark.parametrize("stored", ["3", 3.0, Decimal128("3"), 3.7])
def test_of_sixteen_updates_of_a_version_of_another_type_one_wins(
    app: Flask, collection: Documents, stored: Any
) -> None:
    collection.insert_one({"_id": IDENTITY, "name": "Growth", "version": stored})

    def update(number: int) -> int:
        body = {"portfolioId": str(IDENTITY), "name": f"Update {number}", "version": 3}
        return app.test_client().put(one(str(IDENTITY)), json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(update, range(16))) == [200] + [409] * 15


@pytest.mark.parametrize("version", [-(2**63), -5, -1, 0, 2**31 - 1, 2**40, 2**63 - 2])
def test_every_version_of_64_bits_is_compared_on_update_and_delete(
    client: FlaskClient, collection: Documents, version: int
) -> None:
    collection.insert_one({"_id": IDENTITY, "name": "Growth", "version": version})
    path = one(str(IDENTITY))
    body = {"portfolioId": str(IDENTITY), "name": "Value", "version": str(version)}
    updated = client.put(path, json=body)
    assert (updated.status_code, updated.json["version"]) == (200, version + 1)
    assert client.delete(f"{path}?version={version}").status_code == 409
    assert client.delete(f"{path}?version={version + 1}").status_code == 204


def test_the_largest_version_has_no_next_one_and_can_be_deleted(
    client: FlaskClient, collection: Documents
) -> None:
    collection.insert_one({"_id": IDENTITY, "name": "Growth", "version": 2**63 - 1})
    body = {"portfolioId": str(IDENTITY), "name": "Value", "version": 2**63 - 1}
    assert client.put(one(str(IDENTITY)), json=body).status_code == 422
    assert client.delete(one(str(IDENTITY)) + f"?version={2**63 - 1}").status_code == 204


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
