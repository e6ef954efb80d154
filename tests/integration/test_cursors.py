"""Pages by cursor show every portfolio once, whatever comes in between, at the same cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import urljoin

import bson
import pytest
from bson import (
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from flask import Flask
from flask.testing import FlaskClient
from itsdangerous import base64_encode
from pymongo.collection import Collection

from portfolio.api.pagination import CursorCodec
from portfolio.config import Settings
from tests.support.calls import V1, V2, create

BORN = datetime(2024, 1, 1)
Stored = Collection[dict[str, Any]]


def store(collection: Stored, count: int) -> list[str]:
    """Store portfolios, five of each date; return their ids."""
    documents: list[dict[str, Any]] = [
        {"name": f"Fund {n % 3}", "version": 1, "dateCreated": BORN + timedelta(hours=n // 5)}
        for n in range(count)
    ]
    collection.insert_many(documents)
    return [str(document["_id"]) for document in documents]


def page(client: FlaskClient, cursor: str, query: str = "limit=7") -> dict[str, Any]:
    answer = client.get(f"{V2}?{query}&cursor={cursor}")
    assert answer.status_code == 200, answer.text
    return answer.json


def walk(client: FlaskClient, query: str = "limit=7", cursor: str = "") -> list[str]:
    """Return the ids of the page at ``cursor`` and of all after it, in their order."""
    ids: list[str] = []
    while True:
        found = page(client, cursor, query)
        assert found["portfolios"], "hasNext promised more"
        ids += [portfolio["portfolioId"] for portfolio in found["portfolios"]]
        cursor = found["pagination"]["nextCursor"]
        assert found["pagination"]["hasNext"] == (cursor is not None)
        if cursor is None:
            return ids


@pytest.mark.parametrize(
    ("size", "search", "count"),
    [
        *((size, "", 60) for size in (7, 60, 1000)),
        (3, "&name=FUND 1", 20),
        (3, "&name_like=und 2", 20),
    ],
)
def test_all_pages_together_hold_what_pages_by_offset_hold(
    client: FlaskClient, collection: Stored, size: int, search: str, count: int
) -> None:
    store(collection, 60)
    by_offset = client.get(f"{V2}?limit=1000{search}").json["portfolios"]
    assert len(by_offset) == count
    assert walk(client, f"limit={size}{search}") == [each["portfolioId"] for each in by_offset]


# A date of each BSON type, "" for none at all; dates in arrays, which sort by the greatest element.
DATES: list[Any] = [
    *(MinKey(), None, "", float("nan"), -1, 0, Int64(2**40), 1.5, Decimal128("3"), "a", "2024"),
    *({}, {"$gt": ""}, {"a": 1}, b"x", ObjectId("0" * 24), False, True, BORN, DatetimeMS(2**60)),
    *(DatetimeMS(2**60 - 1), DatetimeMS(-(2**60)), DatetimeMS(1 - 2**60)),
    *(Timestamp(1, 2), Regex("x"), DBRef("a", 1), Code("x"), Code("x", {"a": 1}), MaxKey()),
    *([datetime(2030, 1, 1)], [datetime(2000, 1, 1), 7], [BORN, {"$gt": ""}], [True, 7]),
    *(["a", None], [7, -1], [None], [{"a": 1}, 5]),
]


@pytest.mark.parametrize("search", ["", "&name=FUND 1", "&name_like=und"])
@pytest.mark.parametrize("size", [1, 3])
def test_pages_neither_skip_nor_repeat_dates_of_any_type(
    client: FlaskClient, collection: Stored, size: int, search: str
) -> None:
    dates = [{} if date == "" else {"dateCreated": date} for date in DATES * 2]
    collection.insert_many([{"name": "Fund 1", "version": 1, **date} for date in dates])
    by_offset = client.get(f"{V2}?limit=1000{search}").json["portfolios"]
    assert len(by_offset) == len(dates)
    assert walk(client, f"limit={size}{search}") == [each["portfolioId"] for each in by_offset]


# An _id of each BSON type that another program may have given.
IDS: list[Any] = [
    *(None, float("nan"), 5, Int64(2**40), 1.5, Decimal128("3"), "a", "6b076143f93b41ed7c05e8aa"),
    *({"a": 1}, {"n": {"m": ""}}, b"x", ObjectId("0" * 24), False, True, BORN, DatetimeMS(2**60)),
    *(Timestamp(1, 2), MinKey(), MaxKey()),
]


@pytest.mark.parametrize("search", ["", "&name=FUND 1", "&name_like=und"])
@pytest.mark.parametrize("date", [{}, {"dateCreated": BORN}])
def test_ids_of_any_type_are_shown_and_paged_through(
    client: FlaskClient, collection: Stored, date: dict[str, Any], search: str
) -> None:
    collection.insert_many([{"_id": id, "name": "Fund 1", **date} for id in IDS])
    by_offset = client.get(f"{V2}?limit=1000{search}").json["portfolios"]
    ids = [each["portfolioId"] for each in by_offset]
    assert len(ids) == len(IDS)
    assert walk(client, f"limit=1{search}") == ids
    assert {each["portfolioId"] for each in client.get(V1).json} == set(ids)
    born = {each["dateCreated"] for each in by_offset}
    assert born == {"2024-01-01T00:00:00.000Z" if date else "1970-01-01T00:00:00.000Z"}


def test_what_is_created_or_deleted_meanwhile_moves_nothing(
    client: FlaskClient, collection: Stored
) -> None:
    expected = set(store(collection, 40))
    first = page(client, "")
    seen = [each["portfolioId"] for each in first["portfolios"]]
    client.post(V2, json=[{"name": "Newer"}, {"name": "Newer still"}])
    collection.delete_one({"_id": ObjectId(seen[-1])})
    seen += walk(client, cursor=first["pagination"]["nextCursor"])
    assert sorted(seen) == sorted(expected)


def test_an_empty_collection_has_one_empty_page(client: FlaskClient) -> None:
    assert page(client, "") == {
        "portfolios": [],
        "pagination": {"pageSize": 7, "hasNext": False, "nextCursor": None},
    }


def test_a_cursor_that_was_changed_is_refused(client: FlaskClient, collection: Stored) -> None:
    store(collection, 20)
    cursor = page(client, "")["pagination"]["nextCursor"]
    changed = [
        cursor[:index] + ("A" if cursor[index] != "A" else "B") + cursor[index + 1 :]
        for index in range(len(cursor) - 1)
    ]
    for wrong in [*changed, cursor[:-2], cursor + "AAAA", "nonsense", "é", "=", "a"]:
        answer = client.get(f"{V2}?limit=7&cursor={wrong}")
        assert answer.status_code == 400, wrong
        assert answer.json["detail"].startswith("Invalid cursor")


def forge(settings: Settings, content: bytes) -> str:
    """Return a cursor signed as the service does it, for whoever knows the database's name."""
    return CursorCodec(settings).sign(base64_encode(content)).decode()


