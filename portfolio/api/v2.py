"""Version 2 of the API: search with pagination, and creation in bulk."""

from __future__ import annotations

from flask import Blueprint, Response, request

from portfolio.api.idempotency import idempotency_key, replay_header
from portfolio.api.openapi.annotations import (
    BULK_EXAMPLE,
    CREATE_ERRORS,
    EXAMPLE,
    PAGE_EXAMPLE,
    Body,
    Result,
    describe,
)
from portfolio.api.pagination import PageQuery
from portfolio.api.requests import json_body
from portfolio.api.responses import json_response
from portfolio.api.schemas import SearchQuerySchema, StrictPortfolioCreateSchema, load
from portfolio.api.services import services
from portfolio.rules import MAX_BULK, check_bulk_size

blueprint = Blueprint("v2", __name__, url_prefix="/api/v2")

_PATH = "/api/v2/portfolios"
_bulk_schema = StrictPortfolioCreateSchema(many=True)


@blueprint.get("/portfolios")
@describe(
    "searchPortfolios",
    "Search portfolios",
    description="Newest first; portfolios of the same date in the order of their ids, so that "
    "pages neither overlap nor skip. At most one of `name` and `name_like`.",
    query=SearchQuerySchema,
    parameters=("cursor",),
    responses={
        200: Result("A page", "PortfolioPage", example=PAGE_EXAMPLE, headers=("Link",)),
    },
    errors=("BadRequest", "UnprocessableEntity", "ServiceUnavailable"),
)
def search_portfolios() -> Response:
    """Return a page of the portfolios that match, by offset or by cursor."""
    s = services()
    query = PageQuery.by_offset_or_cursor(request, s.validation_cache)
    if query.cursor is None:
        page = s.portfolios.search(query.search)
        response = json_response(query.body(page))
        response.headers.add("Link", query.links(_PATH, page))
        return response
    after = s.cursors.decode(query.search, query.cursor)
    portfolios, end = s.portfolios.search_after(query.search, after)
    following = s.cursors.encode(query.search, end) if end is not None else None
    response = json_response(query.cursor_body(portfolios, following))
    response.headers.add("Link", query.cursor_links(_PATH, following))
    return response


@blueprint.post("/portfolios")
@describe(
    "createPortfolios",
    "Create up to 100 portfolios: all or none",
    description="With an `Idempotency-Key` the request can be sent again until it is answered: it "
    "creates each portfolio once.",
    parameters=("Idempotency-Key",),
    body=Body(StrictPortfolioCreateSchema, BULK_EXAMPLE, max_items=MAX_BULK),
    responses={
        201: Result(
            "The portfolios",
            "Portfolio",
            many=True,
            example=[EXAMPLE],
            headers=("Idempotent-Replay",),
        )
    },
    errors=CREATE_ERRORS,
)
def create_portfolios() -> Response:
    """Create up to 100 portfolios: all or none."""
    s = services()
    with s.metrics.bulk("v2"):
        body = json_body(request)
        if isinstance(body, list):
            check_bulk_size(len(body))
        portfolios = load(_bulk_schema, body, "body")
        created = s.portfolios.create_all(portfolios, key=idempotency_key(request))
    s.metrics.created("v2", created)
    return json_response(created.portfolios, 201, replay_header(created))
