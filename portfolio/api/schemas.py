"""What clients may send: Marshmallow schemas for each body and query, and the words for faults.

Loading raises ``UnprocessableEntity`` with every fault located, as section 6 of the contract asks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load

from portfolio.errors import FieldError, FieldErrors, LocatedError, UnprocessableEntity
from portfolio.models import MAX_VERSION, PortfolioCreate, PortfolioUpdate, Search

MAX_NAME_LENGTH = 200
MAX_LIMIT = 1000
MAX_IDS = 1000

_INTEGER = re.compile(r"-?[0-9]{1,40}")
_ISO_8601 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_EPOCH = datetime(1970, 1, 1)
# Spelling in Persian and in several scripts of India needs these, and so do emoji.
_JOINERS = "\u200c\u200d"

_NONE: FieldErrors = {}

MISSING = FieldError("Field required", "missing")
NOT_AN_OBJECT = FieldError("Input should be an object", "dict_type")
NOT_AN_ARRAY = FieldError("Input should be an array", "list_type")
NOT_A_STRING = FieldError("Input should be a string", "string_type")
NOT_AN_INTEGER = FieldError("Input should be an integer or a string of digits", "int_type")
NOT_A_DATE = FieldError(
    "Input should be an ISO 8601 date or date-time, or seconds since the epoch, "
    "within the years 1 to 9999",
    "datetime_type",
)


def _is_printable(name: str) -> bool:
    # Python's own notion refuses control characters, lone surrogates and what is invisible; but
    # also every space except the ASCII one, among them the one that Japanese names are set with.
    return name.isprintable() or all(
        character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"
        for character in name
    )


class Name(fields.Field[str]):
    """A name as v1 takes it: 1 to 200 printable characters, not blank."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError([NOT_A_STRING])
        if not 1 <= len(value) <= MAX_NAME_LENGTH:
            length = f"Name should have 1 to {MAX_NAME_LENGTH} characters"
            raise ValidationError([FieldError(length, "string_length")])
        if value.isspace():
            raise ValidationError([FieldError("Name should not be blank", "string_blank")])
        if not _is_printable(value):
            unprintable = "Name should have printable characters only"
            raise ValidationError([FieldError(unprintable, "string_unprintable")])
        return value


class Text(fields.Field[str]):
    """Any string; its format is a rule of the service, told in one sentence."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError([NOT_A_STRING])
        return value


class Integer(fields.Field[int]):
    """A whole number, or a string of its digits, between two bounds.

    1.0 is the whole number 1, to JSON Schema as to the predecessor.

    Args:
        low: the least that is allowed.
        high: the most that is allowed.
    """

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.low = low
        self.high = high

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, str):
            value = int(value) if _INTEGER.fullmatch(value) else None
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValidationError([NOT_AN_INTEGER])
        if value < self.low:
            below = f"Input should be greater than or equal to {self.low}"
            raise ValidationError([FieldError(below, "greater_than_equal")])
        if value > self.high:
            above = f"Input should be less than or equal to {self.high}"
            raise ValidationError([FieldError(above, "less_than_equal")])
        return value


class DateTime(fields.Field[datetime]):
    """A date: ISO 8601 (no offset means UTC), or seconds since the epoch; naive UTC once loaded."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            if isinstance(value, str) and _ISO_8601.fullmatch(value):
                return _parse_iso_8601(value.upper().replace(",", "."))
            if isinstance(value, int | float) and not isinstance(value, bool):
                return _EPOCH + timedelta(seconds=value)
        except (ValueError, OverflowError):
            pass
        raise ValidationError([NOT_A_DATE])


def _parse_iso_8601(text: str) -> datetime:
    if len(text) == 10:
        return datetime.combine(date.fromisoformat(text), datetime.min.time())
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _is_text(value: Any) -> bool:
    # JSON can escape half a surrogate pair, which no answer can repeat in UTF-8.
    return isinstance(value, str) and _SURROGATE.search(value) is None


