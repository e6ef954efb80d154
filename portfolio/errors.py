"""What can go wrong, in the service's own terms.

Nothing here knows HTTP beyond the status each failure is answered with; ``portfolio.api.responses``
turns these, and every other exception, into JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict


class PortfolioError(Exception):
    """A failure that the caller is told about.

    Args:
        detail: the sentence that the caller reads.
    """

    status = 500

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadRequest(PortfolioError):
    """The request breaks a rule that is told in one sentence."""

    status = 400


class Unauthorized(PortfolioError):
    """No API key, or none that is known."""

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
    """The portfolio is not as the request's condition asks."""

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
    """The database can't answer now: gone, slow beyond the deadline, or guarded by a breaker.

    Args:
        detail: the sentence that the caller reads.
        retry_after: seconds after which the caller should try again.
    """

    status = 503

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Fault(NamedTuple):
    """One thing that is wrong with a value: a sentence, and a word for programs."""

    msg: str
    type: str


# What is wrong with values, by their names.
Faults = Mapping[str, Sequence[Fault]]


class LocatedFault(TypedDict):
    """A fault as it is answered, with the path to the value; ``loc`` starts with its source."""

    loc: Sequence[str | int]
    msg: str
    type: str


class Invalid(PortfolioError):
    """Values of the wrong kind; lists every fault of the request, not only the first."""

    status = 422

    def __init__(self, faults: list[LocatedFault]) -> None:
        super().__init__("; ".join(fault["msg"] for fault in faults))
        self.faults = faults


class MalformedJSON(Invalid):
    """The body can't be read as JSON."""

    def __init__(self, reason: str) -> None:
        fault = LocatedFault(loc=["body"], msg=f"JSON decode error: {reason}", type="json_invalid")
        super().__init__([fault])
