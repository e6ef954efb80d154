"""Version 1 of the API: single portfolios, and the list of all."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from flask import Blueprint, Response, request

from portfolio.components import components
from portfolio.http.answers import answer
from portfolio.http.requests import json_body, query_arguments
from portfolio.portfolios.idempotency import replay_header, ticket
from portfolio.portfolios.model import Portfolio
from portfolio.portfolios.schemas import (
    ChangeSchema,
    DraftSchema,
    IdsSchema,
    VersionSchema,
    load,
)

blueprint = Blueprint("v1", __name__, url_prefix="/api/v1")

_draft = DraftSchema()
_change = ChangeSchema()
_ids = IdsSchema()
_version = VersionSchema()


@blueprint.get("/portfolios")
def list_portfolios() -> Response:
    """Every portfolio, streamed."""
    batches = components().portfolios.list_all()
    return Response(_as_json_array(batches), mimetype="application/json")


@blueprint.post("/portfolios")
def create_portfolio() -> Response:
    """Create one portfolio."""
    draft = load(_draft, json_body(request), "body")
    parts = components()
    created = parts.portfolios.create(draft, ticket(request))
    parts.measures.created("v1", created)
    return answer(created.portfolios[0], 201, replay_header(created))


@blueprint.get("/portfolio/<portfolio_id>")
def get_portfolio(portfolio_id: str) -> Response:
    """One portfolio."""
    return answer(components().portfolios.get(portfolio_id))


@blueprint.put("/portfolio/<portfolio_id>")
def update_portfolio(portfolio_id: str) -> Response:
    """Change one portfolio, if the version is the stored one."""
    change = load(_change, json_body(request), "body")
    return answer(components().portfolios.update(portfolio_id, change))


@blueprint.delete("/portfolio/<portfolio_id>")
def delete_portfolio(portfolio_id: str) -> Response:
    """Delete one portfolio, if the version is the stored one."""
    version = load(_version, query_arguments(request, _version.fields), "query")
    components().portfolios.delete(portfolio_id, version)
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


@blueprint.post("/portfolios/validate")
def validate_portfolios() -> Response:
    """Tell which ids name a portfolio."""
    ids = load(_ids, json_body(request), "body")
    valid, invalid = components().portfolios.sort_by_existence(ids)
    return answer({"valid": valid, "invalid": invalid, "inactive": []})


def _as_json_array(batches: Iterator[list[Portfolio]]) -> Iterator[bytes]:
    separator = b"["
    for batch in batches:
        if batch:
            yield separator + orjson.dumps(batch)[1:-1]
            separator = b","
    yield b"]" if separator == b"," else b"[]"