GENUINE = {"name": None, "name_like": None, "created": BORN, "identity": ObjectId()}


@pytest.mark.parametrize(
    "forged",
    [
        {},
        GENUINE | {"more": 1},
        GENUINE | {"name": {"$ne": None}},
        {key: value for key, value in GENUINE.items() if key != "created"},
    ],
)
def test_a_forged_cursor_with_wrong_fields_or_types_is_refused(
    client: FlaskClient, collection: Stored, settings: Settings, forged: dict[str, Any]
) -> None:
    store(collection, 5)
    answer = client.get(f"{V2}?cursor={forge(settings, bson.encode(forged))}")
    assert answer.status_code == 400, answer.text
    assert answer.json["detail"].startswith("Invalid cursor")


def test_a_forged_cursor_that_holds_no_document_is_refused(
    client: FlaskClient, settings: Settings
) -> None:
    genuine = bson.encode(GENUINE)
    nested = []
    deep: dict[str, Any] = {}
    for _ in range(250):
        deep = {"": deep}
        nested.append(bson.encode(GENUINE | {"created": deep}))
    random = Random(16)
    damaged = [
        genuine[:index] + random.randbytes(1) + genuine[index + 1 :]
        for index in range(len(genuine))
    ]
    for content in [b"", b"\0", genuine[:-1], *nested[170:180], nested[-1], *damaged]:
        answer = client.get(f"{V2}?cursor={forge(settings, content)}")
        # A byte of a date or an id may change and leave a cursor that means something else.
        assert answer.status_code in (200, 400), content
    assert client.get(f"{V2}?cursor={forge(settings, genuine)}").status_code == 200


NO_EXPRESSIONS: list[Any] = [
    *("$dateCreated", "$$ROOT", Regex("."), 7, float("nan"), None),
    *({"$ne": 1}, {"$gt": MinKey()}, {"$gt": ""}, {"$literal": MaxKey()}),
    *(["$dateCreated"], [{"$gt": ""}], DBRef("portfolio", 1), Code("return true")),
]


@pytest.mark.parametrize("identity", NO_EXPRESSIONS)
def test_the_id_of_a_cursor_is_a_value_and_no_expression(
    client: FlaskClient, collection: Stored, settings: Settings, identity: Any
) -> None:
    collection.insert_many([{"_id": id, "dateCreated": BORN} for id in (MinKey(), MaxKey())])
    cursor = forge(settings, bson.encode(GENUINE | {"identity": identity}))
    shown = client.get(f"{V2}?cursor={cursor}").json["portfolios"]
    assert [each["portfolioId"] for each in shown] == ["MinKey()"]


