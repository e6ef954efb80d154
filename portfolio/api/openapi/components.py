"""What the descriptions of endpoints refer to by name: tags, parameters, headers, links, errors."""

from __future__ import annotations

from typing import Any, NamedTuple

from portfolio.api.openapi.annotations import EXAMPLE_ID

# By blueprint.
TAGS = {
    "v1": {
        "name": "portfolios v1",
        "description": "Single portfolios, the list of all, and validation of ids",
    },
    "v2": {"name": "portfolios v2", "description": "Search with pagination, creation in bulk"},
    "fast": {"name": "fast path", "description": "Search and bulk creation with their timing"},
    "health": {"name": "health", "description": "Probes and reports for operators"},
}

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}

PARAMETERS: dict[str, dict[str, Any]] = {
    "portfolio_id": {
        "in": "path",
        "required": True,
        "description": "24 hexadecimal digits",
        "schema": _TEXT,
        "example": EXAMPLE_ID,
    },
    "Idempotency-Key": {
        "in": "header",
        "description": "Identifies this creation for a day: a request with the same key and body "
        "creates nothing and gets the first response again.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[ -~]+$"},
    },
    "If-None-Match": {
        "in": "header",
        "description": "The ETag of the version that you have: if it is current, the response is "
        "304.",
        "schema": _TEXT,
    },
    "If-Match": {
        "in": "header",
        "description": "The ETag of the version that you have: if it is not current, nothing is "
        "changed and the response is 412.",
        "schema": _TEXT,
    },
    "cursor": {
        "in": "query",
        "description": "Asks for pages by cursor, which cost the same at any depth and are stable "
        "while portfolios are created: empty for the first page, then `nextCursor` of the page "
        "before. Not together with `offset`.",
        "schema": _TEXT,
        "allowEmptyValue": True,
    },
}


def _header(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "required": True, "schema": schema}


HEADERS: dict[str, dict[str, Any]] = {
    "ETag": _header("id and version; strong", _TEXT | {"pattern": '^"[0-9a-f]{24}-[0-9]+"$'}),
    "Link": _header("first, previous, next and last page (RFC 8288)", _TEXT),
    "Retry-After": _header("seconds to wait before a retry", {"type": "integer", "minimum": 1}),
    "X-Processing-Time-Ms": _header(
        "milliseconds that the service took", {"type": "number", "minimum": 0}
    ),
    "X-Portfolio-Count": _header("portfolios created", _COUNT),
    "X-Total-Count": _header("portfolios that match", _COUNT),
    "Idempotent-Replay": {
        "description": "the portfolios were created by an earlier request with this key",
        "schema": {"type": "string", "enum": ["true"]},
    },
}

_ID_OF_RESULT = "$response.body#/portfolioId"
_VERSION_OF_RESULT = "$response.body#/version"
# By the operation that follows.
LINKS: dict[str, dict[str, Any]] = {
    "getPortfolio": {"parameters": {"path.portfolio_id": _ID_OF_RESULT}},
    "updatePortfolio": {
        "parameters": {"path.portfolio_id": _ID_OF_RESULT},
        "requestBody": {
            "portfolioId": _ID_OF_RESULT,
            "name": "$response.body#/name",
            "version": _VERSION_OF_RESULT,
        },
    },
    "deletePortfolio": {
        "parameters": {"path.portfolio_id": _ID_OF_RESULT, "query.version": _VERSION_OF_RESULT}
    },
}


class ErrorResponse(NamedTuple):
    """An error response that endpoints share.

    Attributes:
        status: the HTTP status.
        description: what it means.
        detail: an example of its ``detail``.
        schema: the name of its schema.
        headers: the names of its headers.
    """

    status: int
    description: str
    detail: Any
    schema: str = "Error"
    headers: tuple[str, ...] = ()


ERRORS = {
    "BadRequest": ErrorResponse(
        400,
        "The request breaks a rule.",
        "Only one search parameter allowed: name or name_like",
    ),
    "Unauthorized": ErrorResponse(
        401, "The API key is missing or unknown.", "A valid API key is required"
    ),
    "NotFound": ErrorResponse(404, "The portfolio does not exist.", "Portfolio not found"),
    "VersionConflict": ErrorResponse(409, "The version is not the stored one.", "Version conflict"),
    "IdempotencyKeyInFlight": ErrorResponse(
        409,
        "The first request with this key is in flight.",
        "A request with this Idempotency-Key is in flight",
    ),
    "NameConflict": ErrorResponse(
        409,
        "Portfolios with these names exist, or the first request with this key is in flight.",
        "Portfolio names already exist: Growth Fund",
    ),
    "PreconditionFailed": ErrorResponse(
        412,
        "If-Match does not have the current ETag.",
        "Precondition failed: the portfolio has changed",
    ),
    "PayloadTooLarge": ErrorResponse(
        413, "The body is larger than 1 MiB.", "Request body cannot be larger than 1048576 bytes"
    ),
    "URITooLong": ErrorResponse(
        414, "The request line is longer than 4 KiB.", "Request URI Too Long"
    ),
    "UnsupportedMediaType": ErrorResponse(
        415, "The body is not declared as JSON.", "Content-Type must be application/json"
    ),
    "UnprocessableEntity": ErrorResponse(
        422,
        "Values are invalid; all errors are listed.",
        [{"loc": ["body", "name"], "msg": "Field required", "type": "missing"}],
        schema="ValidationError",
    ),
    "InternalServerError": ErrorResponse(
        500, "An unexpected error; the log has it.", "Internal server error"
    ),
    "ServiceUnavailable": ErrorResponse(
        503, "The database is unavailable.", "Database unavailable", headers=("Retry-After",)
    ),
}
