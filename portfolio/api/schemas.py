"""Marshmallow schemas of what clients send: request bodies and query strings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load

from portfolio import models
from portfolio.api.fields import (
    NOT_A_FLAG,
    NOT_AN_ARRAY,
    NOT_AN_OBJECT,
    Array,
    DateTime,
    FieldNames,
    Identifier,
    Integer,
    Name,
    StrictName,
    Text,
)
from portfolio.errors import FieldErrors, LocatedError, UnprocessableEntity

MAX_LIMIT = 1000


class _Input(Schema):
    """What all inputs share: unknown fields are ignored, and errors are ``FieldError`` objects."""

    class Meta:
        unknown = EXCLUDE

    error_messages = {"type": NOT_AN_OBJECT}  # type: ignore[dict-item]  # noqa: RUF012


# What the OpenAPI document says about a field, beyond what its class says.
_NAME_METADATA = {"description": "printable characters, not all of them spaces"}
_VERSION_METADATA = {"description": "the version that you have seen", "examples": [1]}


class _Dated(_Input):
    """A portfolio to create or to update."""

    date_created = DateTime(
        data_key="dateCreated",
        load_default=None,
        metadata={
            "description": "no offset means UTC; absent or null means now, or unchanged",
            "examples": ["2024-01-20T14:45:00.123Z"],
        },
    )


class StrictPortfolioCreateSchema(_Dated):
    """A portfolio to create through v2 or fast; ``portfolio.rules`` checks its name."""

    name: Text = StrictName(
        required=True,
        metadata={
            "description": "letters, digits, spaces, hyphens and underscores",
            "examples": ["Growth Fund"],
        },
    )
    version = Integer(
        0,
        models.MAX_NEW_VERSION,
        load_default=None,
        metadata={"description": "0, absent or null means 1"},
    )

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> models.PortfolioCreate:
        return models.PortfolioCreate(
            **data | {"version": data["version"] or models.DEFAULT_VERSION}
        )


class PortfolioCreateSchema(StrictPortfolioCreateSchema):
    """A portfolio to create through v1."""

    name = Name(required=True, metadata=_NAME_METADATA)


class PortfolioImportSchema(PortfolioCreateSchema):
    """A portfolio to import; it may have any version that is stored somewhere."""

    version = Integer(models.MIN_VERSION, models.MAX_VERSION, load_default=None)


class PortfolioUpdateSchema(_Dated):
    """An update through v1; the version must leave room for the next one."""

    portfolio_id = Text(
        required=True, data_key="portfolioId", metadata={"description": "the id in the path"}
    )
    name = Name(required=True, metadata=_NAME_METADATA)
    version = Integer(
        models.MIN_VERSION, models.MAX_VERSION - 1, required=True, metadata=_VERSION_METADATA
    )

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> models.PortfolioUpdate:
        del data["portfolio_id"]
        return models.PortfolioUpdate(**data)


class IdValidationSchema(_Input):
    """The ids to look up."""

    ids = Array(
        Identifier,
        1,
        required=True,
        data_key="portfolioIds",
        metadata={"description": "ids to look up; what is not an id is invalid"},
    )


class LookupSchema(_Input):
    """The ids and names to resolve; ``portfolio.rules`` checks how many they are."""

    ids = Array(Identifier, load_default=None, metadata={"description": "what may be ids"})
    names = Array(
        Name,
        load_default=None,
        metadata={"description": "names, compared trimmed and without regard to case"},
    )

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> models.Lookup:
        return models.Lookup(data["ids"] or [], data["names"] or [])


class FieldsQuerySchema(_Input):
    """The query string of a lookup."""

    # Marshmallow removes it from the class, which has another attribute of this name.
    fields: Any = FieldNames(
        load_default=None,
        metadata={"description": "the fields to give of each portfolio, separated by commas"},
    )


class BulkQuerySchema(_Input):
    """The query string of a bulk."""

    unique = fields.Boolean(
        truthy={"true", "True", "TRUE"},
        falsy={"false", "False", "FALSE"},
        load_default=False,
        error_messages={"invalid": [NOT_A_FLAG]},
        metadata={"description": "refuse names that are stored already, without regard to case"},
    )


class DeleteQuerySchema(_Input):
    """The query string of a deletion."""

    version = Integer(
        models.MIN_VERSION, models.MAX_VERSION, required=True, metadata=_VERSION_METADATA
    )


class SearchQuerySchema(FieldsQuerySchema):
    """The query string of a search; ``portfolio.rules`` checks the names."""

    name = StrictName(
        load_default=None, metadata={"description": "the whole name, without regard to case"}
    )
    name_like = StrictName(
        load_default=None, metadata={"description": "a part of the name, without regard to case"}
    )
    limit = Integer(
        1, MAX_LIMIT, load_default=50, metadata={"description": "maximum number of portfolios"}
    )
    offset = Integer(
        0,
        models.MAX_VERSION,
        load_default=0,
        # No default in the document: generated clients would send it beside a cursor.
        metadata={"description": "number of portfolios to skip; absent means 0", "default": None},
    )

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> models.Search:
        return models.Search(**data)


def load(schema: Schema, data: Any, source: str, found: FieldErrors | None = None) -> Any:
    """Validate ``data`` and return what ``schema`` makes of it.

    Args:
        schema: a schema of this module; with ``many`` set it takes a list.
        data: what the client sent.
        source: where it came from: ``body``, ``query`` or ``path``.
        found: errors that are known already.

    Raises:
        UnprocessableEntity: lists all errors (CONTRACT.md section 6).
    """
    if schema.many and not isinstance(data, list):
        raise UnprocessableEntity(locate([NOT_AN_ARRAY], source))
    errors = locate(found or {}, source)
    try:
        loaded = schema.load(data)
    except ValidationError as error:
        errors += locate(error.messages, source)
    if errors:
        raise UnprocessableEntity(errors)
    return loaded


def locate(messages: Any, *path: str | int) -> list[LocatedError]:
    """Return the errors in ``messages``, Marshmallow's tree of them, each with its path."""
    if isinstance(messages, Mapping):
        return [
            error
            for key, inner in messages.items()
            for error in locate(inner, *path, *(() if key == "_schema" else (key,)))
        ]
    return [LocatedError(loc=path, msg=error.msg, type=error.type) for error in messages]