@pytest.mark.parametrize("created", NO_EXPRESSIONS)
def test_what_a_cursor_brings_is_a_value_and_no_expression(
    client: FlaskClient, collection: Stored, settings: Settings, created: Any
) -> None:
    store(collection, 5)
    newest = {"_id": ObjectId(), "name": "Newest", "dateCreated": datetime(2025, 1, 1)}
    collection.insert_one(newest)
    # Each of these lies below all dates, or is followed by what is none.
    content = GENUINE | {"created": created, "identity": ObjectId("f" * 24)}
    answer = client.get(f"{V2}?cursor={forge(settings, bson.encode(content))}")
    assert answer.status_code == 200
    expected = isinstance(created, (Regex, Code))  # these two sort above dates
    names = [each["name"] for each in answer.json["portfolios"]]
    assert ("Newest" in names) == expected


def test_a_cursor_belongs_to_its_search(client: FlaskClient, collection: Stored) -> None:
    store(collection, 60)
    cursor = page(client, "", "limit=3&name=Fund 1")["pagination"]["nextCursor"]
    for other in ("", "&name=Fund 2", "&name_like=Fund 1"):
        assert client.get(f"{V2}?limit=3&cursor={cursor}{other}").status_code == 400
    assert client.get(f"{V2}?limit=9&cursor={cursor}&name=Fund 1").status_code == 200


def test_pods_that_share_a_secret_or_a_database_share_cursors(
    client: FlaskClient, collection: Stored, another: Callable[..., Flask]
) -> None:
    store(collection, 20)
    cursor = page(client, "")["pagination"]["nextCursor"]
    for app, status in ((another(), 200), (another(cursor_secret="s3cret"), 400)):
        assert app.test_client().get(f"{V2}?cursor={cursor}").status_code == status


def test_cursor_and_offset_exclude_each_other(client: FlaskClient) -> None:
    answer = client.get(f"{V2}?cursor=&offset=0")
    assert (answer.status_code, answer.json) == (
        400,
        {"detail": "Only one of cursor and offset allowed", "code": "bad_request"},
    )


def test_a_cursor_given_twice_is_named(client: FlaskClient) -> None:
    answer = client.get(f"{V2}?cursor=&cursor=")
    assert answer.status_code == 422
    assert answer.json["detail"][0]["loc"] == ["query", "cursor"]


def follow(link: str, url: str = V2) -> dict[str, str]:
    """Return the links of the page at ``url``, by their relation."""
    return {
        rel: urljoin(url, target) for target, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', link)
    }


def test_links_lead_through_pages_by_cursor(client: FlaskClient, collection: Stored) -> None:
    ids = store(collection, 20)
    seen: list[str] = []
    target: str | None = f"{V2}?limit=6&name_like=und&cursor="
    while target is not None:
        answer = client.get(target)
        seen += [each["portfolioId"] for each in answer.json["portfolios"]]
        links = follow(answer.headers["Link"])
        assert links["first"] == f"{V2}?limit=6&name_like=und&cursor="
        target = links.get("next")
    assert sorted(seen) == sorted(ids)


def test_links_lead_through_pages_by_offset(client: FlaskClient, collection: Stored) -> None:
    store(collection, 20)
    links = follow(client.get(f"{V2}?limit=6&offset=6").headers["Link"])
    assert links == {
        "first": f"{V2}?limit=6&offset=0",
        "prev": f"{V2}?limit=6&offset=0",
        "next": f"{V2}?limit=6&offset=12",
        "last": f"{V2}?limit=6&offset=18",
    }
    last = client.get(links["last"])
    assert len(last.json["portfolios"]) == 2
    assert "next" not in follow(last.headers["Link"])


@pytest.mark.parametrize("prefix", ["", "/some/prefix"])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("start", ["", "cursor=&"])
def test_links_keep_the_path_of_the_request_and_the_prefix_of_a_proxy(
    client: FlaskClient, collection: Stored, prefix: str, slash: str, start: str
) -> None:
    store(collection, 3)
    response = client.get(f"{V2}{slash}?{start}limit=2")
    links = follow(response.headers["Link"], f"{prefix}{V2}{slash}?{start}limit=2")
    assert links["next"].startswith(f"{prefix}{V2}{slash}?limit=2&")


@pytest.mark.parametrize("search", ["", "&name=fund 1", "&name_like=FUND"])
def test_pages_by_cursor_work_on_the_stand_in_too(unit_client: FlaskClient, search: str) -> None:
    for number in range(7):
        create(unit_client, f"Fund {number % 2}")
    by_offset = unit_client.get(f"{V2}?limit=50{search}").json["portfolios"]
    assert len(by_offset) == (3 if "name=" in search else 7)
    assert walk(unit_client, f"limit=2{search}") == [each["portfolioId"] for each in by_offset]
