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
_BATCH = 10_000
_PREFIX = "65920080"

# The seeded portfolios that requests ask for; a database holds at least as many.
SEEDED = 1000


@dataclass(frozen=True)
class Operation:
    """One kind of request.

    In path and body, ``{n}`` stands for a number of its own, in the path ``{id}`` for the last
    sixteen digits of a seeded portfolio's id and ``{seed}`` for its number in its name.

    Args:
        key: its name in results.
        title: its name in reports.
        path: path and query string.
        body: JSON; None for a GET.
    """

    key: str
    title: str
    path: str
    body: str | None = None

    @property
    def method(self) -> str:
        """The HTTP method that follows from the body."""
        return "GET" if self.body is None else "POST"

    def target(self, number: int) -> str:
        """Return path and query string of request number ``number``."""
        seeded = number % SEEDED
        return self.path.replace("{id}", f"{seeded:016x}").replace("{seed}", f"{seeded:07d}")

    def payload(self, numbers: Iterator[int]) -> str | None:
        """Return the body of one request."""
        if self.body is None:
            return None
        first, *rest = self.body.split("{n}")
        return first + "".join(f"{next(numbers)}{part}" for part in rest)

    def render(self, host: str, numbers: Iterator[int]) -> bytes:
        """Return the bytes of one request to ``host``."""
        head = f"{self.method} {self.target(next(numbers))} HTTP/1.1\r\nHost: {host}\r\n"
        body = self.payload(numbers)
        if body is None:
            return f"{head}\r\n".encode()
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n{body}".encode()


def identity(index: int) -> ObjectId:
    """Return the id of the seeded portfolio number ``index``."""
    return ObjectId(f"{_PREFIX}{index:016x}")


def name(index: int) -> str:
    """Return the name of the seeded portfolio number ``index``: every tenth is a growth fund."""
    return f"{'Growth' if index % 10 == 9 else 'Income'} fund {index:07d}"


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


# Each takes turns over the first SEEDED portfolios, so that no one document or query is all that is
# asked for.
GET_ONE = Operation("get_one", "GET one", f"/api/v1/portfolio/{_PREFIX}{{id}}")
NAME_EQUALITY = Operation(
    "name_equality", "name equality", "/api/v2/portfolios?name=INCOME%20FUND%20{seed}"
)
PAGE = Operation("page", "page of 50", "/api/v2/portfolios?limit=50")
CREATE = Operation("create", "create one", "/api/v1/portfolios", '{"name": "Single {n}"}')
BULK = Operation(
    "bulk", "bulk of 10", "/api/v2/portfolios", json.dumps([{"name": "Bulk {n}"}] * 10)
)
RESOLVE = Operation(
    "resolve",
    "resolve 1,000 names",
    "/api/v2/portfolios/resolve",
    json.dumps({"names": [name(index).upper() for index in range(SEEDED)]}),
)
LIVE = Operation("live", "liveness", "/health/live")

OPERATIONS = (GET_ONE, PAGE, NAME_EQUALITY, CREATE, BULK, LIVE)
# What callers do all day: 70% GET one, 15% page, 10% create, 5% bulk.
MIX = {GET_ONE: 14, PAGE: 3, CREATE: 2, BULK: 1}
