"""Conditional requests on single portfolios (RFC 9110, section 13).

The entity tag is made of id and version, since each change increments the version. There is no
``Last-Modified``: a portfolio does not store when it was changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Request, Response

from portfolio.api.responses import json_response
from portfolio.errors import PreconditionFailed, VersionConflict
from portfolio.models import Portfolio

T = TypeVar("T")


def tag(portfolio_id: str, version: int) -> str:
    """Return the entity tag of one version of a portfolio, without its quotes."""
    return f"{portfolio_id}-{version}"


def with_etag(
    portfolio: Portfolio, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return ``portfolio`` as a JSON response with its entity tag."""
    etag = f'"{tag(portfolio.id, portfolio.version)}"'
    return json_response(portfolio, status, {"ETag": etag} | (headers or {}))


def conditional_response(portfolio: Portfolio, request: Request) -> Response:
    """Return ``portfolio`` as a JSON response, or 304 if ``If-None-Match`` has its tag."""
    response = with_etag(portfolio)
    # Few requests have the header, and Werkzeug parses it even where it is absent.
    if "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains_weak(
        tag(portfolio.id, portfolio.version)
    ):
        response.status_code = 304
        response.set_data(b"")
        del response.headers["Content-Type"], response.headers["Content-Length"]
    return response


def check_if_match(
    request: Request,
    portfolio_id: str,
    version: int,
    change: Callable[[], T],
    current: Callable[[str], Portfolio],
) -> T:
    """Apply a change if the ``If-Match`` of ``request`` allows it.

    The change itself compares the version, so that no other change can come between the check and
    the change.

    Args:
        request: may have ``If-Match``.
        portfolio_id: the portfolio to change.
        version: the version that the change requires.
        change: applies the change.
        current: reads the portfolio with an id.

    Raises:
        PreconditionFailed: ``If-Match`` does not have the current tag.
        VersionConflict: it has, but the current version is not ``version``.
        NotFound: the portfolio does not exist.
    """
    if "HTTP_IF_MATCH" not in request.environ:
        return change()
    wanted = request.if_match
    if wanted.contains(tag(portfolio_id.lower(), version)):
        try:
            return change()
        except VersionConflict:
            pass
    found = current(portfolio_id)
    if not wanted.contains(tag(found.id, found.version)):
        raise PreconditionFailed
    raise VersionConflict
