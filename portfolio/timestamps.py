"""Dates: the time now, dates that others wrote, timestamps of responses and logs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_ISO_8601 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
EPOCH = datetime(1970, 1, 1)
# The rule of the original service: a number beyond is milliseconds.
_MAX_SECONDS = 2e10


def utc_now() -> datetime:
    """Return the time now, naive and in UTC, as PyMongo takes and returns dates."""
    return datetime.now(UTC).replace(tzinfo=None)


def parse_date(value: object) -> datetime:
    """Return the date that ``value`` means, naive and in UTC (CONTRACT.md section 1).

    Args:
        value: an ISO 8601 date or date-time, where no offset means UTC; or a number, also as a
            string of digits: seconds since the epoch, or milliseconds where its absolute value is
            above 2e10.

    Raises:
        ValueError: it is no date, or outside the years 1 to 9999.
    """
    try:
        if isinstance(value, str):
            if _ISO_8601.fullmatch(value):
                parsed = datetime.fromisoformat(value.upper())
                return parsed.astimezone(UTC).replace(tzinfo=None) if parsed.tzinfo else parsed
            value = float(value) if _NUMBER.fullmatch(value) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            unit = "milliseconds" if abs(value) > _MAX_SECONDS else "seconds"
            return EPOCH + timedelta(**{unit: value})
    except OverflowError:
        pass
    raise ValueError("not a date in the years 1 to 9999")


def rfc3339(time: datetime) -> str:
    """Return ``time``, which is in UTC, as RFC 3339 with milliseconds and ``Z``.

    >>> rfc3339(datetime(2024, 1, 20, 14, 45, 0, 123456))
    '2024-01-20T14:45:00.123Z'
    """
    return time.isoformat("T", "milliseconds")[:23] + "Z"
