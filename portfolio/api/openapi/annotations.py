"""The description of an endpoint, as it stands beside its view.

``describe`` only attaches it; ``portfolio.api.openapi.document`` builds the OpenAPI document on
demand. Errors, schemas, headers and links are given by their names, so that the modules that
have them, and ``components.yaml``, are not loaded before the document is needed.
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

    ``schema`` names what its JSON is, or is an array of if ``many``; other ``media_types`` are
    text. A portfolio has an example by default, and 503 has ``Retry-After``. ``links`` are the
    operations that can follow.
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

    The docstring of the view, which is one line, is the summary. Generated clients give their
    method the ``operation_id``. ``other`` is a second ``result``. ``errors`` names those that
    follow from neither a body nor a parameter. ``parameters`` names headers, and query parameters
    that the schema of the ``query`` does not have.
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
