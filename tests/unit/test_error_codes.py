"""Every error carries a stable word for programs: section 6 of the contract."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from flask.testing import FlaskClient
from pymongo.errors import AutoReconnect, ExecutionTimeout, NetworkTimeout
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout
from werkzeug.test import TestResponse

from portfolio.config import Settings
from portfolio.errors import Overloaded, Unavailable
from portfolio.models import Search
from portfolio.scheduling import budget
from portfolio.server.request import RequestBody
from portfolio.storage.database import Database
from portfolio.storage.search import PortfolioSearch
from tests.support.calls import BULK, SEARCH, V1, V2, create, one

Call = Callable[[FlaskClient], TestResponse]


def created(client: FlaskClient) -> str:
    return one(create(client)["portfolioId"])


def send(path: str, data: bytes) -> Call:
    return lambda client: client.post(path, data=data, content_type="application/json")


def with_one_key(client: FlaskClient) -> TestResponse:
    for name in ("Growth", "Value"):
        response = client.post(V1, json={"name": name}, headers={"Idempotency-Key": "k"})
    return response


def update(client: FlaskClient) -> TestResponse:
    portfolio = create(client)
    return client.put(one(portfolio["portfolioId"]), json=portfolio | {"version": 2})


def create_twice(client: FlaskClient) -> TestResponse:
    create(client)
    return client.post(BULK, json=[{"name": "growth"}])


ERRORS: list[tuple[int, str, Call]] = [
    (400, "bad_request", lambda client: client.get(V2 + "?name=")),
    (400, "bad_request", lambda client: client.get(V2 + "?cursor=x")),
    (400, "bad_request", lambda client: client.post(V2, json=[])),
    (400, "bad_request", lambda client: client.get(SEARCH + "?limit=0")),
    (400, "bad_request", lambda client: client.post(BULK, json=[{}])),
    (400, "bad_request", lambda client: client.post(V2, json=[{"name": "."}])),
    (422, "invalid_json", send(V1, b"{")),
    (422, "invalid_json", send(V2, b"\xff")),
    (400, "invalid_json", send(BULK, b"{")),
    (422, "validation_error", lambda client: client.post(V1, json={})),
    (422, "validation_error", lambda client: client.post(V2, json={})),
    (422, "validation_error", lambda client: client.get(V2 + "?limit=0")),
    (422, "validation_error", lambda client: client.delete(created(client))),
    (404, "not_found", lambda client: client.get(one("nonsense"))),
    (404, "not_found", lambda client: client.get("/nowhere")),
    (404, "not_found", lambda client: client.get("/", environ_overrides={"PATH_INFO": "//"})),
    (405, "method_not_allowed", lambda client: client.patch(V1)),
    (409, "version_conflict", update),
    (409, "version_conflict", lambda client: client.delete(created(client) + "?version=2")),
    (409, "name_conflict", create_twice),
    (422, "idempotency_key_reused", with_one_key),
    (
        412,
        "precondition_failed",
        lambda client: client.delete(created(client) + "?version=1", headers={"If-Match": '"x"'}),
    ),
    (413, "payload_too_large", send(V1, b" " * 1048577)),
    (413, "payload_too_large", lambda client: client.post(BULK, json=[{}] * 101)),
    (415, "unsupported_media_type", lambda client: client.post(V1, data="name=Growth")),
]


@pytest.mark.parametrize(("status", "code", "call"), ERRORS)
def test_every_error_is_json_with_its_code_beside_the_detail(
    unit_client: FlaskClient, status: int, code: str, call: Call
) -> None:
    response = call(unit_client)
    assert (response.status_code, response.json["code"]) == (status, code)
    assert response.mimetype == "application/json"
    assert response.json.keys() == {"detail", "code"}
    assert response.json["detail"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestTimeout, 408, "timeout"),
        (RequestEntityTooLarge, 413, "payload_too_large"),
        (partial(Overloaded, "Service Unavailable"), 503, "overloaded"),
    ],
)
def test_a_body_that_the_worker_did_not_receive_has_a_code_too(
    unit_client: FlaskClient, error: Callable[[], Exception], status: int, code: str
) -> None:
    body = RequestBody()
    body.error = error
    environ = {"wsgi.input": body, "CONTENT_LENGTH": "2"}
    response = unit_client.post(V1, content_type="application/json", environ_overrides=environ)
    assert (response.status_code, response.json["code"]) == (status, code)
    assert ("Retry-After" in response.headers) == (status == 503)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NetworkTimeout("slow"), "timeout"),
        (ExecutionTimeout("slow", code=50), "timeout"),
        (AutoReconnect("gone"), "service_unavailable"),
    ],
)
def test_a_passed_deadline_is_told_from_a_database_that_is_gone(
    error: Exception, code: str
) -> None:
    def operation() -> None:
        raise error

    with pytest.raises(Unavailable) as raised:
        Database(Settings.from_environment({})).run("find", operation, retry=False)
    assert raised.value.code == code


@pytest.mark.parametrize(("seconds", "code"), [(0.01, "timeout"), (5.0, "overloaded")])
def test_a_search_that_waits_in_vain_is_overloaded_unless_its_deadline_passed(
    unit_client: FlaskClient, monkeypatch: pytest.MonkeyPatch, seconds: float, code: str
) -> None:
    database = unit_client.application.extensions["portfolio"].database
    search = PortfolioSearch(database)

    def find_again(*_: object, **__: object) -> None:
        search.find(Search(name_like="a"))

    monkeypatch.setattr(database, "find", find_again)
    with budget(seconds), pytest.raises(Unavailable) as raised:
        find_again()
    assert raised.value.code == code
