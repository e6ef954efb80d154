"""Errors and their HTTP statuses; ``portfolio.api.responses`` sends them as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict


class PortfolioError(Exception):
    """An error that is reported to the client.

    Args:
        detail: a sentence for the client.
    """

    status = 500

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadRequest(PortfolioError):
    """The request violates a rule."""

    status = 400


class Unauthorized(PortfolioError):
    """The API key is missing or unknown."""

    status = 401


class NotFound(PortfolioError):
    """There is no such portfolio."""

    status = 404

    def __init__(self, detail: str = "Portfolio not found") -> None:
        super().__init__(detail)


class Conflict(PortfolioError):
    """The stored state does not allow the change."""

    status = 409


class PreconditionFailed(PortfolioError):
    """The portfolio does not match the condition of the request."""

    status = 412

    def __init__(self) -> None:
        super().__init__("Precondition failed: the portfolio has changed")


class TooLarge(PortfolioError):
    """More items or bytes than one request may carry."""

    status = 413


class UnsupportedMediaType(PortfolioError):
    """The body is not declared as JSON."""

    status = 415

    def __init__(self) -> None:
        super().__init__("Content-Type must be application/json")


class Unavailable(PortfolioError):
    """The database is down or too slow, or the circuit breaker is open.

    Args:
        detail: a sentence for the client.
        retry_after: seconds after which the client should retry.
    """

    status = 503

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class FieldError(NamedTuple):
    """One error in a value: a sentence for people and a word for programs."""

    msg: str
    type: str


# Errors by the name of the field that has them.
FieldErrors = Mapping[str, Sequence[FieldError]]


class LocatedError(TypedDict):
    """An error as it is sent: ``loc`` is the path to the value, and starts with its source."""

    loc: Sequence[str | int]
    msg: str
    type: str


class UnprocessableEntity(PortfolioError):
    """Values have the wrong type or range.

    Args:
        errors: every error of the request, not only the first.
    """

    status = 422

    def __init__(self, errors: list[LocatedError]) -> None:
        super().__init__("; ".join(error["msg"] for error in errors))
        self.errors = errors


class MalformedJSON(UnprocessableEntity):
    """The body is not valid JSON."""

    def __init__(self, reason: str) -> None:
        error = LocatedError(loc=["body"], msg=f"JSON decode error: {reason}", type="json_invalid")
        super().__init__([error])