class Ids(fields.Field[list[str]]):
    """A list of 1 to 1000 strings."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str]:
        if not isinstance(value, list):
            raise ValidationError([NOT_AN_ARRAY])
        if not 1 <= len(value) <= MAX_IDS:
            size = f"List should have 1 to {MAX_IDS} items"
            raise ValidationError([FieldError(size, "list_length")])
        wrong = {i: [NOT_A_STRING] for i, item in enumerate(value) if not _is_text(item)}
        if wrong:
            raise ValidationError(wrong)
        return value


class _Input(Schema):
    """What all inputs share: unknown fields are ignored, and faults are ``FieldError`` objects."""

    class Meta:
        unknown = EXCLUDE

    error_messages = {"type": NOT_AN_OBJECT}  # type: ignore[dict-item]  # noqa: RUF012


def _required(field: type[fields.Field[Any]], null: FieldError, *args: Any, **kwargs: Any) -> Any:
    messages: dict[str, Any] = {"required": [MISSING], "null": [null]}
    return field(*args, required=True, error_messages=messages, **kwargs)


# What the OpenAPI document says of a field, beyond what its class tells.
_DATE_NOTE = {
    "description": "no offset means UTC; absent or null means now, or unchanged",
    "examples": ["2024-01-20T14:45:00.123Z"],
}
_STRICT_NAME_NOTE = {
    "strict": True,
    "description": "letters, digits, spaces, hyphens and underscores",
    "examples": ["Growth Fund"],
}
_SEEN_VERSION_NOTE = {"description": "the version that you have seen", "examples": [1]}


class StrictPortfolioCreateSchema(_Input):
    """A portfolio to create through v2 or fast, whose name format the service checks."""

    name = _required(Text, NOT_A_STRING, metadata=_STRICT_NAME_NOTE)
    date_created = DateTime(
        data_key="dateCreated", allow_none=True, load_default=None, metadata=_DATE_NOTE
    )
    version = Integer(
        0,
        MAX_VERSION,
        allow_none=True,
        load_default=None,
        metadata={"description": "0, absent or null means 1"},
    )

    @post_load
    def _to_draft(self, data: dict[str, Any], **kwargs: Any) -> PortfolioCreate:
        return PortfolioCreate(data["name"], data["date_created"], data["version"] or 1)


class PortfolioCreateSchema(StrictPortfolioCreateSchema):
    """A portfolio to create through v1."""

    name = _required(Name, NOT_A_STRING)


class PortfolioUpdateSchema(_Input):
    """A portfolio to update through v1; its version must leave room for the next one."""

    portfolio_id = _required(Text, NOT_A_STRING, data_key="portfolioId")
    name = _required(Name, NOT_A_STRING)
    version = _required(Integer, NOT_AN_INTEGER, 0, MAX_VERSION - 1, metadata=_SEEN_VERSION_NOTE)
    date_created = DateTime(
        data_key="dateCreated", allow_none=True, load_default=None, metadata=_DATE_NOTE
    )

    @post_load
    def _to_change(self, data: dict[str, Any], **kwargs: Any) -> PortfolioUpdate:
        return PortfolioUpdate(data["name"], data["version"], data["date_created"])


class PortfolioIdsSchema(_Input):
    """The ids that a client wants to have checked."""

    ids = _required(Ids, NOT_AN_ARRAY, data_key="portfolioIds")

    @post_load
    def _to_list(self, data: dict[str, Any], **kwargs: Any) -> list[str]:
        return list(data["ids"])


class DeleteQuerySchema(_Input):
    """The query of a deletion."""

    version = _required(Integer, NOT_AN_INTEGER, 0, MAX_VERSION, metadata=_SEEN_VERSION_NOTE)

    @post_load
    def _to_version(self, data: dict[str, Any], **kwargs: Any) -> int:
        return int(data["version"])


class SearchQuerySchema(_Input):
    """The query of a search; the rules for names are the service's."""

    name = Text(
        load_default=None,
        metadata={"strict": True, "description": "the whole name, without regard to case"},
    )
    name_like = Text(
        load_default=None,
        metadata={"strict": True, "description": "a part of the name, without regard to case"},
    )
    limit = Integer(
        1, MAX_LIMIT, load_default=50, metadata={"description": "portfolios a page, at most"}
    )
    offset = Integer(
        0, MAX_VERSION, load_default=0, metadata={"description": "portfolios to leave out before"}
    )

    @post_load
    def _to_search(self, data: dict[str, Any], **kwargs: Any) -> Search:
        return Search(**data)


def load(schema: Schema, data: Any, source: str, found: FieldErrors = _NONE) -> Any:
    """Load ``data`` with ``schema``.

    Args:
        schema: one of this module's; with ``many`` set it takes a list.
        data: what the client sent.
        source: where it came from: ``body``, ``query`` or ``path``.
        found: what was found to be wrong with it already.

    Raises:
        UnprocessableEntity: listing every fault.
    """
    if schema.many and not isinstance(data, list):
        raise UnprocessableEntity(locate([NOT_AN_ARRAY], source))
    faults = locate(found, source)
    try:
        loaded = schema.load(data)
    except ValidationError as error:
        faults += locate(error.messages, source)
    if faults:
        raise UnprocessableEntity(faults)
    return loaded


def locate(messages: Any, *path: str | int) -> list[LocatedError]:
    """Return the faults in ``messages``, Marshmallow's tree of them, each with its path."""
    if isinstance(messages, Mapping):
        return [
            fault
            for key, inner in messages.items()
            for fault in locate(inner, *path, *(() if key == "_schema" else (key,)))
        ]
    return [LocatedError(loc=path, msg=fault.msg, type=fault.type) for fault in messages]
