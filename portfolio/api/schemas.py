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


_NAME = "printable characters, not all of them spaces"
_VERSION = "the version that you have seen"


class _Dated(_Input):
    """A portfolio to create or to update."""

    date_created = DateTime(
        "no offset means UTC; absent or null means now, or unchanged",
        data_key="dateCreated",
        load_default=None,
        metadata={"examples": ["2024-01-20T14:45:00.123Z"]},
    )


class StrictPortfolioCreateSchema(_Dated):
    """A portfolio to create through v2 or fast; ``portfolio.rules`` checks its name."""

    name: Text = StrictName(
        "letters, digits, spaces, hyphens and underscores",
        required=True,
        metadata={"examples": ["Growth Fund"]},
    )
    version = Integer(0, models.MAX_NEW_VERSION, "0, absent or null means 1", load_default=None)

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> models.PortfolioCreate:
        data["version"] = data["version"] or models.DEFAULT_VERSION
        return models.PortfolioCreate(**data)


class PortfolioCreateSchema(StrictPortfolioCreateSchema):
    """A portfolio to create through v1."""

    name = Name(_NAME, required=True)


class PortfolioImportSchema(PortfolioCreateSchema):
    """A portfolio to import; it may have any version that is stored somewhere."""

    version = Integer(models.MIN_VERSION, models.MAX_VERSION, load_default=None)


class PortfolioUpdateSchema(_Dated):
    """An update through v1; the version must leave room for the next one."""

    portfolio_id = Text("the id in the path", data_key="portfolioId", required=True)
    name = Name(_NAME, required=True)
    version = Integer(
        models.MIN_VERSION,
        models.MAX_VERSION - 1,
        _VERSION,
        required=True,
        metadata={"examples": [1]},
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
        "ids to look up; what is not an id is invalid",
        data_key="portfolioIds",
        required=True,
    )


class LookupSchema(_Input):
    """The ids and names to resolve; ``portfolio.rules`` checks how many they are."""

    ids = Array(Identifier, 0, "what may be ids", load_default=None)
    names = Array(Name, 0, "names, compared trimmed and without regard to case", load_default=None)

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> models.Lookup:
        return models.Lookup(data["ids"] or [], data["names"] or [])


class FieldsQuerySchema(_Input):
    """The query string of a lookup."""

    # Marshmallow removes it from the class, which has another attribute of this name.
    fields: Any = FieldNames(
        "the fields to give of each portfolio, separated by commas", load_default=None
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
        models.MIN_VERSION, models.MAX_VERSION, _VERSION, required=True, metadata={"examples": [1]}
    )


class SearchQuerySchema(FieldsQuerySchema):
    """The query string of a search; ``portfolio.rules`` checks the names."""

    name = StrictName("the whole name, without regard to case", load_default=None)
    name_like = StrictName("a part of the name, without regard to case", load_default=None)
    limit = Integer(1, MAX_LIMIT, "maximum number of portfolios", load_default=50)
    offset = Integer(
        0,
        models.MAX_VERSION,
        "number of portfolios to skip; absent means 0",
        load_default=0,
        # No default in the document: generated clients would send it beside a cursor.
        metadata={"default": None},
    )

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> models.Search:
        return models.Search(**data)


def load(schema: Schema, data: Any, source: str, found: FieldErrors | None = None) -> Any:
    """Validate ``data``, which the client sent, and return what ``schema`` makes of it.

    ``source`` says where it came from: ``body``, ``query`` or ``path``. ``found`` are errors that
    are known already.

    Raises:
        UnprocessableEntity: lists all errors (CONTRACT.md section 6).
    """
    if schema.many and not isinstance(data, list):
        raise UnprocessableEntity(locate([NOT_AN_ARRAY], source))
    errors = locate(found, source) if found else []
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
