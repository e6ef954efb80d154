"""JSON Schema of the service's own Marshmallow fields; APISpec knows the standard ones."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from portfolio.api.fields import (
    MAX_IDS,
    MAX_NAME_LENGTH,
    DateTime,
    FieldNames,
    Ids,
    Integer,
    Name,
    Names,
    Text,
)

# Control and format characters except the joiners, line separators, private use. A pattern without
# \p can't name the characters that Unicode has not assigned.
_UNPRINTABLE = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u08e2\u180e"
    r"\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ue000-\uf8ff\ufeff\ufff0-\ufffb"
)
_BLANK = r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
NAME_PATTERN = f"^[^{_UNPRINTABLE}]*[^{_BLANK}{_UNPRINTABLE}][^{_UNPRINTABLE}]*$"
STRICT_NAME_PATTERN = "^[A-Za-z0-9 _-]*[A-Za-z0-9_-][A-Za-z0-9 _-]*$"

_DATE_TIME: list[dict[str, Any]] = [
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


def describe_field(_converter: Any, field: fields.Field[Any], ret: dict[str, Any]) -> Any:
    """Return the JSON Schema of ``field`` if it is one of the service's own.

    Args:
        _converter: APISpec's, to which it binds this function.
        field: the field.
        ret: the schema that APISpec has made so far.
    """
    if ret.get("default", ...) is None:
        del ret["default"]  # absent and null mean the same; the schema of a name has no null
    match field:
        case Name():
            return _name(NAME_PATTERN)
        case Integer():
            alternatives = [_integer(field), _digits(field)]
        case DateTime():
            alternatives = list(_DATE_TIME)
        case Ids():
            item = _name(NAME_PATTERN) if isinstance(field, Names) else {"type": "string"}
            described = {"items": item, "minItems": field.low, "maxItems": MAX_IDS}
            return described | {"type": ["array", "null"] if field.allow_none else "array"}
        case FieldNames():
            # A list of texts would be sent as several parameters by many generated clients.
            one = f"({'|'.join(field.known)})"
            return {"type": "string", "pattern": f"^{one}(,{one})*$", "examples": ["name"]}
        case Text():
            strict = field.metadata.get("strict")
            return _name(STRICT_NAME_PATTERN) if strict else {"type": "string"}
        case _:
            return {}
    if field.allow_none:
        alternatives.append({"type": "null"})
    return {"anyOf": alternatives}


def describe_parameter(_converter: Any, field: fields.Field[Any], ret: dict[str, Any]) -> Any:
    """Return what differs for a query parameter: it has only digits, never another type."""
    if not isinstance(field, Integer):
        return {}
    kept = {key: value for key, value in ret["schema"].items() if key != "anyOf"}
    return {"schema": kept | _integer(field)}


def _integer(field: Integer) -> dict[str, Any]:
    return {"type": "integer", "format": "int64", "minimum": field.low, "maximum": field.high}


def _digits(field: Integer) -> dict[str, Any]:
    # So many digits are within the bounds of the field.
    digits = len(str(field.high)) - 1
    sign = "-?" if field.low < 0 else ""
    return {"type": "string", "pattern": f"^{sign}[0-9]{{1,{digits}}}$"}


def _name(pattern: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH, "pattern": pattern}
