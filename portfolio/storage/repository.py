"""Every query that concerns portfolios, and no rule."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pymongo
from bson import MaxKey, MinKey, ObjectId, Regex, Timestamp
from pymongo import ReturnDocument
from pymongo.cursor import Cursor

from portfolio.errors import Unavailable
from portfolio.models import DEFAULT_VERSION, Portfolio, PortfolioUpdate, Search, SortKey
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
from portfolio.storage.indexes import CASE_INSENSITIVE
from portfolio.storage.parallel_search import ParallelSearch

_NEWEST_FIRST = {"dateCreated": -1, "_id": -1}
_BY_ID = {"_id": 1}
# True of every document, with or without a date. Being asked for dates, MongoDB looks for the name
# in the keys of the index of pages and fetches what matches alone, which halves a search for a rare
# substring and takes a third of the time to count one: 250 and 100 ms over 100,000 documents.
_ANY_DATE = {"$gte": MinKey()}
# What sorts above every date.
_ABOVE_DATES = (Timestamp, Regex, MaxKey)
# A page that ends deeper is not put together from halves, since either would be read as deep.
_MOST_OF_A_HALF = 2000
_STREAM_BATCH = 1000
# A search for a substring takes up to two connections for as long as its deadline allows. In this
# share of the pool, half of its connections at least stay for all other calls.
_SHARE_OF_POOL = 4
# A search waits no longer for its turn: searches that are fast have had theirs by then.
_TURN_TIMEOUT_S = 0.5


class PortfolioRepository:
    """Portfolios in MongoDB.

    Reads of one page go out as plain ``find`` commands: PyMongo's cursor spends 80 of 200
    microseconds on sessions and bookkeeping that a single batch does not need, and its retry is
    made up for by the guard's.

    Args:
        database: runs each call under the deadline, the breaker and the retry rule.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id = BatchLoader(self._find_by_ids)
        self._parallel_search = ParallelSearch(database)
        self._substring_searches = threading.BoundedSemaphore(
            max(database.pool.max // _SHARE_OF_POOL, 1)
        )

    def get(self, id: str) -> Portfolio | None:
        """Return the portfolio with this id, or None."""
        parsed = parse_id(id)
        return self._by_id.get(parsed) if parsed is not None else None

    def existing_ids(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that are stored, as they are given."""
        parsed = {text: id for text in ids if (id := parse_id(text)) is not None}
        if not parsed:
            return set()
        filter = {"_id": {"$in": list(parsed.values())}}
        documents = self._find_documents(filter, projection={"_id": 1}, limit=len(parsed))
        stored = {document["_id"] for document in documents}
        return {text for text, id in parsed.items() if id in stored}

    def existing_names(self, names: Sequence[str]) -> list[str]:
        """Return the stored names that equal one of ``names``, without regard to case."""

        def distinct() -> list[str]:
            return self._database.portfolios.distinct(
                "name", {"name": {"$in": list(names)}}, collation=CASE_INSENSITIVE
            )

        return self._database.read(distinct)

    def find(self, search: Search, limit: int) -> list[Portfolio]:
        """Return up to ``limit`` portfolios that match, newest first, from the search's offset."""
        with self._turn(search):
            documents = self._find_page(search, search.offset, limit)
        return [from_document(document) for document in documents]

    def find_after(
        self, search: Search, after: SortKey | None
    ) -> tuple[list[Portfolio], SortKey | None]:
        """Return the page after a position, at the same cost however deep it lies.

        Args:
            search: what to find, and how many at most; its offset has no meaning here.
            after: the position of the last portfolio that was seen; None begins at the newest.

        Returns:
            the portfolios, newest first, and the position of the last if more lie beyond it.
        """
        limit = search.limit + 1
        with self._turn(search):
            if after is None:
                documents = self._find_page(search, 0, limit)
            else:
                filter, options = self._criteria(search)
                # The criteria go into each branch: MongoDB then merges two scans of an index, where
                # it would else filter one long scan.
                beyond = {"$or": [filter | branch for branch in _after(after)]}
                documents = self._find_newest(beyond, limit=limit, **options)
        page = documents[: search.limit]
        position = None
        if len(documents) > search.limit:
            position = SortKey(page[-1].get("dateCreated"), page[-1]["_id"])
        return [from_document(document) for document in page], position

    def count(self, search: Search) -> int:
        """Return how many portfolios match; without a name from the collection's own count."""
        filter, options = self._criteria(search)
        if not filter:
            collection = self._database.portfolios
            return self._database.run(collection.estimated_document_count, retry=True)
        with self._turn(search):
            if search.name_like is not None:
                halves = self._parallel_search.run(
                    lambda half, hint: self._count(filter | half, hint=hint)
                )
                if halves is not None:
                    return sum(halves)
            return self._count(filter, **options)

    def batches(self) -> Iterator[list[Portfolio]]:
        """Yield every portfolio in the order of insertion, in lists of up to a thousand.

        Each batch waits no longer than the socket's time-out; the whole has no deadline, since a
        server counts one against all batches of a cursor together.
        """

        def begin() -> tuple[Cursor[Document], list[Portfolio]]:
            cursor = self._database.portfolios.find({}, PROJECTION, batch_size=_STREAM_BATCH)
            cursor.sort([("$natural", 1)])
            return cursor, take(cursor)

        def take(cursor: Cursor[Document]) -> list[Portfolio]:
            with pymongo.timeout(None):
                return [from_document(document) for document in islice(cursor, _STREAM_BATCH)]

        cursor, batch = self._database.read(begin)
        with cursor:
            while batch:
                yield batch
                batch = self._database.run(lambda: take(cursor), retry=False)

    def batches_by_id(self, after: str | None = None) -> Iterator[list[Portfolio]]:
        """Yield the portfolios in the order of their ids, in lists of up to a thousand.

        Each list is a query of its own, which is tried again where a cursor would be lost. What is
        stored from beginning to end comes once.

        Args:
            after: the id of the last portfolio that was seen; None begins at the lowest.

        Raises:
            Unavailable: MongoDB is away; what was yielded stands, and its last id leads on.
        """
        beyond: Document = {} if after is None else {"_id": {"$gt": ObjectId(after)}}
        while documents := self._find_documents(
            beyond, projection=PROJECTION, sort=_BY_ID, limit=_STREAM_BATCH
        ):
            yield [from_document(document) for document in documents]
            beyond = {"_id": {"$gt": documents[-1]["_id"]}}

    def update(self, id: str, update: PortfolioUpdate) -> Portfolio | None:
        """Apply ``update`` where its version is the stored one, in one operation.

        Returns:
            the portfolio as it is now, or None where id or version matched nothing.
        """
        parsed = parse_id(id)
        if parsed is None:
            return None

        def find_and_update() -> Document | None:
            return self._database.portfolios.find_one_and_update(
                _unchanged(parsed, update.version),
                {"$set": to_changes(update)},
                projection=PROJECTION,
                return_document=ReturnDocument.AFTER,
            )

        document = self._database.run(find_and_update, retry=False)
        return from_document(document) if document else None

    def delete(self, id: str, version: int) -> bool:
        """Delete where ``version`` is the stored one, in one operation; tell whether it was."""
        parsed = parse_id(id)
        if parsed is None:
            return False

        def delete() -> int:
            return self._database.portfolios.delete_one(_unchanged(parsed, version)).deleted_count

        return self._database.run(delete, retry=False) == 1

    def _find_by_ids(self, identities: Sequence[ObjectId]) -> dict[ObjectId, Portfolio]:
        # MongoDB finds one id without planning.
        wanted = identities[0] if len(identities) == 1 else {"$in": identities}
        documents = self._find_documents(
            {"_id": wanted}, projection=PROJECTION, limit=len(identities)
        )
        return {document["_id"]: from_document(document) for document in documents}

    @contextmanager
    def _turn(self, search: Search) -> Iterator[None]:
        """Let a search for a substring run while not too many others do; all else runs at once.

        Raises:
            Unavailable: too many are in flight.
        """
        if search.name_like is None:
            yield
            return
        if not self._substring_searches.acquire(timeout=min(time_left(), _TURN_TIMEOUT_S)):
            raise Unavailable("Too many searches are in flight")
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
        collection = self._database.portfolios
        return self._database.read(lambda: collection.count_documents(filter, **options))

    def _find_page(self, search: Search, skip: int, limit: int) -> list[Document]:
        """Return up to ``limit`` of what matches, newest first, ``skip`` of it left out."""
        filter, options = self._criteria(search)
        if search.name_like is not None and skip + limit <= _MOST_OF_A_HALF:
            halves = self._parallel_search.run(
                lambda half, hint: self._find_newest(filter | half, limit=skip + limit, hint=hint)
            )
            if halves is not None:
                return _joined(*halves)[skip : skip + limit]
        return self._find_newest(filter, skip=skip, limit=limit, **options)

    def _find_newest(self, filter: Document, *, limit: int, **options: Any) -> list[Document]:
        return self._find_documents(
            filter, projection=PROJECTION, sort=_NEWEST_FIRST, limit=limit, **options
        )

    def _find_documents(self, filter: Document, *, limit: int, **options: Any) -> list[Document]:
        database = self._database

        def find() -> list[Document]:
            reply = database.database.command(
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

        return database.read(find)


def _joined(newer: list[Document], older: list[Document]) -> list[Document]:
    """Return what was found in either half, newest first."""
    above = [each for each in older if isinstance(each.get("dateCreated"), _ABOVE_DATES)]
    return [*above, *newer, *older[len(above) :]]


def _unchanged(identity: ObjectId, version: int) -> Document:
    """Match the portfolio, if ``version`` is the one that clients are shown."""
    shown: Any = {"$in": [version, None]} if version == DEFAULT_VERSION else version
    return {"_id": identity, "version": shown}


def _after(after: SortKey) -> list[Document]:
    # A cursor brings these values: as operands they can't be operators.
    same_date = {"dateCreated": {"$eq": after.created}, "_id": {"$lt": after.identity}}
    if after.created is None:
        return [same_date]
    # An expression compares values of any kind as sorting does: a date that is missing, or is no
    # date, lies beyond all dates. The query operator $lt would find dates alone.
    earlier = {"$expr": {"$lt": ["$dateCreated", {"$literal": after.created}]}}
    return [same_date, earlier]
