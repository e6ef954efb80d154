"""Marshmallow fields for what clients send: the errors that they report, their JSON Schema."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Any, TypeVar

from marshmallow import ValidationError, fields

from portfolio.api.responses import FIELDS
from portfolio.errors import FieldError
from portfolio.rules import MAX_LOOKUP
from portfolio.timestamps import parse_date

T = TypeVar("T")

MAX_NAME_LENGTH = 200

_INTEGER = re.compile(r"-?[0-9]{1,40}")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Persian, several scripts of India and emoji need these.
_JOINERS = "\u200c\u200d"

# Control and format characters except the joiners, line separators, private use. A pattern without
# \p can't name the characters that Unicode has not assigned.
_UNPRINTABLE = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u08e2\u180e"
    r"\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ue000-\uf8ff\ufeff\ufff0-\ufffb"
)
_BLANK = r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_NAME_PATTERN = f"^[^{_UNPRINTABLE}]*[^{_BLANK}{_UNPRINTABLE}][^{_UNPRINTABLE}]*$"
_STRICT_NAME_PATTERN = "^[A-Za-z0-9 _-]*[A-Za-z0-9_-][A-Za-z0-9 _-]*$"

MISSING = FieldError("Field required", "missing")
NOT_AN_OBJECT = FieldError("Input should be an object", "dict_type")
NOT_AN_ARRAY = FieldError("Input should be an array", "list_type")
NOT_A_STRING = FieldError("Input should be a string", "string_type")
NOT_AN_INTEGER = FieldError("Input should be an integer or a string of digits", "int_type")
NOT_A_FLAG = FieldError("Input should be true or false", "bool_type")
NOT_A_DATE = FieldError(
    "Input should be an ISO 8601 date or date-time, or seconds or milliseconds since the epoch, "
    "within the years 1 to 9999",
    "datetime_type",
)


class InputField(fields.Field[T]):
    """A field that reports ``FieldError`` objects; its schema is that of all values but null."""

    default_error_messages: Any = {"required": [MISSING], "null": [NOT_A_STRING]}  # noqa: RUF012
    json_schema: dict[str, Any]

    def __init__(
        self, description: str = "", *, metadata: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(metadata={"description": description} | (metadata or {}), **kwargs)


def _name_schema(pattern: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH, "pattern": pattern}


class Text(InputField[str]):
    """Any string."""

    json_schema = {"type": "string"}  # noqa: RUF012

    @staticmethod
    def find_error(value: object) -> FieldError | None:
        """Return what is wrong with ``value``, or None."""
        return None if isinstance(value, str) else NOT_A_STRING

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if error := self.find_error(value):
            raise ValidationError([error])
        return value  # type: ignore[no-any-return]


class StrictName(Text):
    """A name in v2 and fast; ``portfolio.rules`` checks its format."""

    json_schema = _name_schema(_STRICT_NAME_PATTERN)


class Name(Text):
    """A name in v1: 1 to 200 printable characters, not blank."""

    json_schema = _name_schema(_NAME_PATTERN)

    @staticmethod
    def find_error(value: object) -> FieldError | None:
        """Return what is wrong with ``value``, or None."""
        if not isinstance(value, str):
            return NOT_A_STRING
        if not 1 <= len(value) <= MAX_NAME_LENGTH:
            size = f"Name should have 1 to {MAX_NAME_LENGTH} characters"
            return FieldError(size, "string_length")
        if value.isspace():
            return FieldError("Name should not be blank", "string_blank")
        # To str.isprintable control characters, lone surrogates and invisible characters are
        # unprintable, but also every space except the ASCII one, among them Japanese's.
        if not value.isprintable() and not all(
            each.isprintable() or each in _JOINERS or unicodedata.category(each) == "Zs"
            for each in value
        ):
            return FieldError("Name should have printable characters only", "string_unprintable")
        return None


class Identifier(Text):
    """What may be the id of a portfolio."""

    @staticmethod
    def find_error(value: object) -> FieldError | None:
        """Return what is wrong with ``value``, or None."""
        # JSON can escape half a surrogate pair, which no response can repeat in UTF-8.
        return None if isinstance(value, str) and not _SURROGATE.search(value) else NOT_A_STRING


class Integer(InputField[int]):
    """An integer, or a string of its digits, between two bounds.

    1.0 is an integer too, in JSON Schema as in the original service.
    """

    default_error_messages: Any = {"null": [NOT_AN_INTEGER]}  # noqa: RUF012

    def __init__(self, low: int, high: int, description: str = "", **kwargs: Any) -> None:
        super().__init__(description, **kwargs)
        self.low = low
        self.high = high
        integer = {"type": "integer", "format": "int64", "minimum": low, "maximum": high}
        # So many digits are within the bounds.
        pattern = f"^{'-?' if low < 0 else ''}[0-9]{{1,{len(str(high)) - 1}}}$"
        self.json_schema = {"anyOf": [integer, {"type": "string", "pattern": pattern}]}

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


class DateTime(InputField[datetime]):
    """A date as ``parse_date`` reads it; naive and in UTC once loaded."""

    json_schema = {  # noqa: RUF012
        "anyOf": [
            {"type": "string", "format": "date-time"},
            {"type": "string", "format": "date"},
            {
                "type": "number",
                "description": "seconds since the epoch; milliseconds beyond 2e10",
                "minimum": -62_135_596_800_000,
                "maximum": 253_402_300_799_999,
            },
            {
                "type": "string",
                "description": "such a number",
                "pattern": r"^-?[0-9]{1,13}(\.[0-9]{1,9})?$",
            },
        ]
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            return parse_date(value)
        except ValueError:
            raise ValidationError([NOT_A_DATE]) from None


class Array(InputField[list[str]]):
    """A list of ``low`` to ``MAX_LOOKUP`` strings."""

    default_error_messages: Any = {"null": [NOT_AN_ARRAY]}  # noqa: RUF012

    def __init__(self, item: type[Text], low: int, description: str, **kwargs: Any) -> None:
        super().__init__(description, **kwargs)
        self._find_error = item.find_error
        self._low = low
        self.json_schema = {
            "type": "array",
            "items": item.json_schema,
            "minItems": low,
            "maxItems": MAX_LOOKUP,
        }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str]:
        if not isinstance(value, list):
            raise ValidationError([NOT_AN_ARRAY])
        if not self._low <= len(value) <= MAX_LOOKUP:
            size = f"List should have {self._low} to {MAX_LOOKUP} items"
            raise ValidationError([FieldError(size, "list_length")])
        wrong = {i: [error] for i, item in enumerate(value) if (error := self._find_error(item))}
        if wrong:
            raise ValidationError(wrong)
        return value


class FieldNames(InputField[tuple[str, ...]]):
    """Names of a portfolio's fields, separated by commas."""

    # A list of texts would be sent as several parameters by many generated clients.
    json_schema = {  # noqa: RUF012
        "type": "string",
        "pattern": "^({one})(,({one}))*$".format(one="|".join(FIELDS)),
        "examples": ["name"],
    }

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> tuple[str, ...]:
        wanted = {name.strip() for name in value.split(",")}
        if not wanted <= set(FIELDS):
            allowed = f"Input should be some of {', '.join(FIELDS)}, separated by commas"
            raise ValidationError([FieldError(allowed, "field_names")])
        return tuple(name for name in FIELDS if name in wanted)
