"""Parsing of JSON bodies and query strings."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any, NoReturn

from flask import Request

from portfolio.errors import FieldError, FieldErrors, MalformedJSON, UnsupportedMediaType

_REPEATED = FieldError("Parameter should be given once", "repeated")


def json_body(request: Request) -> Any:
    """Return the body of ``request``, parsed.

    The standard library parses here, not orjson, because only it can refuse a key that stands
    twice: two parsers on a request's way would read such a body differently.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON, or has a content coding.
        MalformedJSON: it is not JSON, or is ambiguous.
        RequestEntityTooLarge: it is larger than Flask's ``MAX_CONTENT_LENGTH``.
    """
    # A coding would be for us to undo: section 6 of the contract takes none.
    if request.mimetype != "application/json" or "Content-Encoding" in request.headers:
        raise UnsupportedMediaType
    try:
        text = request.get_data().decode()
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise MalformedJSON(f"{error.msg} at position {error.pos}") from None
    except UnicodeDecodeError:
        raise MalformedJSON("the body is not UTF-8") from None
    except RecursionError:
        raise MalformedJSON("nested too deeply") from None
    except ValueError as error:
        raise MalformedJSON(str(error)) from None


def query_arguments(request: Request, known: Container[str]) -> tuple[dict[str, str], FieldErrors]:
    """Return those query parameters of ``request`` that are ``known``; others are ignored.

    Returns:
        the first value of each, and which of them are given more than once.
    """
    arguments = {}
    repeated = {}
    for name, values in request.args.lists():
        if name not in known:
            continue
        arguments[name] = values[0]
        if len(values) > 1:
            repeated[name] = [_REPEATED]
    return arguments, repeated


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return members


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
