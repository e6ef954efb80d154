"""What the descriptions of endpoints refer to by name: tags, parameters, headers, links, errors."""

from __future__ import annotations

from typing import Any

from portfolio.api.responses import EXAMPLE_ID, TOO_LARGE
from portfolio.errors import (
    BadRequest,
    IdempotencyKeyInUse,
    LocatedError,
    NameConflict,
    NotFound,
    PortfolioError,
    PreconditionFailed,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnprocessableEntity,
    UnsupportedMediaType,
    VersionConflict,
)

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
    "ETag": _header("id and version; strong", _TEXT | {"pattern": '^"[0-9a-f]{24}--?[0-9]+"$'}),
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


class _URITooLong(BadRequest):
    status = 414


# By name: an example, and what it means.
ERRORS: dict[str, tuple[PortfolioError, str]] = {
    "BadRequest": (
        BadRequest("Only one search parameter allowed: name or name_like"),
        "The request breaks a rule.",
    ),
    "Unauthorized": (Unauthorized(), "The API key is missing or unknown."),
    "NotFound": (NotFound(), "The portfolio does not exist."),
    "VersionConflict": (VersionConflict(), "The version is not the stored one."),
    "IdempotencyKeyInFlight": (
        IdempotencyKeyInUse(),
        "The first request with this key is in flight.",
    ),
    "NameConflict": (
        NameConflict(["Growth Fund"]),
        "Portfolios with these names exist, or the first request with this key is in flight.",
    ),
    "PreconditionFailed": (PreconditionFailed(), "If-Match does not have the current ETag."),
    "PayloadTooLarge": (TooLarge(TOO_LARGE), "The body is larger than 1 MiB."),
    "URITooLong": (_URITooLong("Request URI Too Long"), "The request line is longer than 4 KiB."),
    "UnsupportedMediaType": (UnsupportedMediaType(), "The body is not declared as JSON."),
    "UnprocessableEntity": (
        UnprocessableEntity(
            [LocatedError(loc=["body", "name"], msg="Field required", type="missing")]
        ),
        "Values are invalid; all errors are listed.",
    ),
    "InternalServerError": (PortfolioError(), "An unexpected error; the log has it."),
    "ServiceUnavailable": (Unavailable(), "The database is unavailable."),
}
