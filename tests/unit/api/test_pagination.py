"""Links between pages lose no parameter, and cursors belong to one search."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import bson
import orjson
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import base64_encode

from portfolio.api.pagination import CursorCodec, PageQuery
from portfolio.api.responses import FIELDS, PortfoliosEncoder
from portfolio.api.schemas import MAX_LIMIT, SearchQuerySchema, load
from portfolio.config import Settings
from portfolio.errors import BadRequest
from portfolio.models import Page, Portfolio, Search, SortKey


def in_order(fields: set[str]) -> tuple[str, ...]:
    """Return ``fields`` as a query gives them back."""
    return tuple(field for field in FIELDS if field in fields)


names = st.text(min_size=1, max_size=10)
searches = st.builds(
    Search,
    name=st.none() | names,
    name_like=st.none() | names,
    limit=st.integers(1, MAX_LIMIT),
    offset=st.integers(0, 10_000),
    fields=st.none() | st.sets(st.sampled_from(FIELDS), min_size=1).map(in_order),
)


def linked(header: str) -> dict[str, dict[str, str]]:
    """Return the parameters of each link by its relation."""
    links = re.findall(r'<([^>]+)>; rel="(\w+)"', header)
    return {
        relation: dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        for url, relation in links
    }


@given(searches, st.booleans())
def test_a_link_asks_for_another_page_of_the_same_search(search: Search, has_next: bool) -> None:
    links = linked(PageQuery.of(search).links("/path", Page([], 500, has_next)))
    assert ("next" in links, "prev" in links) == (has_next, search.offset > 0)
    for parameters in links.values():
        found = load(SearchQuerySchema(), parameters, "query")
        assert found._replace(offset=search.offset) == search


@given(searches)
def test_a_link_by_cursor_asks_for_the_same_search(search: Search) -> None:
    links = linked(PageQuery.of(search, "").cursor_links("/path", "x.y"))
    for relation, parameters in links.items():
        assert parameters.pop("cursor") == {"first": "", "next": "x.y"}[relation]
        assert load(SearchQuerySchema(), parameters, "query") == search._replace(offset=0)


@given(searches, searches)
def test_a_cursor_belongs_to_its_search_whatever_the_size_of_the_page(
    search: Search, other: Search
) -> None:
    cursors = CursorCodec(Settings.from_environment({}))
    after = SortKey(None, ObjectId())
    if "\0" in f"{search.name}{search.name_like}":
        return
    cursor = cursors.encode(search, after)
    assert cursors.decode(search._replace(limit=7, offset=3), cursor) == after
    # As a pod of another version, which knows fewer parameters or more, would write it.
    given = {k: v for k, v in (("name", search.name), ("name_like", search.name_like)) if v}
    for criteria in (given, given | {"sort": None}):
        content = base64_encode(bson.encode(criteria | after._asdict()))
        assert cursors.decode(search, cursors.sign(content).decode()) == after
    if (search.name, search.name_like) != (other.name, other.name_like):
        with pytest.raises(BadRequest):
            cursors.decode(other, cursor)


def test_requests_that_share_a_page_share_its_json_unless_they_ask_for_other_fields() -> None:
    encoder = PortfoliosEncoder()
    page = [Portfolio("0" * 24, "Growth", datetime(2024, 1, 1), 1)]
    other = [page[0]._replace(name="Value")]

    def names(portfolios: list[Portfolio], fields: tuple[str, ...] | None) -> list[Any]:
        encoded = orjson.dumps(encoder.encode(portfolios, fields))
        return [each.get("name") for each in orjson.loads(encoded)]

    assert names(page, None) == ["Growth"]
    assert names(page, None) == ["Growth"]
    assert names(page, ("version",)) == [None]
    assert names(other, None) == ["Value"]
