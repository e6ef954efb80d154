"""Hostile input is refused with a 4xx, is only ever a value to MongoDB, and leaves no traceback.

``FUZZ_EXAMPLES`` sets how many inputs each test tries: 40, as in the everyday run, make some 450
requests, 1,100 make more than 10,000.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portfolio.devserver.mongod import Mongod
from tests.fuzz import hostile
from tests.fuzz.contract import check, check_portfolio, is_json, is_name, is_strict_name, is_version
from tests.support.gunicorn import Gunicorn, running
from tests.support.harness import Answer, Connection

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "40")),
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Nobody hits this version by chance, so that no request may change what carries it.
_SAFE_VERSION = 7_654_321
_V1, _V2 = "/api/v1/portfolios", "/api/v2/portfolios"
_FAST = "/api/fast/portfolios"


@pytest.fixture(scope="module")
def service(
    replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gunicorn, str]]:
    """A real Gunicorn, and the name of its database."""
    database = f"fuzz-{ObjectId()}"
    environment = {"MONGODB_DB": database, "LOG_LEVEL": "INFO"}
    with running(tmp_path_factory.mktemp("fuzz"), replica_set.uri, **environment) as gunicorn:
        yield gunicorn, database


@pytest.fixture(scope="module")
def bystanders(service: tuple[Gunicorn, str], replica_set: Mongod) -> list[str]:
    """The ids of portfolios that nobody addresses in a way that may change them."""
    with replica_set.client() as client:
        portfolios = client[service[1]]["portfolio"]
        documents = [{"name": f"Bystander {i}", "version": _SAFE_VERSION} for i in range(5)]
        return [str(each) for each in portfolios.insert_many(documents).inserted_ids]


Send = Callable[..., Answer]


@pytest.fixture
def send(
    service: tuple[Gunicorn, str], bystanders: list[str], replica_set: Mongod
) -> Iterator[Send]:
    """Send requests on one connection; in the end nobody was harmed and no error was logged."""
    gunicorn, database = service
    connection = Connection([gunicorn.url])
    logged = len(gunicorn.log_lines())
    yield connection.request
    connection.close()
    with replica_set.client() as client:
        untouched = client[database]["portfolio"].count_documents(
            {"_id": {"$in": [ObjectId(each) for each in bystanders]}, "version": _SAFE_VERSION}
        )
        strangers = set(client[database].list_collection_names()) - {
            "portfolio",
            "portfolio_idempotency",
        }
    assert untouched == len(bystanders)
    assert strangers == set()
    lines = gunicorn.log_lines()[logged:]
    assert [line for line in lines if line["level"] == "ERROR" or "exception" in line] == []


def quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def in_query(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{quoted(name)}={quoted(value)}" for name, value in pairs)


@fuzz
@given(draft=hostile.drafts | hostile.values)
def test_a_creation_is_valid_and_read_back_or_refused(send: Send, draft: Any) -> None:
    answer = send("POST", _V1, hostile.to_json(draft))
    check(answer, 201, 422)
    valid = (
        isinstance(draft, dict)
        and is_name(draft.get("name"))
        and is_version(draft.get("version"))
        and is_json(draft)
    )
    if not valid or draft.get("dateCreated") is None:
        assert (answer.status == 201) == valid, ascii((draft, answer.body))
    if answer.status == 201:
        check_portfolio(answer.body)
        assert answer.body["name"] == draft["name"]
        found = send("GET", f"/api/v1/portfolio/{answer.body['portfolioId']}")
        assert found.body == answer.body


@fuzz
@given(bulk=hostile.bulks | hostile.values, fast=st.booleans())
def test_a_bulk_is_valid_or_refused(send: Send, bulk: Any, fast: bool) -> None:
    answer = send("POST", f"{_FAST}/bulk" if fast else _V2, hostile.to_json(bulk))
    check(answer, *((201, 400, 409, 413) if fast else (201, 400, 422)))
    if answer.status == 201:
        created = answer.body["portfolios"] if fast else answer.body
        assert [portfolio["name"] for portfolio in created] == [draft["name"] for draft in bulk]
        for portfolio in created:
            check_portfolio(portfolio)
            assert is_strict_name(portfolio["name"])


@fuzz
@given(
    body=hostile.bodies,
    path=st.sampled_from([_V1, _V2, f"{_FAST}/bulk", f"{_V1}/validate"]),
    media_type=st.sampled_from(
        ["application/json", "application/json; charset=utf-16", "text/plain"]
    ),
)
def test_a_body_that_is_no_json_is_refused(
    send: Send, body: bytes, path: str, media_type: str
) -> None:
    answer = send("POST", path, body, {"Content-Type": media_type})
    if media_type == "text/plain":
        check(answer, 413, 415)
    else:
        check(answer, 400, 413, 422)


@fuzz
@given(
    change=hostile.objects(
        name=hostile.plain_names, version=st.integers(0, 9), dateCreated=hostile.dates
    ),
    addressed=st.booleans(),
    data=st.data(),
)
def test_an_update_of_another_version_changes_nothing(
    send: Send, bystanders: list[str], change: dict[str, Any], addressed: bool, data: Any
) -> None:
    identity = data.draw(st.sampled_from(bystanders))
    if addressed:
        change = change | {"portfolioId": identity}
    check(send("PUT", f"/api/v1/portfolio/{identity}", hostile.to_json(change)), 409, 422)


@fuzz
@given(identity=hostile.texts, method=st.sampled_from(["GET", "PUT", "DELETE"]))
def test_an_impossible_id_is_not_found(send: Send, identity: str, method: str) -> None:
    path = f"/api/v1/portfolio/{quoted(identity)}?version=1"
    body = {"portfolioId": identity, "name": "a", "version": 1} if method == "PUT" else None
    # What is no Unicode is not the same in a path as in a body: 422.
    check(send(method, path, body), 404, 414, *((422,) if method == "PUT" else ()))


@fuzz
@given(version=hostile.texts | st.integers(0, 9).map(str), data=st.data())
def test_a_deletion_of_another_version_deletes_nothing(
    send: Send, bystanders: list[str], version: str, data: Any
) -> None:
    identity = data.draw(st.sampled_from(bystanders))
    query = in_query([("version", version)])
    check(send("DELETE", f"/api/v1/portfolio/{identity}?{query}"), 409, 414, 422)


parameters = st.sampled_from(
    ["name", "name_like", "limit", "offset", "name[$ne]", "name[$regex]", "$where", "name.x", ""]
)
arguments = st.lists(
    st.tuples(parameters, hostile.texts | hostile.plain_names | st.integers(0, 99).map(str)),
    max_size=4,
)


@fuzz
@given(pairs=arguments, fast=st.booleans())
def test_a_search_finds_only_what_it_asks_for(
    send: Send, pairs: list[tuple[str, str]], fast: bool
) -> None:
    answer = send("GET", f"{f'{_FAST}/search' if fast else _V2}?{in_query(pairs)}")
    check(answer, *((200, 400, 414) if fast else (200, 400, 414, 422)))
    if answer.status != 200:
        return
    asked = dict(pairs)
    for once in ("name", "name_like", "limit", "offset"):
        assert [parameter for parameter, _ in pairs].count(once) <= 1
    assert not {"name", "name_like"} <= asked.keys()
    for portfolio in answer.body["portfolios"]:
        check_portfolio(portfolio)
        name = portfolio["name"].lower()
        assert "name" not in asked or name == asked["name"].lower()
        assert asked.get("name_like", "").lower() in name


@fuzz
@given(ids=st.lists(hostile.texts, max_size=5) | hostile.values, known=st.booleans())
def test_ids_are_sorted_into_valid_and_invalid(
    send: Send, bystanders: list[str], ids: Any, known: bool
) -> None:
    if known and isinstance(ids, list):
        ids = [bystanders[0], *ids]
    answer = send("POST", f"{_V1}/validate", hostile.to_json({"portfolioIds": ids}))
    check(answer, 200, 422)
    if answer.status == 200:
        assert answer.body["inactive"] == []
        assert answer.body["valid"] == [each for each in ids if each in bystanders]
        assert answer.body["invalid"] == [each for each in ids if each not in bystanders]


@fuzz
@given(
    ids=st.lists(hostile.texts, max_size=5) | hostile.values,
    names=st.lists(hostile.texts | hostile.plain_names, max_size=5) | hostile.values,
)
def test_what_is_resolved_is_what_was_asked_for(
    send: Send, bystanders: list[str], ids: Any, names: Any
) -> None:
    if isinstance(ids, list):
        ids = [bystanders[0], *ids]
    answer = send("POST", f"{_V2}/resolve", hostile.to_json({"ids": ids, "names": names}))
    check(answer, 200, 400, 422)
    if answer.status != 200:
        return
    asked = {unicodedata.normalize("NFC", name.strip().lower()) for name in names or ()}
    for portfolio in answer.body["portfolios"]:
        check_portfolio(portfolio)
        name = unicodedata.normalize("NFC", portfolio["name"].strip().lower())
        assert portfolio["portfolioId"] in bystanders or name in asked
    assert set(answer.body["missing"]["ids"]) <= set(ids or ())
    assert set(answer.body["missing"]["names"]) <= set(names or ())


@fuzz
@given(
    method=st.sampled_from(
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"]
    ),
    segments=st.lists(
        st.sampled_from(["api", "v1", "v2", "fast", "portfolios", "portfolio", "health", "..", "."])
        | hostile.texts.map(quoted),
        max_size=5,
    ),
)
def test_paths_and_methods_of_any_kind_are_answered(
    send: Send, method: str, segments: list[str]
) -> None:
    answer = send(method, "/" + "/".join(segments)[:2000])
    assert answer.status < 500, answer
    assert answer.headers["X-Request-ID"]


header_values = (hostile.texts | st.text(max_size=150)).map(
    lambda text: "".join(c for c in text if c >= " " and ord(c) < 256 and ord(c) != 127).strip()
)


@fuzz
@given(
    name=st.sampled_from(
        ["X-Request-ID", "Idempotency-Key", "Origin", "traceparent", "tracestate", "baggage",
         "Authorization", "Accept", "Accept-Encoding", "Content-Type", "X-Forwarded-For",
         "X-HTTP-Method-Override", "If-None-Match", "Cookie", "Range"]
    ),
    value=header_values,
)  # fmt: skip
def test_headers_of_any_kind_are_answered(send: Send, name: str, value: str) -> None:
    answer = send("POST", _V1, b'{"name": "Header"}', {name: value})
    check(answer, *{"Content-Type": (201, 415), "Idempotency-Key": (201, 400)}.get(name, (201,)))
    given_id = name == "X-Request-ID" and 1 <= len(value) <= 128 and value.isascii()
    assert (answer.headers["X-Request-ID"] == value) == given_id
