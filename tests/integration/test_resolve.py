"""Section 3 of the contract: resolving ids and names, and choosing fields, on a real MongoDB."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.collection import Collection

from portfolio.service import MAX_NAMESAKES
from tests.support.calls import (
    SEARCH,
    UNKNOWN,
    V1,
    V2,
    create,
    create_all,
    faults,
    refusal,
)

RESOLVE = f"{V2}/resolve"
NOTHING: dict[str, list[str]] = {"ids": [], "names": []}

Documents = Collection[dict[str, Any]]


def resolve(client: FlaskClient, query: str = "", **body: Any) -> dict[str, Any]:
    response = client.post(RESOLVE + query, json=body)
    assert response.status_code == 200, response.text
    return response.json


def names(resolved: dict[str, Any]) -> list[str]:
    return [portfolio["name"] for portfolio in resolved["portfolios"]]


# Resolve


def test_ids_and_names_are_resolved_in_the_order_of_the_request(client: FlaskClient) -> None:
    a, b, c, d = create_all(client, ["A", "B", "C", "D"])
    ids = [d["portfolioId"], a["portfolioId"]]
    assert resolve(client, ids=ids, names=["C", "B"]) == {
        "portfolios": [d, a, c, b],
        "missing": NOTHING,
    }


@pytest.mark.parametrize("other", [None, [], ...])
def test_ids_or_names_may_be_absent_null_or_empty(client: FlaskClient, other: Any) -> None:
    created = create(client)
    found = {"portfolios": [created], "missing": NOTHING}
    rest = {} if other is ... else {"names": other}
    assert resolve(client, ids=[created["portfolioId"]], **rest) == found
    rest = {} if other is ... else {"ids": other}
    assert resolve(client, names=["Growth"], **rest) == found


def test_a_thousand_in_all_are_resolved_at_once(client: FlaskClient) -> None:
    created = create(client)
    missing = [f"Unknown {number}" for number in range(998)]
    found = resolve(client, ids=[created["portfolioId"], UNKNOWN], names=missing)
    assert found == {"portfolios": [created], "missing": {"ids": [UNKNOWN], "names": missing}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {("body", "list_length")}),
        ({"ids": [], "names": None}, {("body", "list_length")}),
        ({"ids": [UNKNOWN] * 500, "names": ["A"] * 501}, {("body", "list_length")}),
        ({"names": ["A"] * 1001}, {("body", "names", "list_length")}),
        ({"ids": "A", "names": 7}, {("body", "ids", "list_type"), ("body", "names", "list_type")}),
        (
            {"ids": [1, None, "\ud800"]},
            {("body", "ids", index, "string_type") for index in range(3)},
        ),
        ([], {("body", "dict_type")}),
    ],
)
def test_what_can_not_be_resolved_is_refused_with_every_fault(
    client: FlaskClient, body: Any, expected: set[tuple[Any, ...]]
) -> None:
    assert faults(client.post(RESOLVE, json=body)) == expected


def test_names_follow_the_rules_of_v1(client: FlaskClient) -> None:
    accepted = ["Smith & Sons", "St. James", "年金 基金", "x" * 200]
    created = [create(client, name) for name in accepted]
    assert resolve(client, names=accepted) == {"portfolios": created, "missing": NOTHING}
    refused = ["", "x" * 201, "  ", "A\nB", 7, "fine", None]
    assert faults(client.post(RESOLVE, json={"names": refused})) == {
        ("body", "names", 0, "string_length"),
        ("body", "names", 1, "string_length"),
        ("body", "names", 2, "string_blank"),
        ("body", "names", 3, "string_unprintable"),
        ("body", "names", 4, "string_type"),
        ("body", "names", 6, "string_type"),
    }


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("Growth Fund", "gROWTH fUND"),
        ("Growth Fund", "  Growth Fund "),
        ("  Growth Fund ", "growth fund"),
        ("\u3000Growth Fund\u00a0", "growth fund"),
        ("ÉNERGIE", "énergie"),
        ("E\u0301NERGIE", "\u00e9nergie"),
        ("ΣΟΦΟΣ", "σοφος"),
        ("Straße", "STRAßE"),
    ],
)
def test_names_are_compared_trimmed_and_without_regard_to_case(
    client: FlaskClient, stored: str, asked: str
) -> None:
    created = create(client, stored)
    assert resolve(client, names=[asked]) == {"portfolios": [created], "missing": NOTHING}


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("GrowthFund", "Growth Fund"),
        ("Growth Fund", "GrowthFund"),
        ("Growth  Fund", "Growth Fund"),
        ("Growth-Fund", "Growth Fund"),
        ("Energie", "Énergie"),
        ("\uff21", "A"),
        ("か", "カ"),
    ],
)
def test_names_that_differ_in_more_than_case_are_not_equal(
    client: FlaskClient, stored: str, asked: str
) -> None:
    create(client, stored)
    found = {"portfolios": [], "missing": {"ids": [], "names": [asked]}}
    assert resolve(client, names=[asked]) == found


def test_all_portfolios_of_a_name_are_given_newest_first(client: FlaskClient) -> None:
    for day, name in ((2, "Growth"), (3, " growth"), (1, "GROWTH")):
        create(client, name, dateCreated=f"2024-01-0{day}")
    assert names(resolve(client, names=["growth"])) == [" growth", "Growth", "GROWTH"]


def test_nothing_is_given_twice(client: FlaskClient) -> None:
    created = create(client)
    identity = created["portfolioId"]
    found = resolve(
        client,
        ids=[identity, identity, identity.upper()],
        names=["Growth", "GROWTH", " growth ", "Growth"],
    )
    assert found == {"portfolios": [created], "missing": NOTHING}


def test_what_is_missing_keeps_the_order_and_spelling_of_the_request(client: FlaskClient) -> None:
    create(client)
    ids = [UNKNOWN.upper(), "nonsense", UNKNOWN, "", "x" * 5000, "nonsense"]
    wanted = [" Zeta", "Alpha", "Growth", "ZETA", "Alpha"]
    missing = resolve(client, ids=ids, names=wanted)["missing"]
    # Each spelling once, however often it was asked for.
    assert missing == {"ids": ids[:-1], "names": [" Zeta", "Alpha", "ZETA"]}


def test_names_are_never_operators_or_patterns(client: FlaskClient) -> None:
    create(client)
    asked = ["$ne", ".*", "$where", "Gr_wth", "{}"]
    assert resolve(client, names=asked)["missing"]["names"] == asked


def test_more_namesakes_than_memory_may_hold_are_refused(
    client: FlaskClient, collection: Documents
) -> None:
    collection.insert_many([{"name": "Growth"} for _ in range(MAX_NAMESAKES)])
    found = resolve(client, "?fields=portfolioId", names=["Growth", "Income"])
    assert len({each["portfolioId"] for each in found["portfolios"]}) == MAX_NAMESAKES
    assert found["missing"]["names"] == ["Income"]
    create(client, "growth")
    status, detail = refusal(client.post(RESOLVE, json={"names": ["Income", "Growth"]}))
    assert status == 400
    assert detail.startswith(f"More than {MAX_NAMESAKES} portfolios have these names")
    assert resolve(client, names=["Income"])["portfolios"] == []


# Fields


def test_fields_leave_the_other_fields_out_of_a_resolution(client: FlaskClient) -> None:
    created = create(client)
    found = resolve(client, "?fields=portfolioId,name", names=["Growth", "Income"])
    assert found == {
        "portfolios": [{"portfolioId": created["portfolioId"], "name": "Growth"}],
        "missing": {"ids": [], "names": ["Income"]},
    }


@pytest.mark.parametrize("path", [f"{V2}?", f"{V2}?cursor=&", f"{SEARCH}?"])
@pytest.mark.parametrize("chosen", ["name", "version,portfolioId", "name, name,dateCreated"])
def test_fields_leave_the_other_fields_out_of_a_search(
    client: FlaskClient, path: str, chosen: str
) -> None:
    create_all(client, ["A", "B"])
    whole = client.get(path).json["portfolios"]
    found = client.get(f"{path}fields={chosen}").json["portfolios"]
    wanted = set(chosen.replace(" ", "").split(","))
    assert found == [{key: each[key] for key in each if key in wanted} for each in whole]
    # Neither the cache of validated queries nor a shared page mixes up what was chosen.
    assert client.get(f"{path}fields=version").json["portfolios"] == [{"version": 1}] * 2
    assert client.get(path).json["portfolios"] == whole


@pytest.mark.parametrize("chosen", ["", "%20", "name,", "id", "name;version", "NAME", "_id"])
def test_fields_that_do_not_exist_are_refused_with_those_that_do(
    client: FlaskClient, chosen: str
) -> None:
    for response in (
        client.get(f"{V2}?fields={chosen}"),
        client.get(f"{V2}?cursor=&fields={chosen}"),
        client.post(f"{RESOLVE}?fields={chosen}", json={"names": ["A"]}),
    ):
        assert faults(response) == {("query", "fields", "field_names")}
        assert "portfolioId, name, dateCreated, version" in response.json["detail"][0]["msg"]
    status, detail = refusal(client.get(f"{SEARCH}?fields={chosen}"))
    assert status == 400
    assert "portfolioId, name, dateCreated, version" in detail


def test_fields_are_given_once(client: FlaskClient) -> None:
    query = "?fields=name&fields=version"
    repeated = {("query", "fields", "repeated")}
    assert faults(client.get(V2 + query)) == repeated
    assert faults(client.post(RESOLVE + query, json={"names": ["A"]})) == repeated


def test_fields_are_of_no_concern_to_other_calls(client: FlaskClient) -> None:
    created = create(client)
    assert client.get(f"{V1}?fields=nonsense").json == [created]
