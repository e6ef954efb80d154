"""What every answer has to keep, whatever was asked: sections 1 and 6 of the contract, anew.

Written from the contract and not with the service's own code, so that the two can disagree.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.harness import Answer

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_IDENTITY = re.compile(r"[0-9a-f]{24}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_STRICT_NAME = re.compile(r"[A-Za-z0-9_ -]{1,200}")
_MOST_OF_A_NEW_VERSION = 2**31 - 1


# The codes that fit each status of an error.
_CODES = {
    400: {"bad_request", "invalid_json"},
    401: {"unauthorized"},
    404: {"not_found"},
    405: {"method_not_allowed"},
    408: {"timeout"},
    409: {"version_conflict", "name_conflict", "idempotency_key_in_use"},
    412: {"precondition_failed"},
    413: {"payload_too_large"},
    415: {"unsupported_media_type"},
    422: {"validation_error", "invalid_json", "idempotency_key_reused"},
    500: {"internal_error"},
    503: {"service_unavailable", "timeout", "overloaded"},
}
_ANY_OTHER = {"bad_request"}


def fits(status: int, code: str) -> bool:
    """Whether an error of ``status`` may have ``code``."""
    return code in _CODES.get(status, _ANY_OTHER)


def check(answer: Answer, *statuses: int) -> None:
    """Assert that ``answer`` has one of ``statuses``, every header and an error's shape."""
    assert answer.status in statuses, answer
    for name, value in _ALWAYS.items():
        assert answer.headers[name] == value, answer
    assert answer.headers["X-Request-ID"], answer
    assert not re.search(r"[0-9]", answer.headers.get("Server", "")), answer
    if answer.status >= 400:
        assert fits(answer.status, answer.body["code"]), answer
    if answer.status == 422:
        assert answer.body["detail"], answer
        for fault in answer.body["detail"]:
            assert fault.keys() == {"loc", "msg", "type"}, answer
            assert fault["loc"][0] in ("body", "query", "path"), answer
    elif answer.status >= 400:
        assert isinstance(answer.body["detail"], str), answer


def check_portfolio(portfolio: Any) -> None:
    """Assert the shape of a portfolio on the wire."""
    assert portfolio.keys() == {"portfolioId", "name", "dateCreated", "version"}, portfolio
    assert _IDENTITY.fullmatch(portfolio["portfolioId"]), portfolio
    assert isinstance(portfolio["name"], str), portfolio
    assert _MOMENT.fullmatch(portfolio["dateCreated"]), portfolio
    assert type(portfolio["version"]) is int, portfolio


def is_json(value: Any) -> bool:
    """Whether JSON can say ``value``: it knows no NaN and no infinity."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def is_name(value: Any) -> bool:
    """Whether v1 takes ``value`` as a name."""
    if not isinstance(value, str) or not 1 <= len(value) <= 200:
        return False
    return value.isprintable() and not value.isspace()


def is_strict_name(value: Any) -> bool:
    """Whether v2 and fast take ``value`` as a name."""
    return isinstance(value, str) and bool(_STRICT_NAME.fullmatch(value)) and not value.isspace()


def is_version(value: Any) -> bool:
    """Whether a creation takes ``value`` as a version."""
    if value is None:
        return True
    # As many digits as nobody needs are refused even if they are zeros.
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,40}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1.0 is not fractional
    return type(value) is int and 0 <= value <= _MOST_OF_A_NEW_VERSION
