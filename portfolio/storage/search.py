"""Searches of portfolios, page by page and by name."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from datetime import datetime
from typing import Any, TypeVar

from bson import DatetimeMS, MaxKey, MinKey, Regex, Timestamp
from pymongo.errors import OperationFailure

from portfolio.errors import DeadlineExceeded, Overloaded
from portfolio.models import Portfolio, Search, SortKey
from portfolio.scheduling import time_left
from portfolio.storage.database import Database
from portfolio.storage.documents import (
    CASE_INSENSITIVE,
    IGNORING_SPACES,
    PAGES_INDEX,
    Document,
    from_document,
)

_NEWEST_FIRST = {"dateCreated": -1, "_id": -1}
# Matches every document, with or without a date. With this condition MongoDB searches names in the
# keys of the index of pages, and fetches only the documents that match.
_ANY_DATE = {"$gte": MinKey()}
# A page that is deeper is slow: MongoDB reads all keys before it. It is not searched in parallel,
# since both halves would be read that deep.
_DEEP = 2000
# A slow search holds up to two connections: half of the pool stays for other calls.
_CONNECTIONS_PER_SEARCH = 4
_QUEUE_TIMEOUT_S = 0.5
# BSON types that sort above dates.
_ABOVE_DATES = (Timestamp, Regex, MaxKey)

# A search among fewer portfolios is fast enough as one command.
_PARALLEL_THRESHOLD = 100_000
_SAMPLE_SIZE = 63
# MongoDB's code for a hint that names no index.
_BAD_VALUE = 2
# The median need not be exact, and changes slowly.
_MEDIAN_TTL_S = 600.0

T = TypeVar("T")


class PortfolioSearch:
    """Finds stored portfolios, substrings in parallel if ``parallel_threshold`` are stored."""

    def __init__(
        self, database: Database, *, parallel_threshold: int = _PARALLEL_THRESHOLD
    ) -> None:
        self._database = database
        self._parallel_threshold = parallel_threshold
        self._median: datetime | None = None
        self._median_expires = 0.0
        self._slow_searches = threading.BoundedSemaphore(
            max(database.pool.max // _CONNECTIONS_PER_SEARCH, 1)
        )

    def find(
        self, search: Search, after: SortKey | None = None
    ) -> tuple[list[Portfolio], SortKey | None]:
        """Return a page of the portfolios that match.

        Args:
            search: what to find, how many at most, and the offset of the first.
            after: the sort key of the portfolio before the first, in place of the offset; its depth
                does not add to the cost.

        Returns:
            the portfolios, newest first, and the sort key of the last if more follow.
        """
        filter, options = self._criteria(search)
        # One more than the page has tells whether there is another page.
        limit = search.limit + 1
        if after is None:
            options["skip"] = search.offset
        else:
            # With the criteria in each branch, MongoDB merges two scans of an index instead of
            # filtering a long one.
            filter = {"$or": [filter | branch for branch in _after(after)]}
        # Behind an array, which a client's cursor may have for a date, no index bounds the search.
        is_slow = (
            search.name_like is not None
            or search.offset > _DEEP
            or (after is not None and isinstance(after.created, list))
        )
        with self._limit() if is_slow else nullcontext():
            documents = None
            if search.name_like is not None and after is None:
                documents = self._find_in_halves(filter, search.offset, search.offset + limit)
            if documents is None:
                documents = self._database.find(filter, sort=_NEWEST_FIRST, limit=limit, **options)
        page = documents[: search.limit]
        end = None
        if len(documents) > search.limit:
            end = SortKey(page[-1].get("dateCreated"), page[-1]["_id"])
        return list(map(from_document, page)), end

    def find_first_pages(self, searches: Sequence[Search]) -> dict[Search, list[Portfolio]]:
        """Return what several searches for a name find from offset 0, with one query.

        The result is empty if the portfolios would not fit one page, or if a stored name equals a
        wanted one only by the collation.
        """
        names = {str(search.name).lower() for search in searches}
        found: dict[str, list[Portfolio]] = {name: [] for name in names}
        limit = max(search.limit for search in searches)
        filter = {"name": {"$in": list(names)}}
        documents = self._database.find(
            filter, sort=_NEWEST_FIRST, limit=limit + 1, collation=CASE_INSENSITIVE.document
        )
        if len(documents) > limit:
            return {}
        for portfolio in map(from_document, documents):
            name = portfolio.name.lower()
            if name not in found:
                return {}
            found[name].append(portfolio)
        return {search: found[str(search.name).lower()] for search in searches}

    def count(self, search: Search) -> int:
        """Return how many portfolios match; without a name, from the collection's metadata."""
        filter, options = self._criteria(search)
        if not filter:
            return self._database.run("count", self._database.count, retry=True)
        if search.name_like is None:
            return self._count(filter, **options)
        with self._limit():
            halves = self._run_in_halves(lambda half: self._count(filter | half, hint=PAGES_INDEX))
            return self._count(filter) if halves is None else sum(halves)

    def find_by_names(self, names: Sequence[str], limit: int) -> list[Portfolio]:
        """Return up to ``limit`` portfolios with one of ``names``, ignoring case and all spaces."""
        documents = self._database.find(
            {"name": {"$in": names}}, limit=limit, collation=IGNORING_SPACES.document
        )
        return list(map(from_document, documents))

    @contextmanager
    def _limit(self) -> Iterator[None]:
        """Limit the concurrent searches that are slow: for substrings, and of deep pages.

        Raises:
            DeadlineExceeded: the deadline passed while it waited for its turn.
            Overloaded: too many are in flight.
        """
        if not self._slow_searches.acquire(timeout=min(time_left(), _QUEUE_TIMEOUT_S)):
            if not time_left():
                raise DeadlineExceeded
            raise Overloaded("Too many searches are in flight")
        try:
            yield
        finally:
            self._slow_searches.release()

    def _criteria(self, search: Search) -> tuple[Document, Document]:
        if search.name is not None:
            return {"name": search.name}, {"collation": CASE_INSENSITIVE.document}
        if search.name_like is not None:
            pattern = {"$regex": re.escape(search.name_like), "$options": "i"}
            return {"dateCreated": _ANY_DATE, "name": pattern}, {}
        return {}, {}

    def _count(self, filter: Document, **options: Any) -> int:
        count = self._database.portfolios.count_documents
        return self._database.run(
            "aggregate", lambda: count(filter, **options), retry=True, is_read=True
        )

    def _find_in_halves(self, filter: Document, begin: int, end: int) -> list[Document] | None:
        """Return what is found from ``begin`` to ``end``; None where halves do not help."""
        if end > _DEEP:
            return None
        halves = self._run_in_halves(
            lambda half: self._database.find(
                filter | half, sort=_NEWEST_FIRST, limit=end, hint=PAGES_INDEX
            )
        )
        if halves is None:
            return None
        newer, older = halves
        above = [each for each in older if isinstance(each.get("dateCreated"), _ABOVE_DATES)]
        return [*above, *newer, *older[len(above) :]][begin:end]

    def _run_in_halves(self, query: Callable[[Document], T]) -> tuple[T, T] | None:
        """Run ``query`` for the newer and the older half of the portfolios in parallel.

        A search for a substring reads every key of an index, and MongoDB runs a command in one
        thread. The median of ``dateCreated`` separates the halves.

        Args:
            query: takes the filter of a half, and hints the index of pages: without the hint
                MongoDB would try two plans first, which doubles the time of a search for a rare
                substring.

        Returns:
            the results for both halves; None where there are too few portfolios, or no such index.
        """
        if time.monotonic() >= self._median_expires:
            self._median = self._database.run("aggregate", self._estimate_median, retry=True)
            self._median_expires = time.monotonic() + _MEDIAN_TTL_S
        median = self._median
        if median is None:
            return None
        newer: Document = {"dateCreated": {"$gte": median}}
        # It has the portfolios without a date, too.
        older: Document = {"dateCreated": {"$not": {"$gte": median}}}
        # The threads, which gevent turns into greenlets, need the context with the deadline.
        with ThreadPoolExecutor(2) as pool:
            results = [pool.submit(copy_context().run, query, half) for half in (newer, older)]
        try:
            return results[0].result(), results[1].result()
        except OperationFailure as error:
            if error.code != _BAD_VALUE:
                raise
            self._median = None
            return None

    def _estimate_median(self) -> datetime | None:
        if self._database.count() < self._parallel_threshold:
            return None
        sample = self._database.portfolios.aggregate(
            [{"$sample": {"size": _SAMPLE_SIZE}}, {"$project": {"dateCreated": 1}}]
        )
        found = (document.get("dateCreated") for document in sample)
        dates = sorted(date for date in found if isinstance(date, datetime))
        return dates[len(dates) // 2] if dates else None


def _after(after: SortKey) -> list[Document]:
    # A client's cursor has these values: as operands of $eq and $literal they can't act as
    # operators. Expressions compare values of all types, as sorting does. An array sorts by its
    # greatest element, and a missing date as null, which is what $max makes of them.
    stored, end = {"$max": ["$dateCreated"]}, {"$max": [{"$literal": after.created}]}
    lower_id = {"$lt": ["$_id", {"$literal": after.identity}]}
    same_date: Document = {"$expr": {"$and": [lower_id, {"$eq": [stored, end]}]}}
    earlier: Document = {"$expr": {"$lt": [stored, end]}}
    if after.created is None:
        earlier["dateCreated"] = {"$lte": MinKey()}
    elif isinstance(after.created, datetime | DatetimeMS | str | int | float):
        # For the index. It excludes no type that sorts lower, and no array: only elements of the
        # same type are compared.
        earlier["dateCreated"] = {"$not": {"$gte": after.created}}
    if not isinstance(after.created, list):
        same_date["dateCreated"] = {"$eq": after.created}
    return [same_date, earlier]
