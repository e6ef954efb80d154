"""The types of the settings: how the text of an environment variable is parsed and checked."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient

_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE
)
_FLAGS = {"1": True, "true": True, "yes": True, "on": True}
_FLAGS |= {"0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class SettingType:
    """A type of setting: what texts are ``allowed``, in words, and the values that they mean.

    ``find_fault`` says what is wrong with a text, or nothing if ``allowed`` says it all.
    """

    allowed: str
    convert: Callable[[str], Any] = str
    is_valid: Callable[[Any], bool] = lambda _: True
    find_fault: Callable[[str], str] = lambda _: ""

    def parse(self, text: str) -> Any:
        """Return the value that ``text`` means; raise ValueError if it is not allowed."""
        value = self.convert(text)
        if not self.is_valid(value):
            raise ValueError
        return value


def integer(low: int, high: int) -> SettingType:
    """A whole number between ``low`` and ``high``, both included."""
    return SettingType(f"a whole number from {low} to {high}", int, lambda n: low <= n <= high)


def number(low: float, high: float) -> SettingType:
    """A decimal number between ``low`` and ``high``, both included."""
    return SettingType(f"a number from {low} to {high}", float, lambda n: low <= n <= high)


def choice(*options: str) -> SettingType:
    """One of ``options``, in upper or lower case."""
    by_text = {option.lower(): option for option in options}
    return SettingType(f"one of {', '.join(options)}", lambda text: by_text.get(text.lower()), bool)


def _find_fault_of_uri(text: str) -> str:
    try:
        # A client that never connects checks all that the workers' clients will, and looks up no
        # SRV name. pymongo.uri_parser would do so, and accepts a user without a password and files
        # that are not certificates. minPoolSize is a setting of its own.
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            MongoClient[Any](text, connect=False, minPoolSize=0)
    except Exception as error:  # of many types: an unreadable file is an OSError
        return str(error) or type(error).__name__
    return ""


def _is_mongodb_uri(text: str) -> bool:
    if not text.startswith(("mongodb://", "mongodb+srv://")):
        return text.startswith("mongomock://")
    return not _find_fault_of_uri(text)


def _split(text: str) -> tuple[str, ...]:
    return tuple(item for item in (part.strip() for part in text.split(",")) if item)


def _is_origin(text: str) -> bool:
    match = _ORIGIN.fullmatch(text)
    return text == "*" or (match is not None and int(match["port"] or 0) <= 65535)


FLAG = SettingType(
    "true or false", lambda text: _FLAGS.get(text.lower()), lambda flag: flag is not None
)
TEXT = SettingType("any text")
KEYS = SettingType("one or more, separated by commas", _split, bool)
ORIGINS = SettingType(
    "* or origins separated by commas, each scheme://host or scheme://host:port",
    _split,
    lambda origins: bool(origins) and all(map(_is_origin, origins)),
)
URI = SettingType(
    "a URI that starts with mongodb:// or mongodb+srv://, user and password percent-encoded, "
    "with nothing in it that PyMongo refuses or ignores",
    is_valid=_is_mongodb_uri,
    find_fault=_find_fault_of_uri,
)
DATABASE_NAME = SettingType(
    'a name of 1 to 63 bytes without any of / \\ . " $ space',
    is_valid=lambda name: len(name.encode()) <= 63 and not set(name) & set('/\\. "$\0'),
)
