"""Searches of portfolios, page by page and by name."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bson import MinKey

from portfolio.errors import DeadlineExceeded, Overloaded
from portfolio.models import Portfolio, Search, SortKey
from portfolio.storage.database import Database
from portfolio.storage.deadline import time_left
from portfolio.storage.documents import PROJECTION, Document, from_document
from portfolio.storage.indexes import CASE_INSENSITIVE, IGNORING_SPACES
from portfolio.storage.parallel_search import PARALLEL_THRESHOLD, ParallelSearch, merge

_NEWEST_FIRST = {"dateCreated": -1, "_id": -1}
# Matches every document, with or without a date. With this condition MongoDB searches names in the
# keys of the index of pages, and fetches only the documents that match.
_ANY_DATE = {"$gte": MinKey()}
# A page that ends deeper is not searched in parallel, since both halves would be read that deep.
_MAX_PARALLEL_DEPTH = 2000
# A search for a substring holds up to two connections: half of the pool stays for other calls.
_CONNECTIONS_PER_SEARCH = 4
_QUEUE_TIMEOUT_S = 0.5


class PortfolioSearch:
    """Finds stored portfolios.

    Args:
        database: where they are stored.
        parallel_threshold: from how many on a search for a substring runs in parallel.
        substring_searches: the most searches for substrings at once; as many as use half of the
            pool by default.
        queue_timeout_s: how many seconds others wait.
    """

    def __init__(
        self,
        database: Database,
        *,
        parallel_threshold: int = PARALLEL_THRESHOLD,
        substring_searches: int | None = None,
        queue_timeout_s: float = _QUEUE_TIMEOUT_S,
    ) -> None:
        if substring_searches is None:
            substring_searches = max(database.pool.max // _CONNECTIONS_PER_SEARCH, 1)
        self._database = database
        self._parallel_search = ParallelSearch(database, parallel_threshold)
        self._substring_searches = threading.BoundedSemaphore(substring_searches)
        self._queue_timeout_s = queue_timeout_s

    def find(self, search: Search, limit: int) -> list[Portfolio]:
        """Return up to ``limit`` portfolios that match, newest first, from the search's offset."""
        with self._limit(search):
            documents = self._find_page(search, search.offset, limit)
        return [from_document(document) for document in documents]

    def find_first_pages(self, searches: Sequence[Search]) -> dict[Search, list[Portfolio]]:
        """Return what several searches for a name find from offset 0, with one query.

        Returns:
            the portfolios of each, newest first. Nothing where they would not fit one page, or
            where a name equals a wanted one by the collation alone.
        """
        names = {str(search.name).lower() for search in searches}
        found: dict[str, list[Portfolio]] = {name: [] for name in names}
        limit = max(search.limit for search in searches)
        filter = {"name": {"$in": list(names)}}
        documents = self._find_newest(filter, limit=limit + 1, collation=CASE_INSENSITIVE.document)
        if len(documents) > limit:
            return {}
        for document in documents:
            portfolio = from_document(document)
            name = portfolio.name.lower()
            if name not in found:
                return {}
            found[name].append(portfolio)
        return {search: found[str(search.name).lower()] for search in searches}

    def find_after(
        self, search: Search, after: SortKey | None
    ) -> tuple[list[Portfolio], SortKey | None]:
        """Return the page after a sort key; its depth does not add to the cost.

        Args:
            search: what to find, and how many at most; its offset is ignored.
            after: the sort key of the last portfolio that was seen; None begins at the newest.

        Returns:
            the portfolios, newest first, and the sort key of the last if more follow.
        """
        limit = search.limit + 1
        with self._limit(search):
            if after is None:
                documents = self._find_page(search, 0, limit)
            else:
                filter, options = self._criteria(search)
                # With the criteria in each branch, MongoDB merges two scans of an index instead of
                # filtering a long one.
                older = {"$or": [filter | branch for branch in _after(after)]}
                documents = self._find_newest(older, limit=limit, **options)
        page = documents[: search.limit]
        end = None
        if len(documents) > search.limit:
            end = SortKey(page[-1].get("dateCreated"), page[-1]["_id"])
        return [from_document(document) for document in page], end

    def count(self, search: Search) -> int:
        """Return how many portfolios match; without a name, from the collection's metadata."""
        filter, options = self._criteria(search)
        if not filter:
            return self._database.run(self._database.count, retry=True)
        with self._limit(search):
            if search.name_like is not None:
                halves = self._parallel_search.run(
                    lambda half, hint: self._count(filter | half, hint=hint)
                )
                if halves is not None:
                    return sum(halves)
            return self._count(filter, **options)

    def find_by_names(self, names: Sequence[str], limit: int) -> list[Portfolio]:
        """Return up to ``limit`` portfolios with one of ``names``, ignoring case and all spaces."""
        documents = self._database.find(
            {"name": {"$in": names}},
            projection=PROJECTION,
            limit=limit,
            collation=IGNORING_SPACES.document,
        )
        return [from_document(document) for document in documents]

    @contextmanager
    def _limit(self, search: Search) -> Iterator[None]:
        """Limit the concurrent searches for substrings; other searches run at once.

        Raises:
            DeadlineExceeded: the deadline passed while it waited for its turn.
            Overloaded: too many are in flight.
        """
        if search.name_like is None:
            yield
            return
        if not self._substring_searches.acquire(timeout=min(time_left(), self._queue_timeout_s)):
            if not time_left():
                raise DeadlineExceeded
            raise Overloaded("Too many searches are in flight")
        try:
            yield
        finally:
            self._substring_searches.release()

    def _criteria(self, search: Search) -> tuple[Document, Document]:
        if search.name is not None:
            return {"name": search.name}, {"collation": CASE_INSENSITIVE.document}
        if search.name_like is not None:
            pattern = {"$regex": re.escape(search.name_like), "$options": "i"}
            return {"dateCreated": _ANY_DATE, "name": pattern}, {}
        return {}, {}

    def _count(self, filter: Document, **options: Any) -> int:
        count = self._database.portfolios.count_documents
        return self._database.run(lambda: count(filter, **options), retry=True, is_read=True)

    def _find_page(self, search: Search, skip: int, limit: int) -> list[Document]:
        """Return up to ``limit`` documents that match, newest first, after the first ``skip``."""
        filter, options = self._criteria(search)
        if search.name_like is not None and skip + limit <= _MAX_PARALLEL_DEPTH:
            halves = self._parallel_search.run(
                lambda half, hint: self._find_newest(filter | half, limit=skip + limit, hint=hint)
            )
            if halves is not None:
                return merge(*halves)[skip : skip + limit]
        return self._find_newest(filter, skip=skip, limit=limit, **options)

    def _find_newest(self, filter: Document, *, limit: int, **options: Any) -> list[Document]:
        return self._database.find(
            filter,
            projection=PROJECTION,
            sort=_NEWEST_FIRST,
            limit=limit,
            **options,
        )


def _after(after: SortKey) -> list[Document]:
    # A client's cursor has these values: as operands of $eq and $literal they can't act as
    # operators. Expressions compare values of all types, as sorting does. An array sorts by its
    # greatest element, and a missing date as null, which is what $max makes of them.
    stored, end = {"$max": ["$dateCreated"]}, {"$max": [{"$literal": after.created}]}
    same_date = {"_id": {"$lt": after.identity}, "$expr": {"$eq": [stored, end]}}
    earlier: Document = {"$expr": {"$lt": [stored, end]}}
    if after.created is None:
        earlier["dateCreated"] = {"$lte": MinKey()}
    elif not isinstance(after.created, list):
        # For the index: all arrays and missing dates that are earlier than a date match, too.
        above = {"$lt": ["$dateCreated", {"$literal": after.created}]}
        earlier = {"$expr": {"$and": [above, *earlier.values()]}}
    if not isinstance(after.created, list):
        same_date["dateCreated"] = {"$eq": after.created}
    return [same_date, earlier]
