"""The description of an endpoint, as it stands beside its view.

``describe`` only attaches it: ``portfolio.api.openapi.document`` builds the OpenAPI document
from it on demand. It refers by name to what several endpoints share: to errors in that module, to
schemas of responses in ``portfolio.api.openapi.response_schemas``, to all else in
``components.yaml``. None of them is loaded before the document is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from portfolio.api.responses import EXAMPLE

if TYPE_CHECKING:
    from marshmallow import Schema

JSON = "application/json"

PAGE_EXAMPLE: dict[str, Any] = {
    "portfolios": [EXAMPLE],
    "pagination": {
        "totalElements": 1,
        "totalPages": 1,
        "currentPage": 0,
        "pageSize": 50,
        "hasNext": False,
        "hasPrevious": False,
    },
}
BULK_EXAMPLE = [{"name": "Income Fund"}, {"name": "Bond Fund", "version": 3}]

View = TypeVar("View", bound=Callable[..., Any])

ATTRIBUTE = "openapi_operation"


class Body(NamedTuple):
    """A JSON request body: an array of 1 to ``max_items``, or an object if that is None."""

    schema: type[Schema]
    example: Any
    max_items: int | None = None


class Result(NamedTuple):
    """A response other than an error.

    Attributes:
        description: what it means.
        schema: the name of its schema, without ``Schema``; None if it has no JSON.
        many: it is an array of ``schema``.
        example: its content; a portfolio has one by default.
        headers: the names of its headers; 503 has ``Retry-After``.
        links: the operations that can follow.
        media_types: its content types. ``schema`` is that of JSON, all others are text.
        status: its HTTP status.
    """

    description: str
    schema: str | None = None
    many: bool = False
    example: Any = None
    headers: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    media_types: tuple[str, ...] = (JSON,)
    status: int = 200


@dataclass(frozen=True)
class describe:  # noqa: N801 - a decorator
    """Decorates a view with what the OpenAPI document says about its endpoint.

    The docstring of the view, which is one line, is the summary.

    Attributes:
        operation_id: a unique name, which generated clients give to their method.
        description: what it does, in sentences.
        result: what it responds with unless there is an error.
        other: a second such result.
        errors: the names of the errors, without those that its body and parameters bring.
        body: the request body.
        query: the schema of the query string.
        parameters: the names of headers and of query parameters that no schema has.
    """

    operation_id: str
    description: str
    result: Result
    other: Result | None = None
    errors: tuple[str, ...] = ()
    body: Body | None = None
    query: type[Schema] | None = None
    parameters: tuple[str, ...] = ()

    def __call__(self, view: View) -> View:
        """Attach the description to ``view``, under the name ``ATTRIBUTE``."""
        setattr(view, ATTRIBUTE, self)
        return view
