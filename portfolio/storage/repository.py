"""Reads, updates and deletes of portfolios."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import pymongo
from bson import MinKey, ObjectId
from pymongo import ReturnDocument
from pymongo.cursor import Cursor

from portfolio.errors import DeadlineExceeded, NotFound, Overloaded, VersionConflict
from portfolio.models import Portfolio, PortfolioUpdate, Search, SortKey
from portfolio.storage.batching import BatchLoader
from portfolio.storage.client import COLLECTION, READ_CONCERN, Database
from portfolio.storage.documents import (
    CODEC_OPTIONS,
    PROJECTION,
    Document,
    from_document,
    parse_id,
    to_changes,
)
from portfolio.storage.guard import time_left
from portfolio.storage.indexes import CASE_INSENSITIVE, IGNORING_SPACES
from portfolio.storage.parallel_search import PARALLEL_THRESHOLD, ParallelSearch, merge

T = TypeVar("T")

_NEWEST_FIRST = {"dateCreated": -1, "_id": -1}
_BY_ID = {"_id": 1}
# Matches every document, with or without a date. With this condition MongoDB searches names in the
# keys of the index of pages, and fetches only the documents that match.
_ANY_DATE = {"$gte": MinKey()}
# A page that ends deeper is not searched in parallel, since both halves would be read that deep.
_MAX_PARALLEL_DEPTH = 2000
_BATCH_SIZE = 1000
# A search for a substring holds up to two connections: half of the pool stays for other calls.
_CONNECTIONS_PER_SEARCH = 4
_QUEUE_TIMEOUT_S = 0.5


class PortfolioRepository:
    """The stored portfolios.

    Reads of a single batch are sent as ``find`` commands, without the overhead of PyMongo's
    cursors; the guard retries instead of PyMongo.

    Args:
        database: where they are stored.
        batch_size: how many one batch of all portfolios has.
        parallel_threshold: from how many on a search for a substring runs in parallel.
    """

    def __init__(
        self,
        database: Database,
        *,
        batch_size: int = _BATCH_SIZE,
        parallel_threshold: int = PARALLEL_THRESHOLD,
    ) -> None:
        self._database = database
        self._batch_size = batch_size
        self._by_id = BatchLoader(self._find_by_ids)
        self._parallel_search = ParallelSearch(database, parallel_threshold)
        self._substring_searches = threading.BoundedSemaphore(
            max(database.pool.max // _CONNECTIONS_PER_SEARCH, 1)
        )

    def get(self, id: str) -> Portfolio | None:
        """Return the portfolio with this id, or None."""
        parsed = parse_id(id)
        return self._by_id.get(parsed) if parsed is not None else None

    def get_all(self, ids: Sequence[str]) -> dict[str, Portfolio]:
        """Return the stored portfolios with these ids, each under its id as it is given."""
        parsed = {text: id for text in ids if (id := parse_id(text)) is not None}
        found = self._find_by_ids(list(set(parsed.values()))) if parsed else {}
        return {text: found[id] for text, id in parsed.items() if id in found}

    def existing_ids(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that are stored, as they are given."""
        parsed = {text: id for text in ids if (id := parse_id(text)) is not None}
        if not parsed:
            return set()
        filter = {"_id": {"$in": list(parsed.values())}}
        documents = self._find_documents(filter, projection={"_id": 1}, limit=len(parsed))
        stored = {document["_id"] for document in documents}
        return {text for text, id in parsed.items() if id in stored}

    def find_by_names(self, names: Sequence[str], limit: int) -> list[Portfolio]:
        """Return up to ``limit`` portfolios with one of ``names``, ignoring case and all spaces."""
        documents = self._find_documents(
            {"name": {"$in": names}},
            projection=PROJECTION,
            limit=limit,
            collation=IGNORING_SPACES.document,
        )
        return [from_document(document) for document in documents]

    def find(self, search: Search, limit: int) -> list[Portfolio]:
        """Return up to ``limit`` portfolios that match, newest first, from the search's offset."""
        with self._limit(search):
            documents = self._find_page(search, search.offset, limit)
        return [from_document(document) for document in documents]

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
            count = self._database.portfolios.estimated_document_count
            return self._database.run(count, retry=True)
        with self._limit(search):
            if search.name_like is not None:
                halves = self._parallel_search.run(
                    lambda half, hint: self._count(filter | half, hint=hint)
                )
                if halves is not None:
                    return sum(halves)
            return self._count(filter, **options)

    def batches(self) -> Iterator[list[Portfolio]]:
        """Yield all portfolios in the order of insertion, in batches.

        The socket timeout bounds each batch. There is no deadline, since a server would apply it to
        all batches of a cursor together.
        """

        def begin() -> tuple[Cursor[Document], list[Portfolio]]:
            cursor = self._database.portfolios.find({}, PROJECTION, batch_size=self._batch_size)
            cursor.sort([("$natural", 1)])
            return cursor, take(cursor)

        def take(cursor: Cursor[Document]) -> list[Portfolio]:
            with pymongo.timeout(None):
                return [from_document(document) for document in islice(cursor, self._batch_size)]

        cursor, batch = self._database.read(begin)
        with cursor:
            while batch:
                yield batch
                batch = self._database.run(lambda: take(cursor), retry=False)

    def batches_by_id(self, after: str | None = None) -> Iterator[list[Portfolio]]:
        """Yield all portfolios in the order of their ids, in batches.

        Each batch is a query of its own, which can be retried where a cursor would be lost. What is
        stored all the time is yielded once.

        Args:
            after: the id of the last portfolio that was seen; None begins at the lowest.

        Raises:
            Unavailable: MongoDB is down; the caller can resume after the last id.
        """
        beyond: Document = {} if after is None else {"_id": {"$gt": ObjectId(after)}}
        while documents := self._find_documents(
            beyond, projection=PROJECTION, sort=_BY_ID, limit=self._batch_size
        ):
            yield [from_document(document) for document in documents]
            beyond = {"_id": {"$gt": documents[-1]["_id"]}}

    def update(self, id: str, update: PortfolioUpdate) -> Portfolio:
        """Apply ``update`` where its version is the stored one; return the portfolio as it is then.

        Raises:
            NotFound: there is no such portfolio.
            VersionConflict: its version is another one.
        """

        def find_and_update(unchanged: Document) -> Document | None:
            return self._database.portfolios.find_one_and_update(
                unchanged,
                {"$set": to_changes(update)},
                projection=PROJECTION,
                return_document=ReturnDocument.AFTER,
            )

        return from_document(self._change(id, update.version, find_and_update))

    def delete(self, id: str, version: int) -> None:
        """Delete where ``version`` is the stored one.

        Raises:
            NotFound: there is no such portfolio.
            VersionConflict: its version is another one.
        """

        def delete(unchanged: Document) -> int:
            return self._database.portfolios.delete_one(unchanged).deleted_count

        self._change(id, version, delete)

    def _change(self, id: str, version: int, change: Callable[[Document], T | None]) -> T:
        """Apply ``change`` if ``version`` is the portfolio's version in responses.

        It gets a filter for the document, and returns nothing true where that matches none.
        """
        parsed = parse_id(id)
        if parsed is None:
            raise NotFound

        def apply(stored: Any) -> T | None:
            unchanged = {"_id": parsed, "version": stored}
            return self._database.run(lambda: change(unchanged), retry=False)

        if changed := apply(version):
            return changed
        documents = self._find_documents({"_id": parsed}, projection=PROJECTION, limit=1)
        if not documents:
            raise NotFound
        # Another service may have stored the version in another type.
        if from_document(documents[0]).version == version and (
            changed := apply({"$eq": documents[0].get("version")})
        ):
            return changed
        raise VersionConflict

    def _find_by_ids(self, identities: Sequence[ObjectId]) -> dict[ObjectId, Portfolio]:
        # MongoDB finds one id without planning.
        wanted = identities[0] if len(identities) == 1 else {"$in": identities}
        documents = self._find_documents(
            {"_id": wanted}, projection=PROJECTION, limit=len(identities)
        )
        return {document["_id"]: from_document(document) for document in documents}

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
        if not self._substring_searches.acquire(timeout=min(time_left(), _QUEUE_TIMEOUT_S)):
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
        return self._database.read(lambda: count(filter, **options))

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
        return self._find_documents(
            filter, projection=PROJECTION, sort=_NEWEST_FIRST, limit=limit, **options
        )

    def _find_documents(self, filter: Document, *, limit: int, **options: Any) -> list[Document]:
        def find() -> list[Document]:
            reply = self._database.database.command(
                "find",
                COLLECTION,
                filter=filter,
                limit=limit,
                batchSize=limit,
                singleBatch=True,
                readConcern=READ_CONCERN.document,
                codec_options=CODEC_OPTIONS,
                **options,
            )
            return reply["cursor"]["firstBatch"]  # type: ignore[no-any-return]

        return self._database.read(find)


def _after(after: SortKey) -> list[Document]:
    # A client's cursor has these values: as operands they can't act as operators.
    same_date = {"dateCreated": {"$eq": after.created}, "_id": {"$lt": after.identity}}
    if after.created is None:
        return [same_date]
    # $lt as an expression compares values of all types, as sorting does; a missing date sorts below
    # all dates. $lt as a query operator would find dates only.
    earlier = {"$expr": {"$lt": ["$dateCreated", {"$literal": after.created}]}}
    return [same_date, earlier]
