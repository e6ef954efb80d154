"""The shapes of answers, as OpenAPI components."""

from __future__ import annotations

from typing import Any

JSON = "application/json"

Described = dict[str, Any]

EXAMPLE_ID = "65abd8e45c6f2a0c3f1e9b7d"
EXAMPLE = {
    "portfolioId": EXAMPLE_ID,
    "name": "Growth Fund",
    "dateCreated": "2024-01-20T14:45:00.123Z",
    "version": 1,
}


def ref(name: str) -> Described:
    """Return a reference to the schema ``name``."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: dict[str, Described], optional: dict[str, Described] | None = None) -> Any:
    """Return the schema of an object; it may hold more than what is named."""
    properties = required | (optional or {})
    return {"type": "object", "required": list(required), "properties": properties}


def list_of(items: Described) -> Described:
    """Return the schema of an array of ``items``."""
    return {"type": "array", "items": items}


def one_of(*values: str) -> Described:
    """Return the schema of a string that is one of ``values``."""
    return {"type": "string", "enum": list(values)}


def header(description: str, schema: Described) -> Described:
    """Return a header that is always there."""
    return {"description": description, "required": True, "schema": schema}


TEXT: Described = {"type": "string"}
WHOLE: Described = {"type": "integer", "minimum": 0}
NUMBER: Described = {"type": "number", "minimum": 0}
RATIO: Described = {"type": "number", "minimum": 0, "maximum": 1}
FLAG: Described = {"type": "boolean"}
MOMENT: Described = {"type": "string", "format": "date-time"}
ID: Described = {"type": "string", "pattern": "^[0-9a-f]{24}$"}
HEALTH = one_of("healthy", "unhealthy", "degraded", "disabled")
_OBJECT: Described = {"type": "object"}

_PAGINATION = record(
    {
        "totalElements": WHOLE | {"description": "portfolios that match, on all pages"},
        "totalPages": WHOLE,
        "currentPage": WHOLE | {"description": "offset divided by limit; the first is 0"},
        "pageSize": {"type": "integer", "minimum": 1, "description": "the limit asked for"},
        "hasNext": FLAG | {"description": "whether a portfolio lies beyond this page"},
        "hasPrevious": FLAG,
    }
)
_CURSOR_PAGINATION = record(
    {
        "pageSize": {"type": "integer", "minimum": 1, "description": "the limit asked for"},
        "hasNext": FLAG | {"description": "whether a portfolio lies beyond this page"},
        "nextCursor": {"type": ["string", "null"], "description": "the cursor of the next page"},
    }
)
_PROBE = {
    "timestamp": MOMENT,
    "service": TEXT,
    "probe_type": TEXT,
    "response_time_ms": NUMBER,
}
_CACHE = record(
    {
        "status": HEALTH,
        "size": WHOLE,
        "max_size": WHOLE,
        "hits": WHOLE,
        "misses": WHOLE,
        "hit_rate": RATIO,
        "evictions": WHOLE,
    }
)
_POOL = record(dict.fromkeys(("max", "min", "in_use", "available", "waiting"), WHOLE))
_BREAKER = record({"state": one_of("closed", "half-open", "open"), "failure_count": WHOLE})
_BREAKERS = {"type": "object", "additionalProperties": _BREAKER}

SCHEMAS: dict[str, Described] = {
    "Portfolio": record(
        {
            "portfolioId": ID,
            "name": TEXT,
            "dateCreated": MOMENT | {"description": "UTC, milliseconds, with Z"},
            "version": {
                "type": "integer",
                "format": "int64",
                "description": "1 at creation unless given; +1 with each change",
            },
        }
    )
    | {"examples": [EXAMPLE]},
    "Page": record(
        {
            "portfolios": list_of(ref("Portfolio")),
            "pagination": {"anyOf": [_PAGINATION, _CURSOR_PAGINATION]},
        }
    ),
    "FastPage": record(
        {
            "portfolios": list_of(ref("Portfolio")),
            "pagination": _PAGINATION,
            "processingTimeMs": NUMBER,
        }
    ),
    "FastBulk": record(
        {"portfolios": list_of(ref("Portfolio")), "count": WHOLE, "processingTimeMs": NUMBER}
    ),
    "Verdict": record(
        {
            "valid": list_of(TEXT) | {"description": "ids that name a portfolio"},
            "invalid": list_of(TEXT) | {"description": "ids that don't"},
            "inactive": list_of(TEXT) | {"description": "always empty"},
        }
    ),
    "Error": record({"detail": TEXT | {"description": "what is wrong, in a sentence"}}),
    "Faults": record(
        {
            "detail": list_of(
                record(
                    {
                        "loc": list_of({"type": ["string", "integer"]})
                        | {"description": "the way to the value: body, query or path first"},
                        "msg": TEXT,
                        "type": TEXT | {"description": "the kind of fault, for programs"},
                    }
                )
            )
        }
    ),
    "Index": record(
        {
            "message": TEXT,
            "version": TEXT,
            "environment": one_of("development", "staging", "production"),
            "status": TEXT,
            "features": {"type": "object", "additionalProperties": FLAG},
        }
    ),
    "Live": record({"status": one_of("alive"), **_PROBE, "cached": FLAG}),
    "Ready": record(
        {
            "status": one_of("ready", "not_ready"),
            **_PROBE,
            "checks": record(
                {
                    "database": record({"status": HEALTH, "response_time_ms": NUMBER}),
                    "circuit_breakers": record({"status": HEALTH, "healthy_ratio": RATIO}),
                }
            ),
        }
    ),
    "Startup": record({"status": one_of("started", "starting"), **_PROBE}),
    "Detailed": record(
        {
            "status": one_of("healthy", "unhealthy"),
            **_PROBE,
            "version": TEXT,
            "environment": TEXT,
            "checks": record(
                {
                    "database": record(
                        {
                            "status": HEALTH,
                            "response_time_ms": NUMBER,
                            "server_version": TEXT,
                            "topology": one_of("standalone", "replica set", "sharded", "unknown"),
                            "pool": _POOL,
                        }
                    ),
                    "circuit_breakers": record(
                        {
                            "status": HEALTH,
                            "total_breakers": WHOLE,
                            "healthy_breakers": WHOLE,
                            "open_breakers": WHOLE,
                            "overall_health": HEALTH,
                            "breakers": _BREAKERS,
                        }
                    ),
                    "validation_cache": _CACHE,
                },
                {"telemetry": _OBJECT},
            ),
        }
    ),
    "Metrics": record(
        {"service": TEXT, "timestamp": MOMENT, "uptime_seconds": NUMBER},
        {"pool": _POOL, "circuit_breakers": _BREAKERS, "validation_cache": _CACHE},
    ),
    "FastHealth": record({"status": one_of("healthy"), "service": TEXT, "timestamp": MOMENT}),
    "FastStatistics": record(
        {
            "fastPath": record(
                {"enabled": FLAG, "maxBulkSize": WHOLE, "maxRequestSizeBytes": WHOLE}
            ),
            "environment": record({"profile": TEXT, "databaseTracing": FLAG}),
            "endpoints": {"type": "object", "additionalProperties": TEXT},
        }
    ),
}


def _refusal(description: str, detail: str, **more: Any) -> Described:
    content = {JSON: {"schema": ref("Error"), "example": {"detail": detail}}}
    return {"description": description, "content": content, **more}


_RETRY_AFTER = header("seconds after which to try again", {"type": "integer", "minimum": 1})

RESPONSES: dict[str, Described] = {
    "BadRequest": _refusal(
        "The request breaks a rule.", "Only one search parameter allowed: name or name_like"
    ),
    "Unauthorized": _refusal("No API key, or none that is known.", "A valid API key is required"),
    "NotFound": _refusal("There is no such portfolio.", "Portfolio not found"),
    "Conflict": _refusal("The stored version is another one.", "Version conflict"),
    "KeyInFlight": _refusal(
        "The first request with this key is in flight.",
        "A request with this Idempotency-Key is in flight",
    ),
    "NamesTaken": _refusal(
        "Portfolios of these names exist, or the first request with this key is in flight.",
        "Portfolio names already exist: Growth Fund",
    ),
    "PreconditionFailed": _refusal(
        "The portfolio's tag is none of those in If-Match.",
        "Precondition failed: the portfolio has changed",
    ),
    "TooLarge": _refusal(
        "The body is larger than 1 MiB.", "Request body cannot be larger than 1048576 bytes"
    ),
    "UriTooLong": _refusal("The request line is longer than 4 KiB.", "Request URI Too Long"),
    "UnsupportedMediaType": _refusal(
        "The body is not declared as JSON.", "Content-Type must be application/json"
    ),
    "Unprocessable": {
        "description": "Values of the wrong kind; every fault is listed.",
        "content": {
            JSON: {
                "schema": ref("Faults"),
                "example": {
                    "detail": [
                        {"loc": ["body", "name"], "msg": "Field required", "type": "missing"}
                    ]
                },
            }
        },
    },
    "Failed": _refusal("A fault of the service.", "Internal server error"),
    "Unavailable": _refusal(
        "The database can't answer now.",
        "Database unavailable",
        headers={"Retry-After": _RETRY_AFTER},
    ),
}
