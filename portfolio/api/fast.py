"""The fast API: bulk and search of v2 with their timing; each error is one sentence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, current_app

from portfolio.api.flask_app import MAX_BODY_BYTES
from portfolio.api.openapi.annotations import BULK_EXAMPLE, PAGE_EXAMPLE, Body, Result, describe
from portfolio.api.pagination import PageQuery
from portfolio.api.requests import idempotency_key, json_body
from portfolio.api.responses import EXAMPLE, json_response, replay_header
from portfolio.api.schemas import MAX_LIMIT, SearchQuerySchema, StrictPortfolioCreateSchema, load
from portfolio.api.services import services
from portfolio.config import SERVICE
from portfolio.errors import BadRequest, MalformedJSON, TooLarge, UnprocessableEntity, error_body
from portfolio.models import PortfolioCreate
from portfolio.rules import MAX_BULK, InvalidName
from portfolio.timestamps import rfc3339, utc_now

blueprint = Blueprint("fast", __name__, url_prefix="/api/fast")

_bulk_schema = StrictPortfolioCreateSchema(many=True)
_QUERY_ERRORS = {
    "limit": f"Limit must be between 1 and {MAX_LIMIT}",
    "offset": "Offset must be non-negative",
}


@blueprint.post("/portfolios/bulk")
@describe(
    "createPortfoliosFast",
    description="As v2, with its timing. Names that exist, in whatever case, are refused with 409; "
    "an error is one sentence.",
    parameters=("Idempotency-Key",),
    body=Body(StrictPortfolioCreateSchema, BULK_EXAMPLE, max_items=MAX_BULK),
    result=Result(
        "The portfolios",
        "BulkCreateResult",
        example={"portfolios": [EXAMPLE], "count": 1, "processingTimeMs": 2.1},
        headers=("X-Processing-Time-Ms", "X-Portfolio-Count", "Idempotent-Replay"),
        status=201,
    ),
    errors=("NameConflict",),
)
def create_portfolios() -> Response:
    """Create up to 100 portfolios with new names: all or none."""
    started = time.perf_counter()
    s = services()
    with s.metrics.bulk("fast"):
        portfolios = _load_bulk(json_body())
        key = idempotency_key()
        try:
            created = s.portfolios.create_all(portfolios, new_names=True, key=key)
        except InvalidName as error:
            raise BadRequest(f"Invalid portfolio at index {error.index}: {error.detail}") from None
    s.metrics.created("fast", created)
    elapsed, count = _elapsed_ms(started), len(created.portfolios)
    body = {"portfolios": created.portfolios, "count": count, "processingTimeMs": elapsed}
    headers = {"X-Processing-Time-Ms": str(elapsed), "X-Portfolio-Count": str(count)}
    return json_response(body, 201, headers | replay_header(created))


@blueprint.get("/portfolios/search")
@describe(
    "searchPortfoliosFast",
    description="As v2, with its timing; an error is one sentence.",
    query=SearchQuerySchema,
    result=Result(
        "A page",
        "FastPortfolioPage",
        example=PAGE_EXAMPLE | {"processingTimeMs": 1.3},
        headers=("X-Processing-Time-Ms", "X-Total-Count"),
    ),
    errors=("BadRequest",),
)
def search_portfolios() -> Response:
    """Search portfolios."""
    started = time.perf_counter()
    s = services()
    try:
        query = PageQuery.parse(s.validation_cache)
    except UnprocessableEntity as error:
        first = error.errors[0]
        raise BadRequest(_QUERY_ERRORS.get(str(first["loc"][1]), first["msg"])) from None
    page = s.portfolios.search(query.search)
    elapsed = _elapsed_ms(started)
    body = query.body(page) | {"processingTimeMs": elapsed}
    headers = {"X-Processing-Time-Ms": str(elapsed), "X-Total-Count": str(page.total)}
    return json_response(body, 200, headers)


@blueprint.get("/health/fast")
@describe(
    "getFastHealth", description="Does not ask MongoDB.", result=Result("It responds", "FastHealth")
)
def health() -> Response:
    """Check that the fast path responds."""
    return json_response(
        {"status": "healthy", "service": f"{SERVICE}-fast", "timestamp": rfc3339(utc_now())}
    )


@blueprint.get("/performance/stats")
@describe(
    "getFastStats",
    description="They change only with the configuration.",
    result=Result("Limits and endpoints", "FastPathStats"),
)
def stats() -> Response:
    """Get the limits and endpoints of the fast path."""
    settings = services().settings
    return json_response(
        {
            "fastPath": {
                "enabled": True,
                "maxBulkSize": MAX_BULK,
                "maxRequestSizeBytes": MAX_BODY_BYTES,
            },
            "environment": {
                "profile": settings.profile,
                "databaseTracing": settings.traces_commands,
            },
            "endpoints": {
                rule.rule: current_app.view_functions[rule.endpoint].__doc__
                for rule in current_app.url_map.iter_rules()
                if rule.endpoint.startswith("fast.")
            },
        }
    )


@blueprint.errorhandler(MalformedJSON)
def _handle_malformed_json(error: MalformedJSON) -> Response:
    """Return 400, where v1 and v2 return 422."""
    return json_response(error_body(error.code, error.errors[0]["msg"]), 400)


def _load_bulk(body: Any) -> Sequence[PortfolioCreate]:
    if not isinstance(body, list):
        raise BadRequest("Request must be a list of portfolios")
    if len(body) > MAX_BULK:
        raise TooLarge(f"Request cannot contain more than {MAX_BULK} portfolios")
    try:
        return load(_bulk_schema, body, "body")  # type: ignore[no-any-return]
    except UnprocessableEntity as error:
        _, index, *field = error.errors[0]["loc"]
        reason = ": ".join([*map(str, field), error.errors[0]["msg"]])
        raise BadRequest(f"Invalid portfolio at index {index}: {reason}") from None


def _elapsed_ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
