"""Creation of portfolios: a bulk is stored whole or not at all, and once even if it is retried.

Ids are made before the first attempt, so that a retry can't store a second portfolio. Replica sets
and sharded clusters store a bulk in a transaction; ``StandaloneWriter`` has the way without.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain

from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from portfolio.models import IdempotencyKey, IdempotencyRecord, Portfolio
from portfolio.scheduling import run_later
from portfolio.storage.batching import BatchLoader
from portfolio.storage.connection import READ_CONCERN, READ_PREFERENCE, WRITE_CONCERN
from portfolio.storage.database import Database
from portfolio.storage.documents import record_from_document, record_id
from portfolio.storage.inserts import (
    StandaloneWriter,
    await_majority,
    insert,
    insert_each,
    insert_missing,
    insert_record,
    is_stored,
)

# The most bulks in one transaction.
_MAX_BULKS = 16

# What one call stores as a whole; hashable.
Bulk = tuple[Portfolio, ...]


class PortfolioWriter:
    """Stores new portfolios.

    Concurrent calls share one acknowledged write: the wait for the journal and for a majority costs
    more than the documents do.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._standalone = StandaloneWriter(database)
        self._singles = BatchLoader(self._insert_singles)
        self._bulks = BatchLoader(self._insert_bulks, max_callers=_MAX_BULKS)

    def insert(self, portfolio: Portfolio) -> None:
        """Store one portfolio."""
        refusal = self._singles.get(portfolio)
        if refusal is not None:
            raise refusal

    def insert_all(self, portfolios: Sequence[Portfolio]) -> None:
        """Store all portfolios or none: in a transaction, or by deleting what was stored."""
        has_transactions = self._database.has_transactions
        if has_transactions and self._bulks.get(tuple(portfolios)):
            return
        store = self._insert_in_transaction if has_transactions else self._standalone.insert_all
        store(portfolios)

    def insert_missing(self, portfolios: Sequence[Portfolio]) -> None:
        """Store those of ``portfolios`` whose ids are not stored; may run any number of times.

        It uses no transaction, which a killed client would leave open with its documents locked,
        and deletes nothing: another client may have stored the same.
        """
        task = partial(insert_missing, self._database, portfolios)
        self._database.run("insert", task, retry=True)

    def insert_once(self, record: IdempotencyRecord) -> None:
        """Store the portfolios of ``record``, and the record itself.

        Raises:
            KeyTakenError: a record with this key is stored, or is being stored.
        """
        if not self._database.has_transactions:
            self._standalone.insert_once(record)
        else:
            self._insert_in_transaction(record.portfolios, record._replace(done=True))

    def complete(self, record: IdempotencyRecord) -> None:
        """Store what is missing of a creation that was abandoned on a standalone."""
        self._database.run("insert", lambda: self._standalone.complete(record), retry=True)

    def find_record(self, key: IdempotencyKey) -> IdempotencyRecord | None:
        """Return the record with this key, or None where no majority has one."""
        find = partial(self._database.idempotency.find_one, {"_id": record_id(key)})
        document = self._database.run("find", find, retry=True, is_read=True)
        return record_from_document(document, key) if document is not None else None

    def _insert_singles(self, portfolios: Sequence[Portfolio]) -> dict[Portfolio, BulkWriteError]:
        """Store portfolios that are independent of each other; return why some were refused."""
        task = partial(insert_each, self._database, portfolios)
        return self._database.run("insert", task, retry=True)

    def _insert_bulks(self, bulks: Sequence[Bulk]) -> dict[Bulk, bool]:
        """Store all bulks in one transaction; return those that were stored: all or none."""
        try:
            self._insert_in_transaction(list(chain.from_iterable(bulks)))
        except PyMongoError:
            return {}  # one of the bulks was refused
        return dict.fromkeys(bulks, True)

    def _insert_in_transaction(
        self, portfolios: Sequence[Portfolio], record: IdempotencyRecord | None = None
    ) -> None:
        def attempt() -> None:
            session = self._database.client.start_session()
            try:
                session.start_transaction(READ_CONCERN, WRITE_CONCERN, READ_PREFERENCE)
                # First: they tell an earlier attempt of this creation from others with its key.
                insert(self._database, portfolios, session=session)
                if record is not None:
                    insert_record(self._database, record, session)
                session.commit_transaction()
            except OperationFailure as error:
                if not is_stored(error):
                    raise
                await_majority(self._database, portfolios[:1])
            finally:
                # This aborts an open transaction, which would lock its documents for a minute. The
                # deadline may have passed, so it is done outside of it, in the background.
                if session.in_transaction:
                    run_later(0, session.end_session)
                else:
                    session.end_session()

        self._database.run("transaction", attempt, retry=True)
