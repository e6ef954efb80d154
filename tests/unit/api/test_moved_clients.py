"""What ``docs/how-to/migrate.md`` says a client may have to change is so, row by row."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.gunicorn import ROOT

PAGE = (ROOT / "docs" / "how-to" / "migrate.md").read_text()
LIST, SEARCH = "/api/v1/portfolios", "/api/v2/portfolios"
JSON = "application/json"

# The row of the table, the content type, the body or the query, and the type or the code.
REFUSED: list[tuple[str, str | None, str, str]] = [
    ("a body without `Content-Type`", None, '{"name": "a"}', "unsupported_media_type"),
    ("a body without", "application/vnd.api+json", '{"name": "a"}', "unsupported_media_type"),
    (
        "a key that stands twice in a JSON object",
        JSON,
        '{"name": "a", "name": "b"}',
        "invalid_json",
    ),
    ("`NaN`, `Infinity` in a body", JSON, '{"name": "a", "version": NaN}', "invalid_json"),
    ("`NaN`, `Infinity` in a body", JSON, '{"name": "a", "version": Infinity}', "invalid_json"),
    *(
        ("integers (", JSON, f'{{"name": "a", "version": {value}}}', "int_type")
        for value in ("true", '"+5"', '" 5 "', '"5.0"', '"1_000"')
    ),
    ("`version` of a new", JSON, '{"name": "a", "version": -1}', "greater_than_equal"),
    ("`version` of a new", JSON, '{"name": "a", "version": 2147483648}', "less_than_equal"),
    ("`dateCreated` in", JSON, '{"name": "a", "dateCreated": "2024-01-20_14:45"}', "datetime_type"),
    ("`type` of such an item", JSON, "[]", "dict_type"),
    ("`type` of such an item", JSON, '{"name": 5}', "string_type"),
    ("`loc` of malformed JSON", JSON, '{"name": "a"', "json_invalid"),
]


@pytest.mark.parametrize(("row", "content_type", "body", "word"), REFUSED)
def test_what_a_client_has_to_change_is_refused_as_the_page_says(
    unit_client: FlaskClient, row: str, content_type: str | None, body: str, word: str
) -> None:
    assert f"\n| {row}" in PAGE
    refused = unit_client.post(LIST, data=body, content_type=content_type)
    assert refused.status_code == (415 if word == "unsupported_media_type" else 422)
    detail: Any = refused.json["detail"]
    assert word in (refused.json["code"], detail[0]["type"] if refused.status_code == 422 else None)
    if word == "json_invalid":
        assert detail[0]["loc"] == ["body"]
        assert re.search("position [0-9]+", detail[0]["msg"])


@pytest.mark.parametrize("field", ['"version": 5.0', '"version": "5"', '"dateCreated": "17057619"'])
def test_other_spellings_that_the_original_took_are_taken(
    unit_client: FlaskClient, field: str
) -> None:
    body = f'{{"name": "a", {field}}}'
    assert unit_client.post(LIST, data=body, content_type=JSON).status_code == 201


def test_a_query_parameter_that_is_given_twice_is_refused_but_in_the_list(
    unit_client: FlaskClient,
) -> None:
    refused = unit_client.get(f"{SEARCH}?limit=5&limit=7")
    assert (refused.status_code, refused.json["detail"][0]["type"]) == (422, "repeated")
    assert unit_client.get(f"{LIST}?limit=5&limit=7").status_code == 200


def test_head_and_a_trailing_slash_are_served(unit_client: FlaskClient) -> None:
    head = unit_client.head(SEARCH)
    assert (head.status_code, head.data) == (200, b"")
    assert unit_client.get(f"{SEARCH}/").status_code == 200
    assert unit_client.post(f"{LIST}/", json={"name": "a"}).status_code == 201
