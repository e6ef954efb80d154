"""Marshmallow schemas of responses, for the OpenAPI document; ``health_schemas`` has more.

They describe and do not serialize: responses are made of plain dictionaries. Tests validate real
responses against the document.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from marshmallow import EXCLUDE, Schema, fields


class Response(Schema):
    """What all responses share: they may have more fields than are described."""

    class Meta:  # noqa: D106
        unknown = EXCLUDE


def field(kind: Any, description: str, *args: Any, required: bool = True, **metadata: Any) -> Any:
    """Return a field of ``kind``, made of ``args``, whose JSON Schema has ``metadata`` too."""
    return kind(*args, required=required, metadata={"description": description, **metadata})


Text = partial(field, fields.String)
Count = partial(field, fields.Integer, minimum=0)
Number = partial(field, fields.Float, minimum=0)
Flag = partial(field, fields.Boolean)
DateTime = partial(field, fields.DateTime)
ListOf = partial(field, fields.List)
Nested = partial(field, fields.Nested)


def map_of(description: str, values: fields.Field[Any]) -> fields.Dict:
    """Return a field with ``values`` under any names."""
    return fields.Dict(values=values, required=True, metadata={"description": description})


# Portfolios


class PortfolioSchema(Response):
    portfolioId = Text("the id, 24 hexadecimal digits", pattern="^[0-9a-f]{24}$")
    name = Text("the name; several portfolios can have the same one")
    dateCreated = DateTime("when it was created; UTC, milliseconds, with Z")
    version = field(
        fields.Integer, "1 at creation unless given; +1 with each change", format="int64"
    )


# Some fields of a portfolio: those that the parameter ``fields`` names.
partial_portfolio = PortfolioSchema(partial=True)

_portfolios = ListOf("the portfolios, in order", fields.Nested(PortfolioSchema))
_partial_portfolios = ListOf("the portfolios, in order", fields.Nested(partial_portfolio))


class PaginationSchema(Response):
    totalElements = Count("portfolios that match, on all pages")
    totalPages = Count("pages of this size")
    currentPage = Count("offset divided by limit; the first is 0")
    pageSize = Count("the limit of the request", minimum=1)
    hasNext = Flag("whether a portfolio lies beyond this page")
    hasPrevious = Flag("whether a portfolio lies before this page")


class CursorPaginationSchema(Response):
    pageSize = Count("the limit of the request", minimum=1)
    hasNext = Flag("whether a portfolio lies beyond this page")
    nextCursor = Text("the cursor of the next page; null on the last page", type=["string", "null"])


class PortfolioPageSchema(Response):
    portfolios = _portfolios
    pagination = field(
        fields.Raw,
        "by offset, or by cursor if the request has one",
        anyOf=[
            {"$ref": "#/components/schemas/Pagination"},
            {"$ref": "#/components/schemas/CursorPagination"},
        ],
    )


class FastPortfolioPageSchema(Response):
    portfolios = _portfolios
    pagination = Nested("the place of this page among all", PaginationSchema)
    processingTimeMs = Number("milliseconds that the service took")


class MissingPortfoliosSchema(Response):
    ids = ListOf("ids of the request that no portfolio has, each once", fields.String())
    names = ListOf("spellings of names that no portfolio has, each once", fields.String())


class PortfolioResolutionSchema(Response):
    portfolios = _portfolios
    missing = Nested("what no portfolio has", MissingPortfoliosSchema)


# Responses to requests with ``fields``: schemas of their own, so that generated clients know that
# without it every field is there.
PartialPortfolioPageSchema, PartialFastPortfolioPageSchema, PartialPortfolioResolutionSchema = (
    schema.from_dict({"portfolios": _partial_portfolios}, name=f"Partial{schema.__name__}")
    for schema in (PortfolioPageSchema, FastPortfolioPageSchema, PortfolioResolutionSchema)
)


class BulkCreateResultSchema(Response):
    portfolios = _portfolios
    count = Count("portfolios created")
    processingTimeMs = Number("milliseconds that the service took")


class IdValidationResultSchema(Response):
    valid = ListOf("ids of portfolios that exist", fields.String())
    invalid = ListOf("ids of portfolios that don't", fields.String())
    inactive = ListOf("always empty", fields.String())


# Errors


_code = field(
    fields.Raw,
    "what is wrong, in a word for programs",
    # apispec drops a bare $ref.
    allOf=[{"$ref": "#/components/schemas/ErrorCode"}],
)


class ErrorSchema(Response):
    detail = Text("what is wrong, in a sentence")
    code = _code


class FieldErrorSchema(Response):
    loc = ListOf(
        "the path to the value; body, query or path first",
        fields.Raw(metadata={"type": ["string", "integer"]}),
    )
    msg = Text("what is wrong, in a sentence")
    type = Text("the kind of error, for programs")


class ValidationErrorSchema(Response):
    detail = ListOf("every error of the request", fields.Nested(FieldErrorSchema))
    code = _code


# The fast path


class FastHealthSchema(Response):
    status = Text("always healthy", enum=["healthy"])
    service = Text("the name of the fast path")
    timestamp = DateTime("when the response was made")


class FastPathLimitsSchema(Response):
    enabled = Flag("always true")
    maxBulkSize = Count("portfolios that one request can create")
    maxRequestSizeBytes = Count("bytes that a request body can have")


class FastPathEnvironmentSchema(Response):
    profile = Text("the profile")
    databaseTracing = Flag("whether database commands have spans")


class FastPathStatsSchema(Response):
    fastPath = Nested("the limits", FastPathLimitsSchema)
    environment = Nested("how the service runs", FastPathEnvironmentSchema)
    endpoints = map_of("what each endpoint does, by its path", fields.String())
