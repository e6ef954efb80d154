"""Parsing of JSON bodies, query strings and idempotency keys."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, NoReturn

from flask import Request, g, request
from marshmallow import Schema

from portfolio.api.schemas import load
from portfolio.errors import BadRequest, FieldError, MalformedJSON, UnsupportedMediaType
from portfolio.models import IdempotencyKey

# A mebibyte of brackets would take a worker half a second to parse, and 90 MiB of its memory.
_MAX_VALUES = 20_000
_KEY = re.compile(r"[\x20-\x7e]{1,128}")
_REPEATED = FieldError("Parameter should be given once", "repeated")


def json_body() -> Any:
    """Return the parsed body of the request.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON, or has a content coding.
        MalformedJSON: it is not JSON, an object has a key twice, or it has too many values.
        RequestEntityTooLarge: it is larger than ``MAX_BODY_BYTES``.
    """
    environ = request.environ
    # Each use of Flask's proxy is a look-up; this is the request itself.
    itself: Request = environ["werkzeug.request"]
    if itself.mimetype != "application/json":
        raise UnsupportedMediaType
    if "HTTP_CONTENT_ENCODING" in environ:  # CONTRACT.md section 6
        raise UnsupportedMediaType("A request body must have no Content-Encoding")
    try:
        text = itself.get_data().decode()
        # Before each value but the first stands one of these.
        if sum(map(text.count, ",[{")) > _MAX_VALUES:
            raise MalformedJSON(f"more than {_MAX_VALUES} values")
        return parse_json(text)
    except json.JSONDecodeError as error:
        raise MalformedJSON(f"{error.msg} at position {error.pos}") from None
    except UnicodeDecodeError:
        raise MalformedJSON("the body is not UTF-8") from None
    except RecursionError:
        raise MalformedJSON("nested too deeply") from None
    except ValueError as error:
        raise MalformedJSON(str(error)) from None


def parse_json(text: str) -> Any:
    """Return what ``text`` means.

    The parser is the standard library's, since orjson accepts an object that has a key twice: two
    parsers on the way of a request would read such a body differently.

    Raises:
        ValueError: it is not JSON, or an object has a key twice.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_reject_constant)


def load_query(schema: Schema, *more: str) -> Any:
    """Return what ``schema`` makes of the query string of the request.

    Raises:
        UnprocessableEntity: lists all errors, among them the parameters, of ``schema`` or ``more``,
            that are given more than once; any other parameter is ignored.
    """
    known = {*schema.fields, *more}
    given = {name: values for name, values in request.args.lists() if name in known}
    repeated = {name: [_REPEATED] for name, values in given.items() if len(values) > 1}
    return load(schema, {name: values[0] for name, values in given.items()}, "query", repeated)


def idempotency_key(*, unique: bool = False) -> IdempotencyKey | None:
    """Return the idempotency key of the request, or None.

    Two callers with different API keys never share a key. A trailing slash of the path does not
    matter, as in routing; whether names should be unique does, in whatever spelling.

    Raises:
        BadRequest: the key is empty, too long or unprintable.
    """
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key must have 1 to 128 printable characters")
    path = request.path.rstrip("/").encode() + (b"?unique=true" if unique else b"")
    digest = hashlib.sha256(path + b"\n" + request.get_data())
    return IdempotencyKey(key, digest.hexdigest(), g.get("caller"))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return members


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
