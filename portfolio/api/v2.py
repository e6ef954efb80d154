"""Version 2 of the API: search in pages, and creation in bulk."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, request

from portfolio.api.idempotency import idempotency_key, replay_header
from portfolio.api.queries import cursor_query, search_query
from portfolio.api.requests import json_body
from portfolio.api.responses import json_response
from portfolio.api.schemas import StrictPortfolioCreateSchema, load
from portfolio.api.services import services
from portfolio.models import Page, Search
from portfolio.rules import check_bulk_size

blueprint = Blueprint("v2", __name__, url_prefix="/api/v2")

_PATH = "/api/v2/portfolios"
_drafts = StrictPortfolioCreateSchema(many=True)


@blueprint.get("/portfolios")
def search_portfolios() -> Response:
    """One page of the portfolios that match, by offset or by cursor."""
    by_cursor = cursor_query(request)
    if by_cursor is not None:
        return _cursor_page(*by_cursor)
    search = search_query(request)
    page = services().portfolios.search(search)
    response = json_response(page_body(search, page))
    response.headers.add("Link", _links(search, _neighbours(search, page)))
    return response


@blueprint.post("/portfolios")
def create_portfolios() -> Response:
    """Create up to a hundred portfolios: all or none."""
    s = services()
    with s.metrics.bulk("v2"):
        body = json_body(request)
        if isinstance(body, list):
            check_bulk_size(len(body))
        drafts = load(_drafts, body, "body")
        created = s.portfolios.create_all(drafts, key=idempotency_key(request))
    s.metrics.created("v2", created)
    return json_response(created.portfolios, 201, replay_header(created))


def page_body(search: Search, page: Page) -> dict[str, Any]:
    """Return ``page`` with its pagination, as section 3 of the contract lays it out."""
    return {
        "portfolios": page.portfolios,
        "pagination": {
            "totalElements": page.total,
            "totalPages": -(-page.total // search.limit),
            "currentPage": search.offset // search.limit,
            "pageSize": search.limit,
            "hasNext": page.has_next,
            "hasPrevious": search.offset > 0,
        },
    }


def _cursor_page(search: Search, cursor: str) -> Response:
    s = services()
    portfolios, end = s.portfolios.search_after(search, s.cursors.read(search, cursor))
    following = s.cursors.write(search, end) if end is not None else None
    pagination = {
        "pageSize": search.limit,
        "hasNext": following is not None,
        "nextCursor": following,
    }
    response = json_response({"portfolios": portfolios, "pagination": pagination})
    links = {"first": "cursor="}
    if following is not None:
        links["next"] = f"cursor={following}"
    response.headers["Link"] = _links(search, links)
    return response


def _neighbours(search: Search, page: Page) -> dict[str, str]:
    """Return the places of other pages by their relation to this one."""
    size, offset = search.limit, search.offset
    links = {"first": "offset=0", "last": f"offset={max(page.total - 1, 0) // size * size}"}
    if offset:
        links["prev"] = f"offset={max(offset - size, 0)}"
    if page.has_next:
        links["next"] = f"offset={offset + size}"
    return links


def _links(search: Search, places: dict[str, str]) -> str:
    """Return a ``Link`` header (RFC 8288) to pages of the same search."""
    target = f"{_PATH}?limit={search.limit}"
    if search.name is not None:
        target += f"&name={quote(search.name)}"
    elif search.name_like is not None:
        target += f"&name_like={quote(search.name_like)}"
    return ", ".join(f'<{target}&{place}>; rel="{rel}"' for rel, place in places.items())
