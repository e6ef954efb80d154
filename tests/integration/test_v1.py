"""Version 1 of the API keeps section 2 of the contract, on a real MongoDB."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bson import ObjectId
from flask import Flask
from flask.testing import FlaskClient

UNKNOWN = "0123456789abcdef01234567"


def create(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    response = client.post("/api/v1/portfolios", json={"name": "Growth", **fields})
    assert response.status_code == 201, response.text
    return response.json


def test_a_created_portfolio_is_read_back_the_same(client: FlaskClient) -> None:
    created = create(client, name="Größe 7, «été»")
    assert client.get(f"/api/v1/portfolio/{created['portfolioId']}").json == created


def test_of_sixteen_updates_of_one_version_one_wins(app: Flask, client: FlaskClient) -> None:
    portfolio = create(client)
    path = f"/api/v1/portfolio/{portfolio['portfolioId']}"

    def update(number: int) -> int:
        body = portfolio | {"name": f"Update {number}"}
        return app.test_client().put(path, json=body).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = sorted(pool.map(update, range(16)))
    assert statuses == [200] + [409] * 15
    assert client.get(path).json["version"] == 2


def test_an_unknown_or_impossible_id_is_not_found(client: FlaskClient) -> None:
    for unknown in (UNKNOWN, "nonsense", str(ObjectId())):
        response = client.get(f"/api/v1/portfolio/{unknown}")
        assert (response.status_code, response.json) == (404, {"detail": "Portfolio not found"})
