"""Fields of responses, each with its description, for the schemas of the OpenAPI document."""

from __future__ import annotations

from functools import partial
from typing import Any

from marshmallow import EXCLUDE, Schema, fields


class Response(Schema):
    """What all responses share: they may have more fields than are described."""

    class Meta:  # noqa: D106
        unknown = EXCLUDE


def field(kind: Any, description: str, *args: Any, required: bool = True, **metadata: Any) -> Any:
    """Return a field of ``kind``, made of ``args``, whose JSON Schema has ``metadata`` too."""
    return kind(*args, required=required, metadata={"description": description, **metadata})


Text = partial(field, fields.String)
Count = partial(field, fields.Integer, minimum=0)
Number = partial(field, fields.Float, minimum=0)
Flag = partial(field, fields.Boolean)
DateTime = partial(field, fields.DateTime)
ListOf = partial(field, fields.List)
Nested = partial(field, fields.Nested)


def map_of(description: str, values: fields.Field[Any]) -> fields.Dict:
    """Return a field with ``values`` under any names."""
    return fields.Dict(values=values, required=True, metadata={"description": description})
