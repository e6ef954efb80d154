"""What is asked of every contestant, and the documents that are there beforehand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

_FIRST_DAY = datetime(2024, 1, 1)
_COUNTER = "{n}"
_BATCH = 10_000


@dataclass(frozen=True)
class Operation:
    """One kind of request.

    Args:
        key: its name in results.
        title: its name in reports.
        path: path and query string, as they go out.
        body: JSON in which each ``{n}`` stands for a number of its own; None for a GET.
    """

    key: str
    title: str
    path: str
    body: str | None = None

    @property
    def method(self) -> str:
        """The HTTP method that follows from the body."""
        return "GET" if self.body is None else "POST"

    def render(self, host: str, numbers: Iterator[int]) -> bytes:
        """Return the bytes of one request to ``host``."""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: {host}\r\n"
        if self.body is None:
            return f"{head}\r\n".encode()
        first, *rest = self.body.split(_COUNTER)
        body = first + "".join(f"{next(numbers)}{part}" for part in rest)
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n{body}".encode()


def identity(index: int) -> ObjectId:
    """Return the id of the seeded portfolio number ``index``."""
    return ObjectId(f"65920080{index:016x}")


def name(index: int) -> str:
    """Return the name of the seeded portfolio number ``index``: one in ten is a growth fund."""
    return f"{'Growth' if index % 10 == 0 else 'Income'} fund {index:07d}"


def documents(count: int, first: int = 0) -> Iterator[list[dict[str, Any]]]:
    """Yield the seeded portfolios ``first`` to ``count`` as they are on disk, in batches."""
    made = (
        {
            "_id": identity(index),
            "name": name(index),
            "dateCreated": _FIRST_DAY + timedelta(seconds=index),
            "version": 1,
        }
        for index in range(first, count)
    )
    while batch := list(itertools.islice(made, _BATCH)):
        yield batch


def _bulk(size: int) -> str:
    return json.dumps([{"name": f"Bulk {_COUNTER}"}] * size)


def get_one(index: int) -> Operation:
    """Read one portfolio by its id."""
    return Operation("get_one", "GET one", f"/api/v1/portfolio/{identity(index)}")


def name_equality(index: int) -> Operation:
    """Find one portfolio by its name, without regard to case."""
    query = name(index).upper().replace(" ", "%20")
    return Operation("name_equality", "name equality", f"/api/v2/portfolios?name={query}")


PAGE = Operation("page", "page of 50", "/api/v2/portfolios?limit=50")
CREATE = Operation("create", "create one", "/api/v1/portfolios", f'{{"name": "Single {_COUNTER}"}}')
BULK = Operation("bulk", "bulk of 10", "/api/v2/portfolios", _bulk(10))
LIVE = Operation("live", "liveness", "/health/live")
