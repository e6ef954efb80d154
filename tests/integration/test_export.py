"""The list of all portfolios as lines, for programs that read one at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.collection import Collection

PATH = "/api/v1/portfolios"
LINES = "application/x-ndjson"


@pytest.fixture
def many(client: FlaskClient, collection: Collection[dict[str, Any]]) -> int:
    collection.insert_many([{"name": f"Fund {n}\n", "version": 1} for n in range(2500)])
    return 2500


def test_lines_hold_what_the_array_holds(client: FlaskClient, many: int) -> None:
    array = client.get(PATH)
    lines = client.get(PATH, headers={"Accept": LINES})
    assert array.mimetype == "application/json"
    assert lines.mimetype == LINES
    assert lines.data.endswith(b"\n")
    assert [json.loads(line) for line in lines.data.splitlines()] == array.json
    assert len(array.json) == many


def test_no_portfolios_are_no_lines(client: FlaskClient) -> None:
    assert client.get(PATH, headers={"Accept": LINES}).data == b""


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("application/json, application/x-ndjson", "application/json"),
        ("application/json;q=0.5, application/x-ndjson", LINES),
        ("application/x-ndjson, */*;q=0.1", LINES),
        ("text/html", "application/json"),
        ("nonsense", "application/json"),
    ],
)
def test_the_client_chooses(client: FlaskClient, accept: str, expected: str) -> None:
    answer = client.get(PATH, headers={"Accept": accept})
    assert answer.mimetype == expected
    assert "Accept" in answer.headers["Vary"]
