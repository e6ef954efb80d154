"""How a moment is written wherever the service writes one: on the wire and in its logs."""

from __future__ import annotations

from datetime import datetime


def rfc3339(moment: datetime) -> str:
    """Return ``moment``, which is in UTC, by RFC 3339 with milliseconds and ``Z``.

    >>> rfc3339(datetime(2024, 1, 20, 14, 45, 0, 123456))
    '2024-01-20T14:45:00.123Z'
    """
    return moment.isoformat("T", "milliseconds")[:23] + "Z"
