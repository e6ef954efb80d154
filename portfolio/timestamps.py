"""The time now, and timestamps as responses and logs write them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time now, naive and in UTC, as PyMongo takes and returns dates."""
    return datetime.now(UTC).replace(tzinfo=None)


def rfc3339(time: datetime) -> str:
    """Return ``time``, which is in UTC, as RFC 3339 with milliseconds and ``Z``.

    >>> rfc3339(datetime(2024, 1, 20, 14, 45, 0, 123456))
    '2024-01-20T14:45:00.123Z'
    """
    return time.isoformat("T", "milliseconds")[:23] + "Z"
