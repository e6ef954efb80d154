"""Version 2 of the API: search in pages, and creation in bulk."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from portfolio.components import components
from portfolio.http.answers import answer
from portfolio.http.requests import json_body
from portfolio.portfolios.idempotency import replay_header, ticket
from portfolio.portfolios.model import Page, Search
from portfolio.portfolios.queries import search_query
from portfolio.portfolios.schemas import StrictDraftSchema, load
from portfolio.portfolios.service import check_bulk, check_bulk_size

blueprint = Blueprint("v2", __name__, url_prefix="/api/v2")

_drafts = StrictDraftSchema(many=True)


@blueprint.get("/portfolios")
def search_portfolios() -> Response:
    """One page of the portfolios that match."""
    search = search_query(request)
    return answer(page_answer(search, components().portfolios.search(search)))


@blueprint.post("/portfolios")
def create_portfolios() -> Response:
    """Create up to a hundred portfolios: all or none."""
    parts = components()
    with parts.measures.bulk("v2"):
        body = json_body(request)
        if isinstance(body, list):
            check_bulk_size(len(body))
        drafts = load(_drafts, body, "body")
        check_bulk(drafts)
        created = parts.portfolios.create_all(drafts, ticket=ticket(request))
    parts.measures.created("v2", created)
    return answer(created.portfolios, 201, replay_header(created))


def page_answer(search: Search, page: Page) -> dict[str, Any]:
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
