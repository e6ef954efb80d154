"""Reads, updates and deletes of portfolios."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import pymongo
from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.cursor import Cursor

from portfolio.errors import NotFound, Overloaded, VersionConflict
from portfolio.models import Portfolio, PortfolioUpdate
from portfolio.scheduling import yield_to_hub
from portfolio.storage.database import Database
from portfolio.storage.documents import PROJECTION, Document, from_document, to_changes

T = TypeVar("T")

_ID = {"_id": 1}
# Only a thousand lists, or a MongoDB that hangs, make one wait this long.
_TURN_TIMEOUT_S = 30.0
# The most characters of names in a batch: other services may have stored names of megabytes.
_MAX_NAMES = 1_000_000
_LOWEST_ID = ObjectId(bytes(12))


class PortfolioRepository:
    """The stored portfolios; ``batch_size`` is how many one batch of all of them has."""

    def __init__(self, database: Database, *, batch_size: int = 1000) -> None:
        self._database = database
        self._batch_size = batch_size
        self._turn = threading.Lock()

    def get_all(self, ids: Sequence[str]) -> dict[str, Portfolio]:
        """Return the stored portfolios with these ids, each under its id in lower case."""
        documents = self._find_by_ids(ids, PROJECTION)
        return {portfolio.id: portfolio for portfolio in map(from_document, documents)}

    def existing_ids(self, ids: Sequence[str]) -> set[str]:
        """Return those of ``ids`` that are stored, in lower case."""
        return {str(document["_id"]) for document in self._find_by_ids(ids, _ID)}

    def batches(self) -> Iterator[list[Portfolio]]:
        """Yield all portfolios in the order of insertion, in batches.

        Concurrent callers take turns after their first batch: decoding one takes milliseconds, and
        other requests would wait for those of all lists.

        The socket timeout bounds each batch. There is no deadline, since a server would apply it to
        all batches of a cursor together.
        """

        def begin() -> tuple[Cursor[Document], list[Portfolio]]:
            cursor = self._database.portfolios.find({}, PROJECTION, batch_size=self._batch_size)
            cursor.sort([("$natural", 1)])
            return cursor, take(cursor)

        def take(cursor: Cursor[Document]) -> list[Portfolio]:
            batch, size = [], 0
            with pymongo.timeout(None):
                for portfolio in map(from_document, islice(cursor, self._batch_size)):
                    batch.append(portfolio)
                    size += len(portfolio.name)
                    if size > _MAX_NAMES:
                        break
            return batch

        def take_in_turn(cursor: Cursor[Document]) -> list[Portfolio]:
            yield_to_hub()  # else the caller that released the lock would get it again
            if not self._turn.acquire(timeout=_TURN_TIMEOUT_S):
                raise Overloaded("Too many lists are in flight")
            try:
                return self._database.run("getMore", lambda: take(cursor), retry=False)
            finally:
                self._turn.release()

        cursor, batch = self._database.run("find", begin, retry=True, is_read=True)
        with cursor:
            while batch:
                yield batch
                batch = take_in_turn(cursor)

    def batches_by_id(self, after: str | None = None) -> Iterator[list[Portfolio]]:
        """Yield all portfolios in the order of their ids, in batches.

        Each batch is a query of its own, which can be retried where a cursor would be lost. What is
        stored all the time is yielded once.

        Args:
            after: the id of the last portfolio that was seen; None begins at the lowest.

        Raises:
            Unavailable: MongoDB is down; the caller can resume after the last id.
        """
        # Always bounded by an ObjectId: MongoDB compares ids of one type only, so that no portfolio
        # would be found after an id of another type.
        beyond = {"_id": {"$gte": _LOWEST_ID} if after is None else {"$gt": ObjectId(after)}}
        while documents := self._database.find(beyond, sort=_ID, limit=self._batch_size):
            yield list(map(from_document, documents))
            beyond = {"_id": {"$gt": documents[-1]["_id"]}}

    def update(self, id: str, update: PortfolioUpdate) -> Portfolio:
        """Apply ``update`` and return the portfolio as it is then; see ``_change``."""

        def find_and_update(unchanged: Document) -> Document | None:
            return self._database.portfolios.find_one_and_update(
                unchanged,
                {"$set": to_changes(update)},
                projection=PROJECTION,
                return_document=ReturnDocument.AFTER,
            )

        return from_document(self._change("findAndModify", id, update.version, find_and_update))

    def delete(self, id: str, version: int) -> None:
        """Delete the portfolio; see ``_change``."""

        def delete(unchanged: Document) -> int:
            return self._database.portfolios.delete_one(unchanged).deleted_count

        self._change("delete", id, version, delete)

    def _change(
        self, name: str, id: str, version: int, change: Callable[[Document], T | None]
    ) -> T:
        """Apply ``change`` if ``version`` is the portfolio's version in responses.

        ``change`` gets a filter for the document, and returns a false value if none matches it.

        Raises:
            NotFound: there is no such portfolio.
            VersionConflict: its version is another one.
        """

        def apply(unchanged: Document) -> T | None:
            filter = {"_id": ObjectId(id)} | unchanged
            return self._database.run(name, lambda: change(filter), retry=False)

        if not ObjectId.is_valid(id):
            raise NotFound
        # A number also matches an array that has it as an element.
        if changed := apply({"version": version, "version.0": {"$exists": False}}):
            return changed
        documents = self._find_by_ids([id], PROJECTION)
        if not documents:
            raise NotFound
        # Another service may have stored the version in another type.
        if from_document(documents[0]).version == version and (
            changed := apply({"version": {"$eq": documents[0].get("version")}})
        ):
            return changed
        raise VersionConflict

    def _find_by_ids(self, ids: Sequence[str], projection: Document) -> list[Document]:
        parsed = list(map(ObjectId, filter(ObjectId.is_valid, ids)))
        if not parsed:
            return []
        # MongoDB finds one id without planning.
        wanted = parsed[0] if len(parsed) == 1 else {"$in": parsed}
        return self._database.find({"_id": wanted}, limit=len(parsed), projection=projection)
