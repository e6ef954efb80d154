"""A search among many portfolios as two commands that MongoDB runs in parallel."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from typing import TypeVar

from bson import MaxKey, Regex, Timestamp
from pymongo.errors import OperationFailure

from portfolio.storage.database import Database
from portfolio.storage.documents import Document
from portfolio.storage.indexes import PAGES_INDEX

T = TypeVar("T")

# BSON types that sort above dates.
_ABOVE_DATES = (Timestamp, Regex, MaxKey)

# A search among fewer portfolios is fast enough as one command.
PARALLEL_THRESHOLD = 100_000
_SAMPLE_SIZE = 63
# MongoDB's code for a hint that names no index.
_BAD_VALUE = 2
# The median need not be exact, and changes slowly.
_MEDIAN_TTL_S = 600.0


class ParallelSearch:
    """Searches the newer and the older half of the portfolios in parallel.

    A search for a substring reads every key of an index, and MongoDB runs a command in one thread.
    The median of ``dateCreated`` separates the halves.

    Args:
        database: where to search.
        threshold: from how many stored portfolios on.
    """

    def __init__(self, database: Database, threshold: int) -> None:
        self._database = database
        self._threshold = threshold
        self._median: datetime | None = None
        self._expires = 0.0

    def run(self, query: Callable[[Document, str], T]) -> tuple[T, T] | None:
        """Run ``query`` for both halves in parallel, within one deadline.

        Args:
            query: takes the filter of a half, and the index to hint: without the hint MongoDB would
                try two plans first, which doubles the time of a search for a rare substring.

        Returns:
            the results for the newer and the older half; None where there are too few portfolios,
            or no such index.

        Raises:
            Exception: whatever ``query`` raises, once both have ended.
        """
        median = self._estimate_median()
        if median is None:
            return None
        newer: Document = {"dateCreated": {"$gte": median}}
        # It has the portfolios without a date, too.
        older: Document = {"dateCreated": {"$not": {"$gte": median}}}
        # The threads, which gevent turns into greenlets, need the context with the deadline.
        with ThreadPoolExecutor(2) as pool:
            results = [
                pool.submit(copy_context().run, query, half, PAGES_INDEX) for half in (newer, older)
            ]
        try:
            return results[0].result(), results[1].result()
        except OperationFailure as error:
            if error.code != _BAD_VALUE:
                raise
            self._median = None
            return None

    def _estimate_median(self) -> datetime | None:
        if time.monotonic() >= self._expires:
            self._median = self._database.run(self._sample, retry=True)
            self._expires = time.monotonic() + _MEDIAN_TTL_S
        return self._median

    def _sample(self) -> datetime | None:
        if self._database.count() < self._threshold:
            return None
        sample = self._database.portfolios.aggregate(
            [{"$sample": {"size": _SAMPLE_SIZE}}, {"$project": {"dateCreated": 1}}]
        )
        found = (document.get("dateCreated") for document in sample)
        dates = sorted(date for date in found if isinstance(date, datetime))
        return dates[len(dates) // 2] if dates else None


def merge(newer: list[Document], older: list[Document]) -> list[Document]:
    """Return the documents of both halves, newest first."""
    above = [each for each in older if isinstance(each.get("dateCreated"), _ABOVE_DATES)]
    return [*above, *newer, *older[len(above) :]]
