"""What every answer has: section 6 of the contract, where no database is concerned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portfolio.errors import Unavailable
from portfolio.models import Search, SortKey
from portfolio.observability.logging import JSONFormatter
from portfolio.storage.repository import PortfolioRepository
from portfolio.storage.search import PortfolioSearch
from tests.support.calls import BULK, SEARCH, UNKNOWN, V1, V2, faults, one
from tests.support.parts import mongomock_app, storage

NOT_FOUND = {"detail": "Not Found", "code": "not_found"}


# Answers of every kind: what is right, what Flask refuses, what the service refuses, what fails.
ANSWERS: dict[str, Callable[[FlaskClient], TestResponse]] = {
    "200": lambda client: client.get("/"),
    "200 text": lambda client: client.get("/health"),
    "200 stream": lambda client: client.get(V1),
    "201": lambda client: client.post(V1, json={"name": "Growth"}),
    "400": lambda client: client.get(V2 + "?name="),
    "404 path": lambda client: client.get("/nowhere"),
    "404 portfolio": lambda client: client.get(one("nonsense")),
    "405": lambda client: client.delete(V1),
    "413": lambda client: client.post(V1, data=b"x" * 1048577, content_type="application/json"),
    "415": lambda client: client.post(V1, data="name=Growth"),
    "422": lambda client: client.post(V1, json={}),
    "503": lambda client: client.get("/health/startup"),
}


@pytest.fixture(params=ANSWERS)
def ask(request: pytest.FixtureRequest) -> Callable[[FlaskClient], TestResponse]:
    """Ask for an answer of one kind, and see that it is of this kind."""

    def ask(client: FlaskClient) -> TestResponse:
        response = ANSWERS[request.param](client)
        assert response.status_code == int(request.param[:3])
        return response

    return ask


def test_every_answer_has_the_security_headers(
    ask: Callable[[FlaskClient], TestResponse], unit_client: FlaskClient
) -> None:
    headers = ask(unit_client).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in headers
    assert "Content-Security-Policy" not in headers


@pytest.fixture(scope="module")
def production() -> FlaskClient:
    """A client of a service in production."""
    return mongomock_app(ENV="production").test_client()


def test_in_production_every_answer_is_stricter(
    ask: Callable[[FlaskClient], TestResponse], production: FlaskClient
) -> None:
    headers = ask(production).headers
    assert "max-age=" in headers["Strict-Transport-Security"]
    assert headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_every_answer_has_a_request_id_of_its_own(
    ask: Callable[[FlaskClient], TestResponse], unit_client: FlaskClient
) -> None:
    first, second = (ask(unit_client).headers.getlist("X-Request-ID") for _ in range(2))
    assert len(first) == len(second) == 1
    assert first != second
    assert first[0]


@pytest.mark.parametrize("given", ["a", "x" * 128, 'Trace 7/4: {"~!"}'])
def test_a_sane_request_id_is_taken_over(unit_client: FlaskClient, given: str) -> None:
    response = unit_client.get("/health", headers={"X-Request-ID": given})
    assert response.headers.getlist("X-Request-ID") == [given]


@pytest.mark.parametrize("given", ["", "x" * 129, "gr\xf6\xdfe", "a\tb", "\x7f"])
def test_an_insane_request_id_is_replaced(unit_client: FlaskClient, given: str) -> None:
    environ = {"HTTP_X_REQUEST_ID": given}
    made = unit_client.get("/health", environ_overrides=environ).headers["X-Request-ID"]
    assert made != given
    assert made.isascii()
    assert 1 <= len(made) <= 128


def test_the_request_id_is_in_the_log(
    unit_client: FlaskClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caplog.handler, "formatter", JSONFormatter())
    caplog.set_level(logging.INFO, "portfolio")
    unit_client.get("/health", headers={"X-Request-ID": "find-me"}).close()
    assert '"request_id":"find-me"' in caplog.text


def test_a_request_is_in_flight_until_its_response_is_closed(unit_client: FlaskClient) -> None:
    metrics = unit_client.application.extensions["portfolio"].metrics
    before = metrics.requests_in_flight
    response = unit_client.get(V1)
    assert metrics.requests_in_flight == before + 1
    response.close()
    assert metrics.requests_in_flight == before


# Errors


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/nowhere", "/api/v3/portfolios"])
def test_an_unknown_path_is_not_found(unit_client: FlaskClient, path: str) -> None:
    response = unit_client.get(path)
    assert (response.status_code, response.json) == (404, NOT_FOUND)


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", V1), ("PATCH", V2), ("GET", BULK), ("POST", "/health")]
)
def test_a_wrong_method_is_not_allowed(unit_client: FlaskClient, method: str, path: str) -> None:
    response = unit_client.open(path, method=method)
    assert (response.status_code, response.json) == (
        405,
        {"detail": "Method Not Allowed", "code": "method_not_allowed"},
    )
    assert response.headers["Allow"]


MIB = 1 << 20
JSON = "application/json"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", V1),
        ("POST", V2),
        ("POST", BULK),
        ("POST", V1 + "/validate"),
        ("POST", V2 + "/resolve"),
        ("PUT", one(UNKNOWN)),
    ],
)
def test_each_call_refuses_a_body_of_another_type_or_too_large_or_malformed(
    unit_client: FlaskClient, method: str, path: str
) -> None:
    def status(body: bytes, content_type: str | None = JSON) -> int:
        response = unit_client.open(path, method=method, data=body, content_type=content_type)
        return response.status_code

    assert status(b"{}", None) == status(b"{}", "text/plain") == 415
    assert status(b'"' + b"x" * MIB + b'"') == 413
    assert status(b"{") == (400 if path == BULK else 422)


def test_json_may_name_its_charset(unit_client: FlaskClient) -> None:
    kind = "Application/JSON; charset=utf-8"
    response = unit_client.post(V1, data=b'{"name": "Growth"}', content_type=kind)
    assert response.status_code == 201


MALFORMED = [
    b"",
    b"{",
    b'{"name": "a",}',
    b"{'name': 1}",
    b"\xff\xfe",
    b'{"name": NaN}',
    b"[" * 40_000,
]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: body[:20])
def test_malformed_json_is_named(unit_client: FlaskClient, body: bytes) -> None:
    response = unit_client.post(V1, data=body, content_type=JSON)
    assert faults(response) == {("body", "json_invalid")}
    response = unit_client.post(BULK, data=body, content_type=JSON)
    assert (response.status_code, response.json["code"]) == (400, "invalid_json")


def test_a_body_of_a_mebibyte_is_read(unit_client: FlaskClient) -> None:
    body = b'{"name": "Growth"}'.ljust(MIB)
    assert unit_client.post(V1, data=body, content_type=JSON).status_code == 201


def test_a_get_may_declare_json_without_a_body(unit_client: FlaskClient) -> None:
    for path in (V1, V2, SEARCH, "/health/live", "/"):
        response = unit_client.get(path, headers={"Content-Type": JSON})
        assert response.status_code == 200


def test_a_failure_of_ours_tells_nothing_but_that(
    unit_client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(PortfolioRepository):
        def get_all(self, ids: Sequence[str]) -> Any:
            raise RuntimeError("secret")

    with storage(unit_client.application, Failing):
        response = unit_client.get(one(UNKNOWN))
    assert (response.status_code, response.json) == (
        500,
        {"detail": "Internal server error", "code": "internal_error"},
    )
    assert "RuntimeError: secret" in caplog.text
    assert unit_client.get("/health").status_code == 200


def test_an_unavailable_database_is_503_and_says_when_to_come_back(
    unit_client: FlaskClient,
) -> None:
    class Unreachable(PortfolioSearch):
        def find(self, search: Search, after: SortKey | None = None) -> Any:
            raise Unavailable("Database unavailable", retry_after=7)

    with storage(unit_client.application, search=Unreachable):
        response = unit_client.get(V2)
    assert (response.status_code, response.json) == (
        503,
        {"detail": "Database unavailable", "code": "service_unavailable"},
    )
    assert response.headers["Retry-After"] == "7"


# CORS


def test_any_origin_may_call_without_credentials_by_default(unit_client: FlaskClient) -> None:
    headers = unit_client.get(V2, headers={"Origin": "https://app.example"}).headers
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in headers


def test_a_page_may_read_what_it_needs_to_go_on(unit_client: FlaskClient) -> None:
    headers = unit_client.get(V2, headers={"Origin": "https://app.example"}).headers
    exposed = headers["Access-Control-Expose-Headers"].split(", ")
    assert exposed == ["ETag", "Link", "Retry-After", "X-Request-ID"]


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        ("https://app.example", "https://app.example.evil.com"),
        ("https://app.example", "https://appxexample"),
        ("https://app.example", "https://app.example:8443"),
        ("https://app.example", "xhttps://app.example"),
        ("https://app.example", "https://app.example\n"),
        ("https://ss.example", "https://ß.example"),
        ("http://[::1]:3000", "http://:evil"),
    ],
)
def test_an_origin_is_compared_exactly(allowed: str, origin: str) -> None:
    client = mongomock_app(CORS_ORIGINS=f"https://other.example,{allowed}").test_client()
    for asked, answered in ((allowed, allowed), (allowed.upper(), allowed.upper()), (origin, None)):
        response = client.get(V2, environ_overrides={"HTTP_ORIGIN": asked})
        assert response.headers.get("Access-Control-Allow-Origin") == answered


def test_a_preflight_request_is_answered() -> None:
    client = mongomock_app(API_KEYS="key").test_client()
    response = client.options(
        one(UNKNOWN),
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "content-type,x-api-key",
        },
    )
    assert response.status_code < 300
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "PUT" in response.headers["Access-Control-Allow-Methods"]
    assert "x-api-key" in response.headers["Access-Control-Allow-Headers"].lower()


def test_a_rejection_in_overload_can_be_read_by_a_browser() -> None:
    app = mongomock_app(CORS_ORIGINS="https://app.example", MAX_REQUESTS_UNDER_WAY="1")
    app.extensions["portfolio"].admission.in_flight = 1
    response = app.test_client().get(V2, headers={"Origin": "https://app.example"})
    assert (response.status_code, response.json["code"]) == (503, "overloaded")
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert response.headers["X-Request-ID"]


# API keys


@pytest.fixture(scope="module")
def guarded() -> FlaskClient:
    """A client of a service that asks for API keys."""
    return mongomock_app(API_KEYS="first, second").test_client()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "wrong"},
        {"X-API-Key": "firs"},
        {"X-API-Key": ""},
        {"X-API-Key": "first, second"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic first"},
        {"Authorization": "first"},
    ],
)
def test_every_api_call_needs_a_key_where_keys_are_set(
    guarded: FlaskClient, headers: dict[str, str]
) -> None:
    for path in (V1, V2, BULK, "/api/fast/health/fast", "/api/nowhere"):
        response = guarded.get(path, headers=headers)
        assert (response.status_code, response.json["code"]) == (401, "unauthorized"), path
        assert response.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "first"},
        {"Authorization": "Bearer first"},
        {"Authorization": "bearer first"},
    ],
)
def test_a_key_opens_the_api(guarded: FlaskClient, headers: dict[str, str]) -> None:
    assert guarded.get(V2, headers=headers).status_code == 200
    assert guarded.post(V1, json={"name": "Growth"}, headers=headers).status_code == 201


# WSGI hands the bytes of a header over as Latin-1, whatever the client wrote them in.
@pytest.mark.parametrize("written_in", ["utf-8", "latin-1"])
@pytest.mark.parametrize("key", ["schlüssel", "voilà"])
def test_a_key_may_have_letters_beyond_ascii(key: str, written_in: str) -> None:
    client = mongomock_app(API_KEYS=f"{key},abc").test_client()
    given = key.encode(written_in).decode("latin-1")
    for headers in ({"X-API-Key": given}, {"Authorization": f"Bearer {given}"}):
        assert client.get(V2, headers=headers).status_code == 200
    assert client.get(V2, headers={"X-API-Key": "schlussel"}).status_code == 401


@pytest.mark.parametrize("path", ["//api/v1/portfolios", "///api/v1/portfolios", "//health/live"])
def test_a_path_with_an_empty_first_segment_is_not_found(guarded: FlaskClient, path: str) -> None:
    response = guarded.open("/", environ_overrides={"PATH_INFO": path})
    assert (response.status_code, response.json) == (404, NOT_FOUND)
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/api/v1/portfolios", "/%61pi/v1/portfolios", "/%61%70i/nowhere"])
def test_no_spelling_of_a_path_needs_no_key(guarded: FlaskClient, path: str) -> None:
    assert guarded.get(path).status_code == 401


def test_the_empty_path_is_the_root(guarded: FlaskClient) -> None:
    assert guarded.open("/", environ_overrides={"PATH_INFO": ""}).status_code == 200


def test_probes_stay_open_where_keys_are_set(guarded: FlaskClient) -> None:
    for path in ("/", "/health", "/health/live"):
        assert guarded.get(path).status_code == 200
    for path in ("/health/ready", "/health/startup", "/health/detailed", "/health/metrics"):
        assert guarded.get(path).status_code in (200, 503)
