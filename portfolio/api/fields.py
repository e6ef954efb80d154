"""Marshmallow fields for what clients send, and the errors that they report."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from marshmallow import ValidationError, fields

from portfolio.errors import FieldError
from portfolio.timestamps import parse_date

MAX_NAME_LENGTH = 200
MAX_IDS = 1000

_INTEGER = re.compile(r"-?[0-9]{1,40}")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Persian, several scripts of India and emoji need these.
_JOINERS = "\u200c\u200d"

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


def _is_printable(name: str) -> bool:
    # str.isprintable is False for control characters, lone surrogates and invisible characters, but
    # also for every space except the ASCII one, among them the ideographic space of Japanese.
    return name.isprintable() or all(
        character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"
        for character in name
    )


class Name(fields.Field[str]):
    """A name in v1: 1 to 200 printable characters, not blank."""

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
    """Any string; ``portfolio.rules`` checks its format."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError([NOT_A_STRING])
        return value


class Integer(fields.Field[int]):
    """An integer, or a string of its digits, between two bounds.

    1.0 is an integer too, in JSON Schema as in the original service.

    Args:
        low: the minimum.
        high: the maximum.
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
    """A date as ``parse_date`` reads it; naive and in UTC once loaded."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            return parse_date(value)
        except ValueError:
            raise ValidationError([NOT_A_DATE]) from None


def _is_text(value: Any) -> bool:
    # JSON can escape half a surrogate pair, which no response can repeat in UTF-8.
    return isinstance(value, str) and _SURROGATE.search(value) is None


class Ids(fields.Field[list[str]]):
    """A list of up to ``MAX_IDS`` strings.

    Args:
        low: the minimum number of them.
    """

    def __init__(self, low: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.low = low

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str]:
        if not isinstance(value, list):
            raise ValidationError([NOT_AN_ARRAY])
        if not self.low <= len(value) <= MAX_IDS:
            size = f"List should have {self.low} to {MAX_IDS} items"
            raise ValidationError([FieldError(size, "list_length")])
        wrong = {i: errors for i, item in enumerate(value) if (errors := self._check(item))}
        if wrong:
            raise ValidationError(wrong)
        return value

    def _check(self, item: Any) -> list[Any]:
        """Return the errors of one item."""
        return [] if _is_text(item) else [NOT_A_STRING]


class Names(Ids):
    """A list of up to ``MAX_IDS`` names of v1."""

    _name = Name(error_messages={"null": [NOT_A_STRING]})

    def _check(self, item: Any) -> list[Any]:
        try:
            self._name.deserialize(item)
        except ValidationError as error:
            return error.messages  # type: ignore[return-value]
        return []


class FieldNames(fields.Field[tuple[str, ...]]):
    """Names of a portfolio's fields, separated by commas.

    Args:
        known: the names that it has.
    """

    def __init__(self, known: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.known = known

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> tuple[str, ...]:
        wanted = {name.strip() for name in value.split(",")}
        if not wanted <= set(self.known):
            allowed = f"Input should be some of {', '.join(self.known)}, separated by commas"
            raise ValidationError([FieldError(allowed, "field_names")])
        return tuple(name for name in self.known if name in wanted)
