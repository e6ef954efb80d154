"""What each endpoint takes and answers; section numbers are the contract's."""

from __future__ import annotations

from typing import Any

from portfolio.api.idempotency import HEADER, REPLAY_HEADER
from portfolio.api.openapi.answers import (
    EXAMPLE,
    EXAMPLE_ID,
    JSON,
    NUMBER,
    TEXT,
    WHOLE,
    Described,
    header,
    list_of,
    one_of,
    ref,
)
from portfolio.api.schemas import (
    DeleteQuerySchema,
    PortfolioCreateSchema,
    PortfolioIdsSchema,
    PortfolioUpdateSchema,
    SearchQuerySchema,
    StrictPortfolioCreateSchema,
)
from portfolio.rules import MAX_BULK

TAGS = [
    {"name": "portfolios", "description": "One portfolio, all of them, and checks of ids: v1"},
    {"name": "pages and bulk", "description": "Search in pages, creation in bulk: v2"},
    {"name": "fast", "description": "Pages and bulk with their timing"},
    {"name": "health", "description": "Probes, and what an operator wants to see"},
]

_READ_FAULTS = {"500": "Failed", "503": "Unavailable"}
_BODY_FAULTS = _READ_FAULTS | {
    "413": "TooLarge",
    "415": "UnsupportedMediaType",
    "422": "Unprocessable",
}

_CREATION_FAULTS = _BODY_FAULTS | {"400": "BadRequest", "409": "KeyInFlight"}

_IDEMPOTENCY_KEY = {
    "in": "header",
    "name": HEADER,
    "description": "Names this creation, for a day: sent again with the same body, it creates "
    "nothing and gets the first answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[ -~]+$"},
}
_REPLAYED = {
    REPLAY_HEADER: {"description": "this was created before", "schema": one_of("true")},
}

_PORTFOLIO_ID = {
    "in": "path",
    "name": "portfolio_id",
    "required": True,
    "description": "24 hexadecimal digits",
    "schema": TEXT,
    "example": EXAMPLE_ID,
}


_IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "description": "The ETag of what you know: where it is the current one, the answer is 304.",
    "schema": TEXT,
}
_IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "description": "The ETag of what you have seen: where it is not the current one, nothing is "
    "changed and the answer is 412.",
    "schema": TEXT,
}
_CURSOR = {
    "in": "query",
    "name": "cursor",
    "description": "Asks for pages by cursor, which cost the same at any depth and hold still "
    "while portfolios are created: empty for the first page, then `nextCursor` of the page "
    "before. Not together with `offset`.",
    "schema": TEXT,
    "allowEmptyValue": True,
}
_ETAG = {"ETag": header("id and version; strong", TEXT | {"pattern": '^"[0-9a-f]{24}-[0-9]+"$'})}
_LINK = {"Link": header("first, previous, next and last page, as RFC 8288 has it", TEXT)}


def _answer(
    description: str,
    schema: Described | None = None,
    example: Any = None,
    headers: dict[str, Described] | None = None,
    links: dict[str, Described] | None = None,
) -> Described:
    response: Described = {"description": description}
    if schema is not None:
        response["content"] = {JSON: {"schema": schema}}
        if example is not None:
            response["content"][JSON]["example"] = example
    if headers:
        response["headers"] = headers
    if links:
        response["links"] = links
    return response


def _body(schema: Any, example: Any) -> Described:
    return {"required": True, "content": {JSON: {"schema": schema, "example": example}}}


def _bulk() -> Described:
    items = list_of(StrictPortfolioCreateSchema) | {"minItems": 1, "maxItems": MAX_BULK}  # type: ignore[arg-type]
    return _body(items, [{"name": "Income Fund"}, {"name": "Bond Fund", "version": 3}])


def _follow(operation: str, **more: Any) -> Described:
    parameters = {"path.portfolio_id": "$response.body#/portfolioId", **more.pop("parameters", {})}
    return {"operationId": operation, "parameters": parameters, **more}


