"""MongoDB as the service calls it: by a deadline, through a circuit breaker, with retries."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pybreaker
import pymongo
from bson import ObjectId
from pymongo import MongoClient
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.topology_description import TopologyDescription

from portfolio.config import Settings
from portfolio.errors import DeadlineExceeded, Unavailable
from portfolio.scheduling import deadline, run_later
from portfolio.storage.breaker import Breaker
from portfolio.storage.connection import COLLECTION, READ_CONCERN, Connection
from portfolio.storage.documents import (
    CODEC_OPTIONS,
    IDEMPOTENCY_INDEXES,
    INDEXES,
    PROJECTION,
    Document,
)
from portfolio.storage.failures import describe, is_forbidden, is_outage
from portfolio.storage.health_monitor import HealthMonitor

log = logging.getLogger(__name__)

T = TypeVar("T")

# A linearizable read waits until a majority has all that the primary had before it.
_LINEARIZABLE = ReadConcern("linearizable")
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
# A million documents are indexed in seconds; this only ends a build that hangs.
_INDEX_TIMEOUT_S = 3600.0
_INDEX_RETRY_S = 60.0


class Database(Connection):
    """One worker's MongoDB.

    Attributes:
        server_version: MongoDB's version; empty until known.
        health: whether MongoDB is reachable.
        breaker: None where circuit breakers are switched off.
        on_attempt: called, if set, after each attempt of an operation with its name, its outcome
            (``success`` or ``failure``) and its duration in seconds.
    """

    def __init__(
        self, settings: Settings, client_factory: Callable[..., Any] = MongoClient
    ) -> None:
        super().__init__(settings, client_factory)
        self.server_version = ""
        self.health = HealthMonitor(self, self._on_ping)
        self.on_attempt: Callable[[str, str, float], None] | None = None
        self.breaker: Breaker | None = None
        if settings.enable_circuit_breaker:
            self.breaker = Breaker(
                "database",
                failures=settings.breaker_failures,
                reset_s=settings.breaker_reset_s,
                successes=settings.breaker_successes,
                counts=self._is_failure,
            )
        # What PyMongo saw of the servers when reads last were known to show all that was
        # acknowledged.
        self._known: TopologyDescription | None = None
        self._prepare_at = 0.0

    def start(self) -> None:
        """Open the pool and start the health monitor; to be called in each worker process."""
        self.health.start()

    def close(self) -> None:
        """Stop the health monitor and close every connection."""
        self.health.stop()
        super().close()

    @property
    def has_transactions(self) -> bool:
        """Whether the topology offers transactions; raise Unavailable if it is not known yet."""
        topology = self.topology
        if topology == "unknown":
            self.run("ping", lambda: self.client.admin.command("ping"), retry=True)
            topology = self.topology
        return topology in ("replica set", "sharded")

    def find(
        self, filter: Document, *, limit: int, projection: Document = PROJECTION, **options: Any
    ) -> list[Document]:
        """Return up to ``limit``, at least 1, of the portfolios' documents that match ``filter``.

        It sends one command, with ``options``. PyMongo's cursors cost more, and would retry what
        ``run`` retries already.

        Raises:
            Unavailable: as ``run`` does.
        """
        find = partial(
            self.database.command,
            "find",
            COLLECTION,
            filter=filter,
            projection=projection,
            limit=limit,
            batchSize=limit,
            singleBatch=True,
            readConcern=READ_CONCERN.document,
            codec_options=CODEC_OPTIONS,
            **options,
        )
        reply = self.run("find", find, retry=True, is_read=True)
        return reply["cursor"]["firstBatch"]  # type: ignore[no-any-return]

    def run(
        self, name: str, operation: Callable[[], T], *, retry: bool, is_read: bool = False
    ) -> T:
        """Run database calls under the request's deadline, the breaker and the retry rule.

        Args:
            name: what metrics call the operation: MongoDB's command, or ``transaction``.
            operation: makes the PyMongo calls, which inherit the deadline.
            retry: whether it may run again after an attempt of unknown outcome. Reads may, and
                inserts of documents that have ids.
            is_read: whether the result must show all that was acknowledged before an election. A
                new primary has all of it, but learns only later that a majority has it too: until
                then, reads with read concern majority return an older state.

        Raises:
            Unavailable: MongoDB is known to be down, the breaker is open, an outage lasts until
                the deadline, or the user of ``MONGODB_URI`` lacks a right.
            PyMongoError: any other failure.
        """
        if self.health.fails_fast:
            raise Unavailable
        try:
            attempt = partial(self._attempt, name, operation, retry, is_read)
            result = attempt() if self.breaker is None else self.breaker.call(attempt)
        except pybreaker.CircuitBreakerError:
            retry_after = self.breaker.retry_after if self.breaker else 1
            raise Unavailable("Database unavailable: circuit breaker open", retry_after) from None
        except PyMongoError as error:
            if not is_outage(error) and not is_forbidden(error):
                raise
            log.warning("database call failed", extra={"error": describe(error)})
            raise (DeadlineExceeded if error.timeout else Unavailable) from error
        self.health.last_success = time.monotonic()
        return result

    def ensure_indexes(self) -> list[str]:
        """Create the missing indexes and return the names of those of the portfolios."""
        with pymongo.timeout(_INDEX_TIMEOUT_S):
            self.idempotency.create_indexes(list(IDEMPOTENCY_INDEXES))
            return self.portfolios.create_indexes(list(INDEXES))

    def _attempt(self, name: str, operation: Callable[[], T], retry: bool, is_read: bool) -> T:
        end = deadline.get() or time.monotonic() + self._settings.request_timeout_ms / 1000
        pause = _FIRST_PAUSE_S
        while True:
            begun, outcome = time.monotonic(), "success"
            try:
                # At least 1 ms: PyMongo reads 0 as "no limit", and a passed deadline must time out.
                with pymongo.timeout(max(end - begun, 0.001)):
                    # Before the read: another thread may learn of a new primary during it.
                    known = self._known
                    result = operation()
                    seen = self.client.topology_description if is_read else known
                    if seen is known or not self._await_winner(known, seen):
                        return result
                    continue
            except PyMongoError as error:
                outcome = "failure"
                wait = pause * random.uniform(0.5, 1.0)
                if not retry or not is_outage(error) or time.monotonic() + wait >= end:
                    raise
            finally:
                if self.on_attempt is not None:
                    self.on_attempt(name, outcome, time.monotonic() - begun)
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _await_winner(
        self, known: TopologyDescription | None, seen: TopologyDescription | None
    ) -> bool:
        """Return whether there was an election since ``known``, so that a read must be repeated.

        Wait until its winner shows all that was acknowledged.
        """
        is_new = _election(seen) != _election(known)
        if is_new:
            self.portfolios.with_options(read_concern=_LINEARIZABLE).find_one({}, {"_id": 1})
        self._known = seen
        return is_new

    def _is_failure(self, error: BaseException) -> bool:
        """Whether ``error`` is a failure of MongoDB, not only of the call that raised it.

        A slow search that exceeds its own deadline, or waits for a connection too long, must not
        open the breaker for all others. Where MongoDB hangs, pings and server selections fail.
        """
        was_slow = (
            isinstance(error, PyMongoError)
            and error.timeout
            and not isinstance(error, ServerSelectionTimeoutError)
        )
        return is_outage(error) and not (was_slow and self.health.reachable)

    def _on_ping(self) -> None:
        if self.breaker is not None:
            self.breaker.half_open()
        if time.monotonic() >= self._prepare_at:
            # In its own thread: an index over many documents takes longer than a ping may.
            self._prepare_at = math.inf
            run_later(0, self._prepare)

    def _prepare(self) -> None:
        try:
            self.server_version = str(self.client.server_info().get("version", ""))
            self.ensure_indexes()
        except Exception as error:  # the service works without them, only slower
            self._prepare_at = time.monotonic() + _INDEX_RETRY_S
            log.warning("indexes could not be ensured", extra={"error": describe(error)})


def _election(servers: TopologyDescription | None) -> ObjectId | None:
    """Return the election of the primary; None where none is known."""
    descriptions = servers.server_descriptions().values() if servers else ()
    primaries = (each for each in descriptions if each.server_type_name == "RSPrimary")
    return next((primary.election_id for primary in primaries), None)
