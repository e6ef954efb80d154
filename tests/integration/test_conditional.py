"""Conditional requests spare a client what it knows, and keep it from changing what it doesn't."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.calls import UNKNOWN, V1, one


@pytest.fixture
def created(client: FlaskClient) -> TestResponse:
    return client.post(V1, json={"name": "Growth"})


@pytest.fixture
def path(created: TestResponse) -> str:
    return one(created.json["portfolioId"])


def update(client: FlaskClient, path: str, portfolio: dict[str, Any], **headers: str) -> Any:
    body = portfolio | {"name": f"{portfolio['name']} more"}
    return client.put(path, json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_tag_names_id_and_version_on_reads_and_writes(
    client: FlaskClient, created: TestResponse, path: str
) -> None:
    identity = created.json["portfolioId"]
    assert created.headers["ETag"] == f'"{identity}-1"'
    assert client.get(path).headers["ETag"] == f'"{identity}-1"'
    assert update(client, path, created.json).headers["ETag"] == f'"{identity}-2"'
    assert client.get(path).headers["ETag"] == f'"{identity}-2"'


def test_a_client_that_knows_the_portfolio_gets_304_without_a_body(
    client: FlaskClient, created: TestResponse, path: str
) -> None:
    tag = created.headers["ETag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        answer = client.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.data) == (304, b""), known
        assert answer.headers["ETag"] == tag
        assert "Content-Type" not in answer.headers


def test_a_client_that_knows_an_older_version_gets_the_portfolio(
    client: FlaskClient, created: TestResponse, path: str
) -> None:
    update(client, path, created.json)
    answer = client.get(path, headers={"If-None-Match": created.headers["ETag"]})
    assert (answer.status_code, answer.json["version"]) == (200, 2)


def test_a_condition_on_what_is_not_there_is_404(client: FlaskClient) -> None:
    body = {"portfolioId": UNKNOWN, "name": "Growth", "version": 1}
    headers = {"If-Match": f'"{UNKNOWN}-1"', "If-None-Match": "*"}
    assert client.get(one(UNKNOWN), headers=headers).status_code == 404
    assert client.put(one(UNKNOWN), json=body, headers=headers).status_code == 404
    assert client.delete(f"{one(UNKNOWN)}?version=1", headers=headers).status_code == 404


def test_a_change_under_the_current_tag_is_made(
    client: FlaskClient, created: TestResponse, path: str
) -> None:
    updated = update(client, path, created.json, If_Match=created.headers["ETag"])
    assert updated.status_code == 200
    deleted = client.delete(f"{path}?version=2", headers={"If-Match": updated.headers["ETag"]})
    assert deleted.status_code == 204


@pytest.mark.parametrize("wanted", ['"other"', "W/{tag}", ""])
def test_a_change_under_another_tag_is_412_and_not_made(
    client: FlaskClient, created: TestResponse, path: str, wanted: str
) -> None:
    wanted = wanted.format(tag=created.headers["ETag"])
    assert update(client, path, created.json, If_Match=wanted).status_code == 412
    answer = client.delete(f"{path}?version=1", headers={"If-Match": wanted})
    assert answer.status_code == 412
    assert answer.json == {
        "detail": "Precondition failed: the portfolio has changed",
        "code": "precondition_failed",
    }
    assert client.get(path).json == created.json


def test_a_change_under_a_tag_that_has_become_stale_is_412(
    client: FlaskClient, created: TestResponse, path: str
) -> None:
    update(client, path, created.json)
    stale = created.headers["ETag"]
    assert update(client, path, created.json, If_Match=stale).status_code == 412
    answer = client.delete(f"{path}?version=1", headers={"If-Match": stale})
    assert answer.status_code == 412


def test_a_current_tag_beside_a_stale_version_is_still_a_conflict(
    client: FlaskClient, created: TestResponse, path: str
) -> None:
    current = update(client, path, created.json).headers["ETag"]
    assert update(client, path, created.json, If_Match=current).status_code == 409
    assert update(client, path, created.json, If_Match="*").status_code == 409


def test_ids_in_capitals_are_the_same_portfolio(
    client: FlaskClient, created: TestResponse, path: str
) -> None:
    path = path[:-24] + path[-24:].upper()
    tag = created.headers["ETag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert update(client, path, created.json, If_Match=tag).status_code == 200
