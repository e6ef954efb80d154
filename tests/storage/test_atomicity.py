"""All or nothing, once and never twice: writes while MongoDB refuses or loses some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.collection import Collection

from tests.support.calls import BULK, V1, V2, create, create_all, one
from tests.support.gunicorn import wait_until

pytestmark = pytest.mark.both_topologies

Documents = Collection[dict[str, Any]]
# A failure that may pass, and that tells the driver nothing about the server's state.
EXCEEDED_TIME_LIMIT = 262
NAMES = ["A", "B", "C", "D", "E"]
# An answer that reports a failure of the write concern comes after the write was done.
WRITTEN_BUT_REPORTED_FAILED = {"writeConcernError": {"code": 64, "errmsg": "waiting timed out"}}


@pytest.fixture
def refuse_name(collection: Documents) -> Iterator[Callable[[str], None]]:
    """Let MongoDB refuse documents of one name."""

    def validate(validator: dict[str, Any]) -> None:
        collection.database.command("collMod", collection.name, validator=validator)

    def refuse(name: str) -> None:
        validate({"name": {"$ne": name}})

    yield refuse
    validate({})


def bulk(names: list[str]) -> list[dict[str, str]]:
    return [{"name": name} for name in names]


def listed(client: FlaskClient) -> list[str]:
    return [portfolio["name"] for portfolio in client.get(V1).json]


@pytest.mark.parametrize("path", [V2, BULK])
@pytest.mark.parametrize("refused", ["A", "C", "E"])
def test_a_bulk_of_which_one_is_refused_leaves_nothing_behind(
    client: FlaskClient,
    refuse_name: Callable[[str], None],
    path: str,
    refused: str,
) -> None:
    create_all(client, ["Kept"])
    refuse_name(refused)
    response = client.post(path, json=bulk(NAMES))
    assert (response.status_code, response.json) == (
        500,
        {"detail": "Internal server error", "code": "internal_error"},
    )
    assert listed(client) == ["Kept"]


@pytest.mark.parametrize(
    ("commands", "times", "how"),
    [
        (["insert"], 1, {"closeConnection": True}),
        (["insert"], 1, {"errorCode": EXCEEDED_TIME_LIMIT}),
        (["insert"], 1, WRITTEN_BUT_REPORTED_FAILED),
        (["commitTransaction"], 1, {"closeConnection": True}),
        (["commitTransaction"], 2, WRITTEN_BUT_REPORTED_FAILED),
        # Written, reported as failed, and the first attempts to undo it fail as well.
        (["insert", "delete"], 3, WRITTEN_BUT_REPORTED_FAILED),
    ],
)
def test_a_bulk_is_stored_whole_or_not_at_all_and_the_answer_says_which(
    client: FlaskClient,
    fail: Callable[..., None],
    commands: list[str],
    times: int,
    how: dict[str, Any],
) -> None:
    create_all(client, ["Kept"])
    fail(commands, times, **how)
    response = client.post(V2, json=bulk(NAMES))
    assert response.status_code in (201, 503)
    expected = ["Kept", *NAMES] if response.status_code == 201 else ["Kept"]
    wait_until(lambda: listed(client) == expected, f"{expected} and no other is stored")


@pytest.mark.parametrize(
    "how",
    [{"closeConnection": True}, {"errorCode": EXCEEDED_TIME_LIMIT}, WRITTEN_BUT_REPORTED_FAILED],
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_creation_that_is_tried_again_stores_one_portfolio(
    client: FlaskClient, fail: Callable[..., None], how: dict[str, Any], times: int
) -> None:
    fail(["insert"], times, **how)
    assert [create(client)] == client.get(V1).json


def test_a_read_that_fails_once_is_tried_again(
    client: FlaskClient, fail: Callable[..., None]
) -> None:
    created = create(client)
    fail(["find"], 1, closeConnection=True)
    assert client.get(one(created["portfolioId"])).json == created


def test_an_update_of_unknown_outcome_is_not_applied_twice(
    client: FlaskClient, fail: Callable[..., None]
) -> None:
    created = create(client)
    path = one(created["portfolioId"])
    fail(["findAndModify"], 1, **WRITTEN_BUT_REPORTED_FAILED)
    status = client.put(path, json=created | {"name": "Value"}).status_code
    assert status in (200, 503)
    # What was not acknowledged is read once a majority has it.
    wait_until(lambda: client.get(path).json["version"] != 1, "the update is seen")
    assert client.get(path).json["version"] == 2
