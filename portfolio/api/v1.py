"""Version 1 of the API: single portfolios, and the list of all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
from flask import Blueprint, Response, request

from portfolio.api.etags import check_if_match, conditional_response, with_etag
from portfolio.api.idempotency import (
    IDEMPOTENCY_KEY,
    REPLAY_HEADER,
    idempotency_key,
    replay_header,
)
from portfolio.api.openapi.annotations import (
    BODY_ERRORS,
    CREATE_ERRORS,
    EXAMPLE,
    EXAMPLE_ID,
    Body,
    Result,
    describe,
)
from portfolio.api.requests import json_body, query_arguments
from portfolio.api.responses import json_response
from portfolio.api.schemas import (
    DeleteQuerySchema,
    PortfolioCreateSchema,
    PortfolioIdsSchema,
    PortfolioUpdateSchema,
    load,
)
from portfolio.api.services import services
from portfolio.errors import FieldError, FieldErrors
from portfolio.models import Portfolio

blueprint = Blueprint("v1", __name__, url_prefix="/api/v1")

_ARRAY = "application/json"
_LINES = "application/x-ndjson"
_NEW_NAME = "Growth and Income Fund"

_draft = PortfolioCreateSchema()
_change = PortfolioUpdateSchema()
_ids = PortfolioIdsSchema()
_version = DeleteQuerySchema()


@blueprint.get("/portfolios")
@describe(
    "listPortfolios",
    "List all portfolios",
    description="In insertion order, streamed however many there are; one per line with "
    "`Accept: application/x-ndjson`.",
    responses={
        200: Result(
            "All portfolios",
            "Portfolio",
            many=True,
            example=[EXAMPLE],
            media_types=(_ARRAY, _LINES),
        )
    },
    errors=("ServiceUnavailable",),
)
def list_portfolios() -> Response:
    """Every portfolio, streamed: as a JSON array, or one a line where the client asks for that."""
    batches = services().portfolios.list_all()
    if request.accept_mimetypes.best_match([_ARRAY, _LINES], _ARRAY) == _LINES:
        response = Response(_as_lines(batches), mimetype=_LINES)
    else:
        response = Response(_as_json_array(batches), mimetype=_ARRAY)
    response.headers["Vary"] = "Accept"
    return response


@blueprint.post("/portfolios")
@describe(
    "createPortfolio",
    "Create a portfolio",
    parameters=(IDEMPOTENCY_KEY,),
    body=Body(PortfolioCreateSchema, {"name": "Growth Fund"}),
    responses={
        201: Result(
            "The portfolio",
            "Portfolio",
            example=EXAMPLE,
            headers=(REPLAY_HEADER, "ETag"),
            links=("getPortfolio", "updatePortfolio", "deletePortfolio"),
        )
    },
    errors=CREATE_ERRORS,
)
def create_portfolio() -> Response:
    """Create one portfolio."""
    draft = load(_draft, json_body(request), "body")
    s = services()
    created = s.portfolios.create(draft, idempotency_key(request))
    s.metrics.created("v1", created)
    return with_etag(created.portfolios[0], 201, replay_header(created))


@blueprint.get("/portfolio/<portfolio_id>")
@describe(
    "getPortfolio",
    "Get a portfolio",
    parameters=("If-None-Match",),
    responses={
        200: Result("The portfolio", "Portfolio", example=EXAMPLE, headers=("ETag",)),
        304: Result("Not modified", headers=("ETag",)),
    },
    errors=("NotFound", "URITooLong", "ServiceUnavailable"),
)
def get_portfolio(portfolio_id: str) -> Response:
    """One portfolio, or that the client knows it."""
    return conditional_response(services().portfolios.get(portfolio_id), request)


@blueprint.put("/portfolio/<portfolio_id>")
@describe(
    "updatePortfolio",
    "Update a portfolio",
    description="`version` is the one that you have seen. Of two updates of one version, one "
    "succeeds and the other gets 409: read the portfolio again before you retry.",
    parameters=("If-Match",),
    body=Body(PortfolioUpdateSchema, {"portfolioId": EXAMPLE_ID, "name": _NEW_NAME, "version": 1}),
    responses={
        200: Result(
            "The portfolio with its next version",
            "Portfolio",
            example=EXAMPLE | {"name": _NEW_NAME, "version": 2},
            headers=("ETag",),
        )
    },
    errors=("NotFound", "URITooLong", "VersionConflict", "PreconditionFailed", *BODY_ERRORS),
)
def update_portfolio(portfolio_id: str) -> Response:
    """Change one portfolio, if the version is the stored one."""
    body = json_body(request)
    change = load(_change, body, "body", _wrong_id(body, portfolio_id))
    portfolios = services().portfolios
    updated = check_if_match(
        request,
        portfolio_id,
        change.version,
        partial(portfolios.update, portfolio_id, change),
        partial(portfolios.get, portfolio_id),
    )
    return with_etag(updated)


@blueprint.delete("/portfolio/<portfolio_id>")
@describe(
    "deletePortfolio",
    "Delete a portfolio",
    query=DeleteQuerySchema,
    parameters=("If-Match",),
    responses={204: Result("Deleted")},
    errors=(
        "NotFound",
        "URITooLong",
        "VersionConflict",
        "PreconditionFailed",
        "UnprocessableEntity",
        "ServiceUnavailable",
    ),
)
def delete_portfolio(portfolio_id: str) -> Response:
    """Delete one portfolio, if the version is the stored one."""
    arguments, repeated = query_arguments(request, _version.fields)
    version = load(_version, arguments, "query", repeated)
    portfolios = services().portfolios
    check_if_match(
        request,
        portfolio_id,
        version,
        partial(portfolios.delete, portfolio_id, version),
        partial(portfolios.get, portfolio_id),
    )
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


@blueprint.post("/portfolios/validate")
@describe(
    "validatePortfolios",
    "Check which portfolios exist",
    body=Body(PortfolioIdsSchema, {"portfolioIds": [EXAMPLE_ID, "nonsense"]}),
    responses={
        200: Result(
            "The ids of portfolios that exist and of those that don't, in request order",
            "IdValidationResult",
            example={"valid": [EXAMPLE_ID], "invalid": ["nonsense"], "inactive": []},
        )
    },
    errors=BODY_ERRORS,
)
def validate_portfolios() -> Response:
    """Tell which ids name a portfolio."""
    ids = load(_ids, json_body(request), "body")
    valid, invalid = services().portfolios.partition_existing(ids)
    return json_response({"valid": valid, "invalid": invalid, "inactive": []})


def _wrong_id(body: Any, portfolio_id: str) -> FieldErrors:
    named = body.get("portfolioId") if isinstance(body, dict) else None
    if not isinstance(named, str) or named.lower() == portfolio_id.lower():
        return {}
    return {"portfolioId": [FieldError("portfolioId should be the id in the path", "id_mismatch")]}


def _as_lines(batches: Iterator[list[Portfolio]]) -> Iterator[bytes]:
    for batch in batches:
        lines = [orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in batch]
        if lines:
            yield b"".join(lines)


def _as_json_array(batches: Iterator[list[Portfolio]]) -> Iterator[bytes]:
    separator = b"["
    for batch in batches:
        if batch:
            yield separator + orjson.dumps(batch)[1:-1]
            separator = b","
    yield b"]" if separator == b"," else b"[]"