_LINKS = {
    "read": _follow("v1_get_portfolio"),
    "change": _follow(
        "v1_update_portfolio",
        requestBody={
            "portfolioId": "$response.body#/portfolioId",
            "name": "$response.body#/name",
            "version": "$response.body#/version",
        },
    ),
    "delete": _follow(
        "v1_delete_portfolio", parameters={"query.version": "$response.body#/version"}
    ),
}
_PAGINATION_EXAMPLE = {
    "totalElements": 1,
    "totalPages": 1,
    "currentPage": 0,
    "pageSize": 50,
    "hasNext": False,
    "hasPrevious": False,
}
_PAGE_EXAMPLE = {"portfolios": [EXAMPLE], "pagination": _PAGINATION_EXAMPLE}
_TIMING = {"X-Processing-Time-Ms": header("milliseconds that the service took", NUMBER)}


def _health(summary: str, schema: str, unwell: str | None = None, **more: Any) -> Any:
    responses = {"200": _answer(summary, ref(schema)), "500": "Failed"}
    if unwell:
        retry = {"Retry-After": header("seconds after which to ask again", WHOLE)}
        responses["503"] = _answer(unwell, ref(schema), headers=retry)
    return "get", {"tags": ["health"], "summary": summary, "responses": responses, **more}


# By Flask endpoint: the method, and the operation. A test keeps it in step with the routes.
OPERATIONS: dict[str, tuple[str, Described]] = {
    "v1.list_portfolios": (
        "get",
        {
            "tags": ["portfolios"],
            "summary": "All portfolios",
            "description": "In the order of insertion, streamed however many there are; one a "
            "line with `Accept: application/x-ndjson`.",
            "responses": {
                "200": {
                    "description": "Every portfolio",
                    "content": {
                        JSON: {"schema": list_of(ref("Portfolio")), "example": [EXAMPLE]},
                        "application/x-ndjson": {"schema": TEXT},
                    },
                },
                **_READ_FAULTS,
            },
        },
    ),
    "v1.create_portfolio": (
        "post",
        {
            "tags": ["portfolios"],
            "summary": "Create a portfolio",
            "parameters": [_IDEMPOTENCY_KEY],
            "requestBody": _body(PortfolioCreateSchema, {"name": "Growth Fund"}),
            "responses": {
                "201": _answer(
                    "The portfolio",
                    ref("Portfolio"),
                    EXAMPLE,
                    headers=_REPLAYED | _ETAG,
                    links=_LINKS,
                ),
                **_CREATION_FAULTS,
            },
        },
    ),
    "v1.get_portfolio": (
        "get",
        {
            "tags": ["portfolios"],
            "summary": "One portfolio",
            "parameters": [_PORTFOLIO_ID, _IF_NONE_MATCH],
            "responses": {
                "200": _answer("The portfolio", ref("Portfolio"), EXAMPLE, headers=_ETAG),
                "304": _answer("You know it.", headers=_ETAG),
                "404": "NotFound",
                "414": "UriTooLong",
                **_READ_FAULTS,
            },
        },
    ),
    "v1.update_portfolio": (
        "put",
        {
            "tags": ["portfolios"],
            "summary": "Change a portfolio",
            "description": "`version` is the one that you have seen. Of two changes of one "
            "version, one wins and the other gets 409: read again and decide anew.",
            "parameters": [_PORTFOLIO_ID, _IF_MATCH],
            "requestBody": _body(
                PortfolioUpdateSchema,
                {"portfolioId": EXAMPLE_ID, "name": "Growth and Income Fund", "version": 1},
            ),
            "responses": {
                "200": _answer(
                    "The portfolio with its next version",
                    ref("Portfolio"),
                    EXAMPLE | {"name": "Growth and Income Fund", "version": 2},
                    headers=_ETAG,
                ),
                "404": "NotFound",
                "414": "UriTooLong",
                "409": "Conflict",
                "412": "PreconditionFailed",
                **_BODY_FAULTS,
            },
        },
    ),
    "v1.delete_portfolio": (
        "delete",
        {
            "tags": ["portfolios"],
            "summary": "Delete a portfolio",
            "parameters": [_PORTFOLIO_ID, {"in": "query", "schema": DeleteQuerySchema}, _IF_MATCH],
            "responses": {
                "204": _answer("It is gone."),
                "404": "NotFound",
                "414": "UriTooLong",
                "409": "Conflict",
                "412": "PreconditionFailed",
                "422": "Unprocessable",
                **_READ_FAULTS,
            },
        },
    ),
    "v1.validate_portfolios": (
        "post",
        {
            "tags": ["portfolios"],
            "summary": "Tell which ids name a portfolio",
            "requestBody": _body(PortfolioIdsSchema, {"portfolioIds": [EXAMPLE_ID, "nonsense"]}),
            "responses": {
                "200": _answer(
                    "The ids, sorted into those that do and those that don't, in their order",
                    ref("Verdict"),
                    {"valid": [EXAMPLE_ID], "invalid": ["nonsense"], "inactive": []},
                ),
                **_BODY_FAULTS,
            },
        },
    ),
    "v2.search_portfolios": (
        "get",
        {
            "tags": ["pages and bulk"],
            "summary": "Search in pages",
            "description": "Newest first; portfolios of one moment in the order of their ids, so "
            "that pages neither overlap nor skip. At most one of `name` and `name_like`.",
            "parameters": [{"in": "query", "schema": SearchQuerySchema}, _CURSOR],
            "responses": {
                "200": _answer("A page", ref("Page"), _PAGE_EXAMPLE, headers=_LINK),
                "400": "BadRequest",
                "414": "UriTooLong",
                "422": "Unprocessable",
                **_READ_FAULTS,
            },
        },
    ),
    "v2.create_portfolios": (
        "post",
        {
            "tags": ["pages and bulk"],
            "summary": "Create up to 100 portfolios: all or none",
            "parameters": [_IDEMPOTENCY_KEY],
            "requestBody": _bulk(),
            "responses": {
                "201": _answer(
                    "The portfolios", list_of(ref("Portfolio")), [EXAMPLE], headers=_REPLAYED
                ),
                **_CREATION_FAULTS,
            },
        },
    ),
    "fast.create_portfolios": (
        "post",
        {
            "tags": ["fast"],
            "summary": "Create up to 100 portfolios of new names: all or none",
            "parameters": [_IDEMPOTENCY_KEY],
            "requestBody": _bulk(),
            "responses": {
                "201": _answer(
                    "The portfolios",
                    ref("FastBulk"),
                    {"portfolios": [EXAMPLE], "count": 1, "processingTimeMs": 2.1},
                    headers=_TIMING | _REPLAYED | {"X-Portfolio-Count": header("how many", WHOLE)},
                ),
                **_CREATION_FAULTS,
                "409": "NamesTaken",
            },
        },
    ),
    "fast.search_portfolios": (
        "get",
        {
            "tags": ["fast"],
            "summary": "Search in pages",
            "description": "As v2, with its timing; every fault is told in one sentence.",
            "parameters": [{"in": "query", "schema": SearchQuerySchema}],
            "responses": {
                "200": _answer(
                    "A page",
                    ref("FastPage"),
                    _PAGE_EXAMPLE | {"processingTimeMs": 1.3},
                    headers={**_TIMING, "X-Total-Count": header("portfolios that match", WHOLE)},
                ),
                "400": "BadRequest",
                "414": "UriTooLong",
                **_READ_FAULTS,
            },
        },
    ),
    "fast.health": _health("Tell that the fast path answers", "FastHealth", tags=["fast"]),
    "fast.stats": _health("Limits and endpoints of the fast path", "FastStatistics", tags=["fast"]),
    "health.index": _health("What runs here", "Index"),
    "health.health": (
        "get",
        {
            "tags": ["health"],
            "summary": "Say OK",
            "responses": {
                "200": {
                    "description": "OK",
                    "content": {"text/plain": {"schema": TEXT, "example": "OK"}},
                },
                "500": "Failed",
            },
        },
    ),
    "health.live": _health("Does the process answer?", "Live"),
    "health.ready": _health("Can requests be served now?", "Ready", "Not now"),
    "health.startup": _health("Was MongoDB reached since the start?", "Startup", "Not yet"),
    "health.detailed": _health("Each part's state", "Detailed", "A part is unhealthy"),
    "health.metrics": _health("Counts, latencies and use of resources", "Metrics"),
}
