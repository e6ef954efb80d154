"""The fast API keeps section 4 of the contract, on a real MongoDB.

Its search shares its promises with v2's: they are in test_v2.
"""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.calls import BULK, INVALID_NAME, SEARCH, V1, V2, create, refusal


def bulk(*names: Any) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


def test_a_bulk_is_stored_counted_and_timed(client: FlaskClient) -> None:
    response = client.post(BULK, json=bulk("B", "A"))
    assert response.status_code == 201
    assert set(response.json) == {"portfolios", "count", "processingTimeMs"}
    assert [portfolio["name"] for portfolio in response.json["portfolios"]] == ["B", "A"]
    assert response.json["count"] == 2
    assert response.headers["X-Portfolio-Count"] == "2"
    assert response.json["processingTimeMs"] > 0
    assert float(response.headers["X-Processing-Time-Ms"]) == response.json["processingTimeMs"]
    assert client.get(V1).json == response.json["portfolios"]


def test_a_bulk_may_have_a_hundred_portfolios(client: FlaskClient) -> None:
    response = client.post(BULK, json=bulk(*map(str, range(100))))
    assert (response.status_code, response.json["count"]) == (201, 100)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"name": "A"}, 400, "Request must be a list of portfolios"),
        ("A", 400, "Request must be a list of portfolios"),
        ([], 400, "Request must contain at least 1 portfolio"),
        (bulk("A", "B", "a "), 400, "Duplicate portfolio names found in request: A"),
        (bulk("A", "é"), 400, "Invalid portfolio at index 1: " + INVALID_NAME),
        ([{"name": "A"}, {}], 400, "Invalid portfolio at index 1: name: Field required"),
        (bulk(7), 400, "Invalid portfolio at index 0: name: Input should be a string"),
        (["A"], 400, "Invalid portfolio at index 0: Input should be an object"),
        (bulk(*map(str, range(101))), 413, "Request cannot contain more than 100 portfolios"),
    ],
)
def test_a_bulk_that_breaks_a_rule_stores_nothing(
    unit_client: FlaskClient, body: Any, status: int, detail: str
) -> None:
    assert refusal(unit_client.post(BULK, json=body)) == (status, detail)
    assert unit_client.get(V1).json == []


def test_a_search_is_the_page_of_v2_counted_and_timed(client: FlaskClient) -> None:
    for number in range(5):
        create(client, f"P{number}")
    query = "?name_like=p&limit=2&offset=2"
    response = client.get(SEARCH + query)
    body = response.json
    elapsed = body.pop("processingTimeMs")
    assert elapsed > 0
    assert float(response.headers["X-Processing-Time-Ms"]) == elapsed
    assert response.headers["X-Total-Count"] == "5"
    assert body == client.get(V2 + query).json


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "ten", "1.5", ""])
def test_a_limit_that_is_not_valid_is_400(unit_client: FlaskClient, limit: str) -> None:
    response = unit_client.get(f"{SEARCH}?limit={limit}")
    assert refusal(response) == (400, "Limit must be between 1 and 1000")


@pytest.mark.parametrize("offset", ["-1", "two", "1.5", "9223372036854775808"])
def test_an_offset_that_is_not_valid_is_400(unit_client: FlaskClient, offset: str) -> None:
    response = unit_client.get(f"{SEARCH}?offset={offset}")
    assert refusal(response) == (400, "Offset must be non-negative")


def test_the_fast_health_is_healthy(unit_client: FlaskClient) -> None:
    response = unit_client.get("/api/fast/health/fast")
    assert response.status_code == 200
    body = response.json
    assert body.pop("timestamp").endswith("Z")
    assert body == {"status": "healthy", "service": "globeco-portfolio-service-fast"}


def test_the_stats_describe_the_fast_path(unit_client: FlaskClient) -> None:
    response = unit_client.get("/api/fast/performance/stats")
    assert response.status_code == 200
    body = response.json
    endpoints = body.pop("endpoints")
    assert {BULK, SEARCH} <= set(endpoints)
    assert all(endpoints.values())
    assert body == {
        "fastPath": {"enabled": True, "maxBulkSize": 100, "maxRequestSizeBytes": 1048576},
        "environment": {"profile": "development", "databaseTracing": True},
    }
