"""Errors: their HTTP statuses, their codes, and the one place where their bodies are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, TypedDict


class ErrorCode(StrEnum):
    """A stable word for programs in every error (CONTRACT.md section 6)."""

    BAD_REQUEST = "bad_request"
    INVALID_JSON = "invalid_json"
    VALIDATION_ERROR = "validation_error"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    VERSION_CONFLICT = "version_conflict"
    NAME_CONFLICT = "name_conflict"
    IDEMPOTENCY_KEY_IN_USE = "idempotency_key_in_use"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    PRECONDITION_FAILED = "precondition_failed"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNAUTHORIZED = "unauthorized"
    SERVICE_UNAVAILABLE = "service_unavailable"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    INTERNAL_ERROR = "internal_error"


# What Flask and the worker refuse has no class here. All other statuses are the request's fault.
_CODES_BY_STATUS = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    408: ErrorCode.TIMEOUT,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    500: ErrorCode.INTERNAL_ERROR,
}


def code_for_status(status: int) -> ErrorCode:
    """Return the code of an error that is known by its HTTP status alone."""
    return _CODES_BY_STATUS.get(status, ErrorCode.BAD_REQUEST)


def error_body(code: ErrorCode, detail: str | Sequence[LocatedError]) -> dict[str, object]:
    """Return the body of an error response (CONTRACT.md section 6)."""
    return {"detail": detail, "code": code.value}


class PortfolioError(Exception):
    """An error that is reported to the client, by default with the sentence of its class."""

    status = 500
    code = ErrorCode.INTERNAL_ERROR
    detail: str | Sequence[LocatedError] = "Internal server error"
    headers: Mapping[str, str] = {}

    def __init__(self, detail: str | None = None) -> None:
        if detail is not None:
            self.detail = detail
        super().__init__(self.detail)


class BadRequest(PortfolioError):
    """The request violates a rule."""

    status = 400
    code = ErrorCode.BAD_REQUEST


class Unauthorized(PortfolioError):
    """The API key is missing or unknown."""

    status = 401
    code = ErrorCode.UNAUTHORIZED
    detail = "A valid API key is required"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class NotFound(PortfolioError):
    """There is no such portfolio."""

    status = 404
    code = ErrorCode.NOT_FOUND
    detail = "Portfolio not found"


class VersionConflict(PortfolioError):
    """The version of the change is not the stored one."""

    status = 409
    code = ErrorCode.VERSION_CONFLICT
    detail = "Version conflict"


class NameConflict(PortfolioError):
    """Portfolios with these names are stored already."""

    status = 409
    code = ErrorCode.NAME_CONFLICT

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"Portfolio names already exist: {', '.join(sorted(names))}")


class IdempotencyKeyInUse(PortfolioError):
    """A creation with this idempotency key is not finished yet."""

    status = 409
    code = ErrorCode.IDEMPOTENCY_KEY_IN_USE
    detail = "A request with this Idempotency-Key is in flight"


class PreconditionFailed(PortfolioError):
    """The portfolio does not match the condition of the request."""

    status = 412
    code = ErrorCode.PRECONDITION_FAILED
    detail = "Precondition failed: the portfolio has changed"


class TooLarge(PortfolioError):
    """More items or bytes than one request may carry."""

    status = 413
    code = ErrorCode.PAYLOAD_TOO_LARGE


class UnsupportedMediaType(PortfolioError):
    """The body is not declared as JSON."""

    status = 415
    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE
    detail = "Content-Type must be application/json"


class Unavailable(PortfolioError):
    """The service cannot answer now; unless ``detail`` says otherwise, the database is down.

    The client should retry after ``retry_after`` seconds.
    """

    status = 503
    code = ErrorCode.SERVICE_UNAVAILABLE
    detail = "Database unavailable"

    def __init__(self, detail: str | None = None, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": str(retry_after)}


class DeadlineExceeded(Unavailable):
    """The deadline of the request has passed."""

    code = ErrorCode.TIMEOUT
    detail = "Database timed out"


class Overloaded(Unavailable):
    """Too much is in flight to accept the request."""

    code = ErrorCode.OVERLOADED


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
    """Values have the wrong type or range; ``errors`` are all errors of the request."""

    status = 422
    code = ErrorCode.VALIDATION_ERROR

    def __init__(self, errors: list[LocatedError]) -> None:
        super().__init__("; ".join(error["msg"] for error in errors))
        self.detail = self.errors = errors


class MalformedJSON(UnprocessableEntity):
    """The body is not valid JSON."""

    code = ErrorCode.INVALID_JSON

    def __init__(self, reason: str) -> None:
        error = LocatedError(loc=["body"], msg=f"JSON decode error: {reason}", type="json_invalid")
        super().__init__([error])


class IdempotencyKeyReused(UnprocessableEntity):
    """The idempotency key was used for another request."""

    code = ErrorCode.IDEMPOTENCY_KEY_REUSED

    def __init__(self) -> None:
        sentence = "Idempotency-Key was used for another request"
        super().__init__([LocatedError(loc=["body"], msg=sentence, type=self.code)])
