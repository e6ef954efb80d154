"""A creation with an Idempotency-Key happens once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pymongo.collection import Collection

from portfolio.api.requests import idempotency_key
from portfolio.api.schemas import PortfolioCreateSchema, load
from portfolio.models import IdempotencyKey, IdempotencyRecord, Portfolio
from portfolio.storage.documents import new_id, record_to_document
from portfolio.storage.search import PortfolioSearch
from portfolio.timestamps import utc_now
from tests.support.calls import BULK, V1, V2, one, to_stored
from tests.support.parts import storage

both_topologies = pytest.mark.both_topologies

ONE = (V1, {"name": "Growth"})
SOME = (V2, [{"name": "Growth"}, {"name": "Income"}])
FAST = (BULK, [{"name": "Growth"}, {"name": "Income"}])

Documents = Collection[dict[str, Any]]


def post(client: FlaskClient, path: str, body: Any, key: str = "k-1") -> Any:
    return client.post(path, json=body, headers={"Idempotency-Key": key})


@both_topologies
@pytest.mark.parametrize(("path", "body"), [ONE, SOME])
def test_the_same_key_and_body_give_the_first_answer_again(
    client: FlaskClient, collection: Documents, path: str, body: Any
) -> None:
    first = post(client, path, body)
    again = post(client, path, body)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json == first.json
    assert "Idempotent-Replay" not in first.headers
    assert again.headers["Idempotent-Replay"] == "true"
    assert collection.count_documents({}) == (len(body) if isinstance(body, list) else 1)


@both_topologies
def test_a_replayed_fast_bulk_is_not_refused_for_the_names_that_it_stored(
    client: FlaskClient,
) -> None:
    first, again = (post(client, *FAST) for _ in range(2))
    assert again.status_code == 201
    assert again.json["portfolios"] == first.json["portfolios"]


def test_a_replay_shows_what_was_created_even_if_it_changed_since(client: FlaskClient) -> None:
    first = post(client, *ONE).json
    client.put(one(first["portfolioId"]), json=first | {"name": "Changed"})
    assert post(client, *ONE).json == first


@both_topologies
@pytest.mark.parametrize("other", [(V1, {"name": "Other"}), SOME])
def test_the_same_key_for_another_request_is_refused(
    client: FlaskClient, collection: Documents, other: tuple[str, Any]
) -> None:
    post(client, *ONE)
    response = post(client, *other)
    assert response.status_code == 422
    assert response.json["detail"][0]["type"] == "idempotency_key_reused"
    assert collection.count_documents({}) == 1


@pytest.mark.parametrize("key", ["", "x" * 129, "caf\xe9", "a\tb"])
def test_a_key_that_is_not_1_to_128_printable_characters_is_refused(
    client: FlaskClient, key: str
) -> None:
    response = post(client, *ONE, key=key)
    assert response.status_code == 400
    assert "Idempotency-Key" in response.json["detail"]


@both_topologies
def test_of_many_requests_with_one_key_at_once_one_creates(
    app: Flask, collection: Documents
) -> None:
    def attempt(_: int) -> Any:
        return post(app.test_client(), *SOME)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, range(16)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.text for answer in answers if answer.status_code == 201}) == 1
    assert collection.count_documents({}) == 2


def test_a_retry_that_overlaps_the_first_is_not_told_that_its_own_names_are_taken(
    app: Flask, client: FlaskClient
) -> None:
    first: list[Any] = []

    class LookingLate(PortfolioSearch):
        def find_by_names(self, names: Sequence[str], limit: int) -> list[Portfolio]:
            if not first:
                first.append(None)
                first[0] = post(app.test_client(), *FAST).json
            return super().find_by_names(names, limit)

    with storage(app, search=LookingLate):
        retry = post(client, *FAST)
    assert retry.status_code == 201, retry.text
    assert retry.headers["Idempotent-Replay"] == "true"
    assert retry.json["portfolios"] == first[0]["portfolios"]


def begin(app: Flask, path: str, body: dict[str, Any], age: timedelta) -> IdempotencyRecord:
    """Leave behind what a worker leaves that dies once it has noted what it is about to store."""
    new = load(PortfolioCreateSchema(), body, "body")
    with app.test_request_context(path, method="POST", json=body) as context:
        context.request.environ["HTTP_IDEMPOTENCY_KEY"] = "k-1"
        found = idempotency_key()
    assert isinstance(found, IdempotencyKey)
    portfolio = new.to_portfolio(new_id(), utc_now())
    record = IdempotencyRecord(found, [portfolio], done=False, created=utc_now() - age)
    app.extensions["portfolio"].database.idempotency.insert_one(record_to_document(record))
    return record


@both_topologies
def test_the_same_key_while_the_first_is_in_flight_is_a_conflict(
    app: Flask, client: FlaskClient, collection: Documents
) -> None:
    begin(app, *ONE, age=timedelta())
    response = post(client, *ONE)
    assert response.status_code == 409
    assert response.json["code"] == "idempotency_key_in_use"
    assert collection.count_documents({}) == 0


@both_topologies
# The clock may have been ahead when it was begun.
@pytest.mark.parametrize("age", [timedelta(minutes=1), timedelta(hours=-1)])
def test_what_a_dead_worker_began_is_completed_by_the_retry(
    app: Flask, client: FlaskClient, collection: Documents, age: timedelta
) -> None:
    record = begin(app, *ONE, age=age)
    answers = [post(client, *ONE) for _ in range(2)]
    assert {answer.json["portfolioId"] for answer in answers} == {record.portfolios[0].id}
    assert collection.count_documents({}) == 1


def test_keys_expire_after_a_day(app: Flask) -> None:
    indexes = app.extensions["portfolio"].database.idempotency.index_information()
    assert indexes["expire"]["expireAfterSeconds"] == 24 * 60 * 60


@both_topologies
def test_a_refused_creation_does_not_use_up_its_key(
    app: Flask, client: FlaskClient, collection: Documents
) -> None:
    database = collection.database
    database.command("collMod", collection.name, validator={"name": {"$ne": "Income"}})
    assert post(client, *SOME).status_code == 500
    assert collection.count_documents({}) == 0
    database.command("collMod", collection.name, validator={})
    assert post(client, *SOME).status_code == 201


def test_a_slash_at_the_end_of_the_path_makes_no_other_request(
    client: FlaskClient, collection: Documents
) -> None:
    path, body = ONE
    first = post(client, path, body)
    again = post(client, f"{path}/", body)
    assert (again.status_code, again.json) == (201, first.json)
    assert collection.count_documents({}) == 1


@pytest.fixture
def callers(app: Flask, another: Callable[..., Flask]) -> Callable[[str], dict[str, Any]]:
    """The application with two API keys: ``callers("red")`` creates as the holder of ``red``."""
    guarded = another(api_keys=("red", "blue"))

    def create(api_key: str) -> dict[str, Any]:
        headers = {"Idempotency-Key": "k-1", "X-API-Key": api_key}
        answer = guarded.test_client().post(V1, json=ONE[1], headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json

    return create


def test_callers_do_not_share_keys(
    callers: Callable[[str], dict[str, Any]], collection: Documents
) -> None:
    red, blue = callers("red"), callers("blue")
    assert red["portfolioId"] != blue["portfolioId"]
    assert (callers("red"), callers("blue")) == (red, blue)
    assert collection.count_documents({}) == 2


def test_no_api_key_is_stored(callers: Callable[[str], dict[str, Any]], app: Flask) -> None:
    callers("red")
    stored = list(app.extensions["portfolio"].database.idempotency.find())
    assert len(stored) == 1
    assert "red" not in str(stored)


def test_a_record_of_an_earlier_release_is_found_where_there_are_no_api_keys(
    app: Flask, client: FlaskClient, collection: Documents
) -> None:
    path, body = ONE
    text = json.dumps(body).encode()
    stored = to_stored(load(PortfolioCreateSchema(), body, "body"))
    collection.insert_one(stored)
    app.extensions["portfolio"].database.idempotency.insert_one(
        {
            "_id": "k-1",
            "fingerprint": hashlib.sha256(path.encode() + b"\n" + text).hexdigest(),
            "documents": [stored],
            "done": True,
            "created": utc_now(),
        }
    )
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    answer = client.post(path, data=text, headers=headers)
    assert answer.headers["Idempotent-Replay"] == "true"
    assert answer.json["portfolioId"] == str(stored["_id"])
