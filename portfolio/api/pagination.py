"""Pages of a search: the query that asks for one, the body that shows it, the links to others.

A page is asked for by offset or by cursor. A cursor holds the place where the page before ended,
and the search that it belongs to. It is signed with a key that all pods share. Where
``CURSOR_SECRET`` is not set, anybody can make one: what it holds is validated like any other input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import bson
from bson.errors import BSONError
from flask import request
from itsdangerous import BadData, Signer, base64_decode, base64_encode

from portfolio.api.requests import load_query
from portfolio.api.responses import PortfoliosEncoder
from portfolio.api.schemas import SearchQuerySchema
from portfolio.api.validation_cache import ValidationCache
from portfolio.config import Settings
from portfolio.errors import BadRequest
from portfolio.models import Page, Portfolio, Search, SortKey
from portfolio.rules import check_search
from portfolio.storage.documents import CODEC_OPTIONS

_schema = SearchQuerySchema()
_encoder = PortfoliosEncoder()

# The parameters that choose a page, or what it shows; all others choose the portfolios.
_PAGE_PARAMETERS = ("limit", "offset", "fields")

# The most bytes that a cursor holds. A level of nesting takes at least 7, and MongoDB refuses
# commands of more than 200 levels.
_MAX_BYTES = 1280


class PageQuery(NamedTuple):
    """The query string of a search.

    ``parameters`` begins the query string of each link to another page. ``cursor`` says where the
    page begins; it is empty for the first page, and None for a page by offset.
    """

    search: Search
    parameters: str
    cursor: str | None = None

    @classmethod
    def of(cls, search: Search, cursor: str | None = None) -> PageQuery:
        """Return the query that asks for ``search``."""
        parameters = {"limit": search.limit} | _criteria(search._asdict())
        if search.fields is not None:
            parameters["fields"] = ",".join(search.fields)
        return cls(search, urlencode(parameters, quote_via=quote) + "&", cursor)

    @classmethod
    def parse(cls, cache: ValidationCache, *, cursors: bool = False) -> PageQuery:
        """Return the query of the request, which may have a ``cursor`` if ``cursors``.

        ``cache`` knows queries without a cursor that were parsed before.

        Raises:
            UnprocessableEntity: a parameter has the wrong type or range, or is given twice.
            BadRequest: the names break a rule of CONTRACT.md section 3, or there are a cursor and
                an offset.
        """
        query = request.query_string
        if cursors and b"cursor" in query and "cursor" in request.args:
            if "offset" in request.args:
                raise BadRequest("Only one of cursor and offset allowed")
            search = load_query(_schema, "cursor")
            return cls.of(check_search(search), request.args["cursor"])
        return cache.get_or_parse(
            query.decode("latin-1"), lambda: cls.of(check_search(load_query(_schema)))
        )

    def body(self, page: Page) -> dict[str, Any]:
        """Return the body of a page by offset (CONTRACT.md section 3)."""
        limit, offset = self.search.limit, self.search.offset
        return {
            "portfolios": _encoder.encode(page.portfolios, self.search.fields),
            "pagination": {
                "totalElements": page.total,
                "totalPages": -(-page.total // limit),
                "currentPage": offset // limit,
                "pageSize": limit,
                "hasNext": page.has_next,
                "hasPrevious": offset > 0,
            },
        }

    def cursor_body(self, portfolios: list[Portfolio], following: str | None) -> dict[str, Any]:
        """Return the body of a page by cursor, where ``following`` is the cursor of the next."""
        return {
            "portfolios": _encoder.encode(portfolios, self.search.fields),
            "pagination": {
                "pageSize": self.search.limit,
                "hasNext": following is not None,
                "nextCursor": following,
            },
        }

    def links(self, path: str, page: Page) -> str:
        """Return the ``Link`` header (RFC 8288) of a page by offset; ``path`` is the request's."""
        limit, offset = self.search.limit, self.search.offset
        offsets = {"first": 0, "last": max(page.total - 1, 0) // limit * limit}
        if offset:
            offsets["prev"] = max(offset - limit, 0)
        if page.has_next:
            offsets["next"] = offset + limit
        return _links(path, f"{self.parameters}offset=", offsets)

    def cursor_links(self, path: str, following: str | None) -> str:
        """Return the ``Link`` header of a page by cursor."""
        pages = {"first": ""}
        if following is not None:
            pages["next"] = following
        return _links(path, f"{self.parameters}cursor=", pages)


class CursorCodec(Signer):
    """Encodes and decodes cursors.

    Without a secret, the name of the database stands in for it, which all pods on that database
    have in common.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            settings.cursor_secret or settings.mongodb_db,
            salt="portfolio cursors",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )

    def encode(self, search: Search, after: SortKey) -> str:
        """Return the cursor of the page that begins after ``after``."""
        content = bson.encode(_criteria(search._asdict()) | after._asdict())
        return self.sign(base64_encode(content)).decode()

    def decode(self, search: Search, cursor: str) -> SortKey | None:
        """Return the sort key after which the page of ``cursor`` begins; None for the first page.

        Raises:
            BadRequest: the cursor is not one of the service's, or belongs to another search.
        """
        if not cursor:
            return None
        try:
            content = base64_decode(self.unsign(cursor))
            if len(content) > _MAX_BYTES:
                raise ValueError("the date is too large")
            criteria = bson.decode(content, CODEC_OPTIONS)
            after = SortKey(criteria.pop("created"), criteria.pop("identity"))
            if _criteria(criteria) != _criteria(search._asdict()):
                raise ValueError("it belongs to another search")
        except (BadData, BSONError, KeyError, RecursionError, ValueError):
            raise BadRequest(
                "Invalid cursor: take nextCursor from the page before, for the same search"
            ) from None
        return after


def _links(path: str, parameters: str, pages: Mapping[str, object]) -> str:
    # Relative to the URL of the request, which may have a prefix that only a reverse proxy knows.
    target = f"{path.rpartition('/')[2]}?{parameters}"
    return ", ".join([f'<{target}{page}>; rel="{relation}"' for relation, page in pages.items()])


def _criteria(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a search that choose portfolios, whatever the page.

    What is None is left out: a cursor is valid for pods that know other parameters, too.
    """
    return {
        name: value
        for name, value in parameters.items()
        if value is not None and name not in _PAGE_PARAMETERS
    }
