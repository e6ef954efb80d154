"""Conditional requests on single portfolios (RFC 9110, section 13).

A portfolio's tag is its id and version, since each change makes a new version. There is no
``Last-Modified``: a portfolio does not keep when it was changed, and its ``dateCreated`` is the
client's to set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Request, Response

from portfolio.api.responses import json_response
from portfolio.errors import Conflict, PreconditionFailed
from portfolio.models import Portfolio

T = TypeVar("T")


def tag(portfolio_id: str, version: int) -> str:
    """Return the entity tag of one version of a portfolio, without its quotes."""
    return f"{portfolio_id}-{version}"


def with_etag(
    portfolio: Portfolio, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return ``portfolio`` as an answer with its tag."""
    response = json_response(portfolio, status, headers)
    # `add`, since an assignment looks for a header to replace first and takes longer.
    response.headers.add("ETag", f'"{tag(portfolio["portfolioId"], portfolio["version"])}"')
    return response


def conditional_response(portfolio: Portfolio, request: Request) -> Response:
    """Return ``portfolio`` as an answer, or 304 where ``request`` says that it is known."""
    response = with_etag(portfolio)
    # Looked up in the environment first: parsing takes longer, and few ask.
    if "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains_weak(
        tag(portfolio["portfolioId"], portfolio["version"])
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
    current: Callable[[], Portfolio],
) -> T:
    """Make a change that ``request`` may have put under a condition with ``If-Match``.

    The change itself names the version that it needs, so that nothing can come between the check
    and the change.

    Args:
        request: has the condition, or none.
        portfolio_id: what is to be changed.
        version: the version that the change needs.
        change: makes it.
        current: reads the portfolio as it is.

    Raises:
        PreconditionFailed: the portfolio is not as the condition asks.
        Conflict: it is, but not of ``version``.
        NotFound: there is none.
    """
    if "HTTP_IF_MATCH" not in request.environ:
        return change()
    wanted = request.if_match
    if wanted.contains(tag(portfolio_id.lower(), version)):
        try:
            return change()
        except Conflict:
            pass
    found = current()
    if not wanted.contains(tag(found["portfolioId"], found["version"])):
        raise PreconditionFailed
    raise Conflict("Version conflict")
