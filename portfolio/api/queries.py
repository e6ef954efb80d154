"""Reading a search from a query string; v2 and fast share it."""

from __future__ import annotations

from flask import Request

from portfolio.api.requests import query_arguments
from portfolio.api.schemas import SearchQuerySchema, load
from portfolio.api.services import services
from portfolio.errors import BadRequest, FieldErrors
from portfolio.models import Search
from portfolio.rules import check_search

_search = SearchQuerySchema()


def search_query(request: Request) -> Search:
    """Return the search that ``request`` asks for, from the validation cache where it is known.

    Raises:
        UnprocessableEntity: a parameter is of the wrong kind.
        BadRequest: the names break a rule of section 3 of the contract.
    """

    def parse() -> Search:
        return check_search(_load(*query_arguments(request, _search.fields)))

    return services().validation_cache.get_or_parse(request.query_string.decode("latin-1"), parse)


def cursor_query(request: Request) -> tuple[Search, str] | None:
    """Return the search of ``request`` and its cursor; None where it asks for pages by offset.

    Raises:
        UnprocessableEntity: a parameter is of the wrong kind, or given twice.
        BadRequest: the names break a rule of section 3 of the contract, or an offset is given too.
    """
    if b"cursor" not in request.query_string or "cursor" not in request.args:
        return None
    arguments, repeated = query_arguments(request, {*_search.fields, "cursor"})
    if "offset" in arguments:
        raise BadRequest("Only one of cursor and offset allowed")
    return check_search(_load(arguments, repeated)), arguments["cursor"]


def _load(arguments: dict[str, str], repeated: FieldErrors) -> Search:
    return load(_search, arguments, "query", repeated)  # type: ignore[no-any-return]
