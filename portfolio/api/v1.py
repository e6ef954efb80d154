"""Version 1 of the API: single portfolios, and the list of all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
from flask import Blueprint, Response, request

from portfolio.api.etags import check_if_match, conditional_response, with_etag
from portfolio.api.idempotency import idempotency_key, replay_header
from portfolio.api.openapi.annotations import BODY_ERRORS, CREATE_ERRORS, Body, Result, describe
from portfolio.api.requests import json_body, load_query
from portfolio.api.responses import EXAMPLE, EXAMPLE_ID, json_lines, json_response, to_json
from portfolio.api.schemas import (
    DeleteQuerySchema,
    IdValidationSchema,
    PortfolioCreateSchema,
    PortfolioUpdateSchema,
    load,
)
from portfolio.api.services import services
from portfolio.errors import FieldError, FieldErrors
from portfolio.models import Portfolio

blueprint = Blueprint("v1", __name__, url_prefix="/api/v1")

_JSON = "application/json"
_NDJSON = "application/x-ndjson"
_NEW_NAME = "Growth and Income Fund"

_create_schema = PortfolioCreateSchema()
_update_schema = PortfolioUpdateSchema()
_ids_schema = IdValidationSchema()
_delete_schema = DeleteQuerySchema()


@blueprint.get("/portfolios")
@describe(
    "listPortfolios",
    description="In insertion order, streamed however many there are; one per line with "
    "`Accept: application/x-ndjson`.",
    responses={
        200: Result(
            "All portfolios",
            "Portfolio",
            many=True,
            example=[EXAMPLE],
            media_types=(_JSON, _NDJSON),
        )
    },
    errors=("ServiceUnavailable",),
)
def list_portfolios() -> Response:
    """List all portfolios."""
    batches = services().portfolios.list_all()
    if request.accept_mimetypes.best_match([_JSON, _NDJSON], _JSON) == _NDJSON:
        response = Response(filter(None, map(json_lines, batches)), mimetype=_NDJSON)
    else:
        response = Response(_as_json_array(batches), mimetype=_JSON)
    response.headers["Vary"] = "Accept"
    return response


@blueprint.post("/portfolios")
@describe(
    "createPortfolio",
    description="With an `Idempotency-Key` the request can be sent again until it is answered: it "
    "creates one portfolio.",
    parameters=("Idempotency-Key",),
    body=Body(PortfolioCreateSchema, {"name": "Growth Fund"}),
    responses={
        201: Result(
            "The portfolio",
            "Portfolio",
            example=EXAMPLE,
            headers=("Idempotent-Replay", "ETag"),
            links=("getPortfolio", "updatePortfolio", "deletePortfolio"),
        )
    },
    errors=CREATE_ERRORS,
)
def create_portfolio() -> Response:
    """Create a portfolio."""
    portfolio = load(_create_schema, json_body(request), "body")
    s = services()
    created = s.portfolios.create(portfolio, idempotency_key(request))
    s.metrics.created("v1", created)
    return with_etag(created.portfolios[0], 201, replay_header(created))


@blueprint.get("/portfolio/<portfolio_id>")
@describe(
    "getPortfolio",
    description="`ETag` names its version, for conditional requests.",
    parameters=("If-None-Match",),
    responses={
        200: Result("The portfolio", "Portfolio", example=EXAMPLE, headers=("ETag",)),
        304: Result("Not modified", headers=("ETag",)),
    },
    errors=("NotFound", "ServiceUnavailable"),
)
def get_portfolio(portfolio_id: str) -> Response:
    """Get a portfolio."""
    return conditional_response(services().portfolios.get(portfolio_id), request)


@blueprint.put("/portfolio/<portfolio_id>")
@describe(
    "updatePortfolio",
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
    errors=("NotFound", "VersionConflict", "PreconditionFailed", *BODY_ERRORS),
)
def update_portfolio(portfolio_id: str) -> Response:
    """Update a portfolio."""
    body = json_body(request)
    update = load(_update_schema, body, "body", _check_id(body, portfolio_id))
    portfolios = services().portfolios
    updated = check_if_match(
        request,
        portfolio_id,
        update.version,
        partial(portfolios.update, portfolio_id, update),
        portfolios.get,
    )
    return with_etag(updated)


@blueprint.delete("/portfolio/<portfolio_id>")
@describe(
    "deletePortfolio",
    description="`version` is the one that you have seen; 409 if it is not the current one.",
    query=DeleteQuerySchema,
    parameters=("If-Match",),
    responses={204: Result("Deleted")},
    errors=(
        "NotFound",
        "VersionConflict",
        "PreconditionFailed",
        "UnprocessableEntity",
        "ServiceUnavailable",
    ),
)
def delete_portfolio(portfolio_id: str) -> Response:
    """Delete a portfolio."""
    version = load_query(_delete_schema, request)["version"]
    portfolios = services().portfolios
    check_if_match(
        request,
        portfolio_id,
        version,
        partial(portfolios.delete, portfolio_id, version),
        portfolios.get,
    )
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


@blueprint.post("/portfolios/validate")
@describe(
    "validatePortfolios",
    description="Up to 1000 ids in one request. What is not an id is invalid, not an error.",
    body=Body(IdValidationSchema, {"portfolioIds": [EXAMPLE_ID, "nonsense"]}),
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
    """Check which portfolios exist."""
    ids = load(_ids_schema, json_body(request), "body")["ids"]
    valid, invalid = services().portfolios.partition_existing(ids)
    return json_response({"valid": valid, "invalid": invalid, "inactive": []})


def _check_id(body: Any, portfolio_id: str) -> FieldErrors:
    in_body = body.get("portfolioId") if isinstance(body, dict) else None
    if not isinstance(in_body, str) or in_body.lower() == portfolio_id.lower():
        return {}
    return {"portfolioId": [FieldError("portfolioId should be the id in the path", "id_mismatch")]}


def _as_json_array(batches: Iterator[list[Portfolio]]) -> Iterator[bytes]:
    separator = b"["
    for batch in batches:
        if batch:
            yield separator + orjson.dumps(batch, to_json)[1:-1]
            separator = b","
    yield b"]" if separator == b"," else b"[]"
