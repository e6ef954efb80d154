"""The types of the settings: how the text of an environment variable is parsed and checked."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo import MongoClient

_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE
)
_FLAGS = {"1": True, "true": True, "yes": True, "on": True}
_FLAGS |= {"0": False, "false": False, "no": False, "off": False}

T = TypeVar("T")


@dataclass(frozen=True)
class SettingType:
    """A type of setting.

    ``parse`` raises ``ValueError`` or ``LookupError`` for a text that is not ``allowed``.
    """

    parse: Callable[[str], Any]
    allowed: str


def integer(low: int, high: int) -> SettingType:
    """A whole number between ``low`` and ``high``, both included."""
    return SettingType(
        lambda text: _within(int(text), low, high), f"a whole number from {low} to {high}"
    )


def number(low: float, high: float) -> SettingType:
    """A decimal number between ``low`` and ``high``, both included."""
    return SettingType(
        lambda text: _within(float(text), low, high), f"a number from {low} to {high}"
    )


def choice(*options: str, **synonyms: str) -> SettingType:
    """One of ``options``, or of their synonyms, in upper or lower case."""
    by_text = {option.lower(): option for option in options} | synonyms
    return SettingType(lambda text: by_text[text.lower()], f"one of {', '.join(options)}")


def _within(value: float, low: float, high: float) -> float:
    return _require(low <= value <= high, value)


def _require(is_allowed: bool, value: T) -> T:
    if not is_allowed:
        raise ValueError
    return value


def _parse_mongodb_uri(text: str) -> str:
    if text.startswith("mongomock://"):
        return text
    if not text.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError(text)
    try:
        # A client that never connects checks all that the workers' clients will, and looks up no
        # SRV name. pymongo.uri_parser would do so, and accepts a user without a password and files
        # that are not certificates. minPoolSize is a setting of its own.
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            MongoClient[Any](text, connect=False, minPoolSize=0)
    except Exception:  # of many types: an unreadable file is an OSError
        # Without its cause: PyMongo's message may quote an unescaped password.
        raise ValueError from None
    return text


def _parse_list(text: str) -> tuple[str, ...]:
    items = tuple(item for item in (part.strip() for part in text.split(",")) if item)
    return _require(bool(items), items)


def _parse_origins(text: str) -> tuple[str, ...]:
    origins = _parse_list(text)
    for origin in origins:
        match = _ORIGIN.fullmatch(origin)
        _require(origin == "*" or bool(match and int(match["port"] or 0) <= 65535), origin)
    return origins


def _parse_database_name(text: str) -> str:
    return _require(0 < len(text.encode()) <= 63 and not set(text) & set('/\\. "$\0'), text)


FLAG = SettingType(lambda text: _FLAGS[text.lower()], "true or false")
TEXT = SettingType(str, "any text")
KEYS = SettingType(_parse_list, "one or more, separated by commas")
ORIGINS = SettingType(
    _parse_origins, "* or origins separated by commas, each scheme://host or scheme://host:port"
)
URI = SettingType(
    _parse_mongodb_uri,
    "a URI that starts with mongodb:// or mongodb+srv://, user and password percent-encoded, "
    "with nothing in it that PyMongo refuses or ignores",
)
DATABASE_NAME = SettingType(
    _parse_database_name, 'a name of 1 to 63 bytes without any of / \\ . " $ space'
)
