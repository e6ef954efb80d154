"""Version 2 of the API: search with pagination, and creation in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, request

from portfolio.api import schemas
from portfolio.api.openapi.annotations import BULK_EXAMPLE, PAGE_EXAMPLE, Body, Result, describe
from portfolio.api.pagination import PageQuery
from portfolio.api.requests import idempotency_key, json_body, load_query
from portfolio.api.responses import EXAMPLE, EXAMPLE_ID, json_response, replay_header, select_fields
from portfolio.api.services import services
from portfolio.models import PortfolioCreate
from portfolio.rules import MAX_BULK, check_bulk_size

blueprint = Blueprint("v2", __name__, url_prefix="/api/v2")

_bulk_schema = schemas.StrictPortfolioCreateSchema(many=True)
_bulk_query_schema = schemas.BulkQuerySchema()
_lookup_schema = schemas.LookupSchema()
_fields_schema = schemas.FieldsQuerySchema()


@blueprint.get("/portfolios")
@describe(
    "searchPortfolios",
    description="Newest first; portfolios of the same date in the order of their ids, so that "
    "pages neither overlap nor skip. At most one of `name` and `name_like`.",
    query=schemas.SearchQuerySchema,
    parameters=("cursor",),
    result=Result("A page", "PortfolioPage", example=PAGE_EXAMPLE, headers=("Link",)),
    errors=("BadRequest", "UnprocessableEntity"),
)
def search_portfolios() -> Response:
    """Search portfolios."""
    s = services()
    query = PageQuery.parse(s.validation_cache, cursors=True)
    if query.cursor is None:
        page = s.portfolios.search(query.search)
        return json_response(query.body(page), headers={"Link": query.links(request.path, page)})
    after = s.cursors.decode(query.search, query.cursor)
    portfolios, end = s.portfolios.search_after(query.search, after)
    following = s.cursors.encode(query.search, end) if end is not None else None
    links = query.cursor_links(request.path, following)
    return json_response(query.cursor_body(portfolios, following), headers={"Link": links})


@blueprint.post("/portfolios")
@describe(
    "createPortfolios",
    description="With an `Idempotency-Key` the request can be sent again until it is answered: it "
    "creates each portfolio once.",
    query=schemas.BulkQuerySchema,
    parameters=("Idempotency-Key",),
    body=Body(schemas.StrictPortfolioCreateSchema, BULK_EXAMPLE, max_items=MAX_BULK),
    result=Result(
        "The portfolios", "Portfolio", many=True, headers=("Idempotent-Replay",), status=201
    ),
    errors=("NameConflict",),
)
def create_portfolios() -> Response:
    """Create up to 100 portfolios: all or none."""
    s = services()
    with s.metrics.bulk("v2"):
        unique = load_query(_bulk_query_schema)["unique"]
        portfolios = _load_bulk(json_body())
        key = idempotency_key(unique=unique)
        created = s.portfolios.create_all(portfolios, new_names=unique, key=key)
    s.metrics.created("v2", created)
    return json_response(created.portfolios, 201, replay_header(created))


@blueprint.post("/portfolios/resolve")
@describe(
    "resolvePortfolios",
    description="Names are compared trimmed and without regard to case; all portfolios of a name "
    "are given, the newest first. Portfolios come in the order of the request, each once. What no "
    "portfolio has is `missing`, an id that can't be one too.",
    query=schemas.FieldsQuerySchema,
    body=Body(
        schemas.LookupSchema, {"ids": [EXAMPLE_ID, "nonsense"], "names": ["growth fund", "R&D"]}
    ),
    result=Result(
        "The portfolios, and what is missing",
        "PortfolioResolution",
        example={"portfolios": [EXAMPLE], "missing": {"ids": ["nonsense"], "names": ["R&D"]}},
    ),
    errors=("BadRequest",),
)
def resolve_portfolios() -> Response:
    """Get the portfolios with up to 1000 ids and names."""
    fields = load_query(_fields_schema)["fields"]
    lookup = schemas.load(_lookup_schema, json_body(), "body")
    found = services().portfolios.resolve(lookup)
    portfolios = select_fields(found.portfolios, fields) if fields else found.portfolios
    return json_response({"portfolios": portfolios, "missing": found.missing._asdict()})


def _load_bulk(body: Any) -> Sequence[PortfolioCreate]:
    if isinstance(body, list):
        check_bulk_size(len(body))
    return schemas.load(_bulk_schema, body, "body")  # type: ignore[no-any-return]
