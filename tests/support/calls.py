"""Calls that many tests make, and the short form of what was answered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portfolio.models import PortfolioCreate
from portfolio.storage.documents import new_id, to_document
from portfolio.timestamps import utc_now

V1 = "/api/v1/portfolios"
V2 = "/api/v2/portfolios"
BULK = "/api/fast/portfolios/bulk"
SEARCH = "/api/fast/portfolios/search"
UNKNOWN = "0123456789abcdef01234567"
INVALID_NAME = (
    "Invalid portfolio name format. Name must be 1-200 characters, alphanumeric, spaces, "
    "hyphens, and underscores only"
)


def one(portfolio_id: str) -> str:
    """Return the path of one portfolio."""
    return f"/api/v1/portfolio/{portfolio_id}"


def create(client: FlaskClient, name: str = "Growth", **fields: Any) -> dict[str, Any]:
    """Create one portfolio and return it."""
    response = client.post(V1, json={"name": name, **fields})
    assert response.status_code == 201, response.text
    return response.json


def create_all(client: FlaskClient, names: Iterable[str], **fields: Any) -> list[dict[str, Any]]:
    """Create portfolios in bulk and return them."""
    response = client.post(V2, json=[{"name": name, **fields} for name in names])
    assert response.status_code == 201, response.text
    return response.json


def to_stored(new: PortfolioCreate) -> dict[str, Any]:
    """Return the document that the service would store for ``new``."""
    return to_document(new.to_portfolio(new_id(), utc_now()))


def refusal(response: TestResponse) -> tuple[int, str]:
    """Return the status of an error and its sentence."""
    assert isinstance(response.json["detail"], str), response.text
    return response.status_code, response.json["detail"]


def faults(response: TestResponse) -> set[tuple[Any, ...]]:
    """Return the faults of a 422: the place and the type of each."""
    assert response.status_code == 422, response.text
    for fault in response.json["detail"]:
        assert set(fault) == {"loc", "msg", "type"}
        assert fault["msg"]
    return {(*fault["loc"], fault["type"]) for fault in response.json["detail"]}
