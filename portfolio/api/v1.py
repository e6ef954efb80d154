"""Version 1 of the API: single portfolios, and the list of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import orjson
from flask import Blueprint, Response, request
from werkzeug.http import parse_accept_header

from portfolio.api import schemas
from portfolio.api.openapi.annotations import JSON, Body, Result, describe
from portfolio.api.requests import idempotency_key, json_body, load_query
from portfolio.api.responses import (
    EXAMPLE,
    EXAMPLE_ID,
    TAG,
    json_lines,
    json_response,
    replay_header,
    to_json,
)
from portfolio.api.services import services
from portfolio.errors import FieldError, FieldErrors, PreconditionFailed, VersionConflict
from portfolio.models import Portfolio, PortfolioUpdate

blueprint = Blueprint("v1", __name__, url_prefix="/api/v1")

T = TypeVar("T")

_NDJSON = "application/x-ndjson"
_NEW_NAME = "Growth and Income Fund"

_create_schema = schemas.PortfolioCreateSchema()
_update_schema = schemas.PortfolioUpdateSchema()
_ids_schema = schemas.IdValidationSchema()
_delete_schema = schemas.DeleteQuerySchema()


@blueprint.get("/portfolios")
@describe(
    "listPortfolios",
    description="In insertion order, streamed however many there are; one per line with "
    "`Accept: application/x-ndjson`.",
    result=Result("All portfolios", "Portfolio", many=True, media_types=(JSON, _NDJSON)),
)
def list_portfolios() -> Response:
    """List all portfolios."""
    batches = services().portfolios.list_all()
    if _prefers_lines(request.headers.get("Accept", "")):
        response = Response(_encoded(batches, json_lines), mimetype=_NDJSON)
    else:
        response = Response(_as_json_array(batches), mimetype=JSON)
    response.headers["Vary"] = "Accept"
    return response


@blueprint.post("/portfolios")
@describe(
    "createPortfolio",
    description="With an `Idempotency-Key` the request can be sent again until it is answered: it "
    "creates one portfolio.",
    parameters=("Idempotency-Key",),
    body=Body(schemas.PortfolioCreateSchema, {"name": "Growth Fund"}),
    result=Result(
        "The portfolio",
        "Portfolio",
        headers=("Idempotent-Replay", "ETag"),
        links=("getPortfolio", "updatePortfolio", "deletePortfolio"),
        status=201,
    ),
)
def create_portfolio() -> Response:
    """Create a portfolio."""
    portfolio = schemas.load(_create_schema, json_body(), "body")
    s = services()
    created = s.portfolios.create(portfolio, idempotency_key())
    s.metrics.created("v1", created)
    return json_response(created.portfolios[0], 201, replay_header(created))


@blueprint.get("/portfolio/<portfolio_id>")
@describe(
    "getPortfolio",
    description="`ETag` names its version, for conditional requests.",
    parameters=("If-None-Match",),
    result=Result("The portfolio", "Portfolio", headers=("ETag",)),
    other=Result("Not modified", headers=("ETag",), status=304),
)
def get_portfolio(portfolio_id: str) -> Response:
    """Get a portfolio."""
    return json_response(services().portfolios.get(portfolio_id))


@blueprint.put("/portfolio/<portfolio_id>")
@describe(
    "updatePortfolio",
    description="`version` is the one that you have seen. Of two updates of one version, one "
    "succeeds and the other gets 409: read the portfolio again before you retry.",
    parameters=("If-Match",),
    body=Body(
        schemas.PortfolioUpdateSchema, {"portfolioId": EXAMPLE_ID, "name": _NEW_NAME, "version": 1}
    ),
    result=Result(
        "The portfolio with its next version",
        "Portfolio",
        example=EXAMPLE | {"name": _NEW_NAME, "version": 2},
        headers=("ETag",),
    ),
)
def update_portfolio(portfolio_id: str) -> Response:
    """Update a portfolio."""
    update = _load_update(json_body(), portfolio_id)
    change = partial(services().portfolios.update, portfolio_id, update)
    return json_response(_apply_if_match(portfolio_id, update.version, change))


@blueprint.delete("/portfolio/<portfolio_id>")
@describe(
    "deletePortfolio",
    description="`version` is the one that you have seen; 409 if it is not the current one.",
    query=schemas.DeleteQuerySchema,
    parameters=("If-Match",),
    result=Result("Deleted", status=204),
    errors=("UnprocessableEntity",),
)
def delete_portfolio(portfolio_id: str) -> Response:
    """Delete a portfolio."""
    version = load_query(_delete_schema)["version"]
    change = partial(services().portfolios.delete, portfolio_id, version)
    _apply_if_match(portfolio_id, version, change)
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


@blueprint.post("/portfolios/validate")
@describe(
    "validatePortfolios",
    description="Up to 1000 ids in one request. What is not an id is invalid, not an error.",
    body=Body(schemas.IdValidationSchema, {"portfolioIds": [EXAMPLE_ID, "nonsense"]}),
    result=Result(
        "The ids of portfolios that exist and of those that don't, in request order",
        "IdValidationResult",
        example={"valid": [EXAMPLE_ID], "invalid": ["nonsense"], "inactive": []},
    ),
)
def validate_portfolios() -> Response:
    """Check which portfolios exist."""
    ids = schemas.load(_ids_schema, json_body(), "body")["ids"]
    valid, invalid = services().portfolios.partition_existing(ids)
    return json_response({"valid": valid, "invalid": invalid, "inactive": []})


def _apply_if_match(portfolio_id: str, version: int, change: Callable[[], T]) -> T:
    """Apply a change, which requires ``version``, if ``If-Match`` of the request allows it.

    The change itself compares the version, so that no other change can come between the check and
    the change.
    """
    if "HTTP_IF_MATCH" not in request.environ:
        return change()
    wanted = request.if_match
    if wanted.contains(TAG.format(portfolio_id.lower(), version)):
        try:
            return change()
        except VersionConflict:
            pass
    found = services().portfolios.get(portfolio_id)
    raise (
        VersionConflict
        if wanted.contains(TAG.format(found.id, found.version))
        else PreconditionFailed
    )


def _load_update(body: Any, portfolio_id: str) -> PortfolioUpdate:
    found: FieldErrors = {}
    in_body = body.get("portfolioId") if isinstance(body, dict) else None
    if isinstance(in_body, str) and in_body.lower() != portfolio_id.lower():
        mismatch = FieldError("portfolioId should be the id in the path", "id_mismatch")
        found = {"portfolioId": [mismatch]}
    return schemas.load(_update_schema, body, "body", found)  # type: ignore[no-any-return]


def _prefers_lines(accept: str) -> bool:
    """Tell whether a client with this ``Accept`` prefers one portfolio a line to an array.

    Werkzeug's ``accept_mimetypes`` takes time in the square of the spaces of a header.
    """
    quality = parse_accept_header(accept).quality
    lines, wildcards = quality(_NDJSON), max(quality("*/*"), quality("application/*"))
    return lines > quality(JSON) and lines >= wildcards


def _as_json_array(batches: Iterator[list[Portfolio]]) -> Iterator[bytes]:
    parts = _encoded(batches, lambda batch: b"," + orjson.dumps(batch, to_json)[1:-1])
    yield b"[" + next(parts, b"")[1:]
    yield from parts
    yield b"]"


def _encoded(
    batches: Iterator[list[Portfolio]], encode: Callable[[list[Portfolio]], bytes]
) -> Iterator[bytes]:
    for batch in filter(None, batches):
        part = encode(batch)
        batch.clear()  # a client may take long to read the part
        yield part
