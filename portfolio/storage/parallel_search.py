"""A search among very many portfolios as two, which MongoDB runs side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from typing import TypeVar

from pymongo.errors import OperationFailure

from portfolio.storage.client import Database
from portfolio.storage.documents import Document
from portfolio.storage.indexes import PAGES_INDEX

T = TypeVar("T")

# MongoDB looks through fewer in a quarter of a second.
_PARALLEL_THRESHOLD = 100_000
# Dates of so many, which MongoDB reads in 40 ms, tell the middle to within a sixteenth.
_SAMPLE = 63
# MongoDB's "bad value", which is all that it says of a hint that names no index.
_NO_SUCH_HINT = 2
# The middle need not be exact, and moves slowly.
_KEPT_S = 600.0


class ParallelSearch:
    """The newer and the older half of very many portfolios, told apart by ``dateCreated``.

    A search for a substring looks at each key of an index, and MongoDB gives a command one thread:
    over a million portfolios two commands, each over a half, took 0.6 of the time of one.

    Args:
        database: where the portfolios are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._middle: datetime | None = None
        self._look_at = 0.0

    def run(self, query: Callable[[Document, str], T]) -> tuple[T, T] | None:
        """Ask about the newer and the older half, at the same time and within one deadline.

        Args:
            query: is given the filter that a half matches, and the index to name as a hint:
                MongoDB would else try two plans, each on a third of the keys, which doubles the
                time of a search for a rare substring.

        Returns:
            both answers; None where there are not so many portfolios, or there is no such index.

        Raises:
            whatever ``query`` raises, once both have ended; but for the missing index.
        """
        middle = self._estimate_median()
        if middle is None:
            return None
        newer: Document = {"dateCreated": {"$gte": middle}}
        # Whatever is no date belongs to it, and portfolios without one.
        older: Document = {"dateCreated": {"$not": {"$gte": middle}}}
        # Threads are greenlets where gevent has patched them; either needs the request's context.
        with ThreadPoolExecutor(2) as pool:
            answers = [
                pool.submit(copy_context().run, query, half, PAGES_INDEX) for half in (newer, older)
            ]
        try:
            return answers[0].result(), answers[1].result()
        except OperationFailure as error:
            if error.code != _NO_SUCH_HINT:
                raise
            self._middle = None
            return None

    def _estimate_median(self) -> datetime | None:
        if time.monotonic() >= self._look_at:
            self._middle = self._database.run(self._sample, retry=True)
            self._look_at = time.monotonic() + _KEPT_S
        return self._middle

    def _sample(self) -> datetime | None:
        portfolios = self._database.portfolios
        if portfolios.estimated_document_count() < _PARALLEL_THRESHOLD:
            return None
        sample = portfolios.aggregate(
            [{"$sample": {"size": _SAMPLE}}, {"$project": {"dateCreated": 1}}]
        )
        found = (document.get("dateCreated") for document in sample)
        dates = sorted(date for date in found if isinstance(date, datetime))
        return dates[len(dates) // 2] if dates else None
