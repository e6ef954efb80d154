"""The connection to MongoDB: the client, its pool, and how calls are run."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, TypeVar

import pymongo
from bson import ObjectId
from pymongo import MongoClient, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database as MongoDatabase
from pymongo.read_concern import ReadConcern
from pymongo.server_description import ServerDescription

from portfolio.config import SERVICE, Settings
from portfolio.errors import Unavailable
from portfolio.storage.breaker import Breaker
from portfolio.storage.diagnosis import find_cause, location
from portfolio.storage.documents import CODEC_OPTIONS, Document
from portfolio.storage.guard import Guard, exceeded_deadline, is_outage
from portfolio.storage.health_monitor import PING_TIMEOUT_S, HealthMonitor
from portfolio.storage.indexes import ensure_indexes
from portfolio.storage.pool import Pool, PoolListener

log = logging.getLogger(__name__)

T = TypeVar("T")

COLLECTION = "portfolio"
IDEMPOTENCY_COLLECTION = "portfolio_idempotency"
# What is acknowledged survives a crash and a failover.
WRITE_CONCERN = WriteConcern(w="majority", j=True)
# Reads return what a majority of the replica set has, which no failover undoes (CONTRACT.md,
# section 2).
READ_CONCERN = ReadConcern("majority")
# Such a read waits until a majority has all that the primary had before it.
_LINEARIZABLE = ReadConcern("linearizable")
_INDEX_RETRY_S = 60.0


class Database:
    """One worker's MongoDB. Nothing is opened before the first use, so it survives a fork.

    Args:
        settings: address, pool sizes, deadlines and breaker thresholds.
        client_factory: makes the client.

    Attributes:
        listeners: PyMongo's event listeners; may be added to until the client is made.
        server_version: MongoDB's version; empty until known.
        health: whether MongoDB is reachable.
        breaker: None where circuit breakers are switched off.
    """

    def __init__(
        self, settings: Settings, client_factory: Callable[..., Any] = MongoClient
    ) -> None:
        self._settings = settings
        self._client_factory = client_factory
        self._in_dns = settings.mongodb_uri.startswith("mongodb+srv:")
        self._client: MongoClient[Document] | None = None
        self._lock = threading.Lock()
        self._pool = PoolListener()
        self.listeners: list[Any] = [self._pool]
        # The election whose primary is known to show all that was ever acknowledged.
        self._confirmed: ObjectId | None = None
        self._prepare_at = 0.0
        self._topology = "unknown"
        self.server_version = ""
        self.health = HealthMonitor(
            self.ping, self.explain, self._servers, self._on_ping, await_dns=self._in_dns
        )
        self.breaker = (
            Breaker(
                "database",
                failures=settings.breaker_failures,
                reset_s=settings.breaker_reset_s,
                successes=settings.breaker_successes,
                counts=self._is_failure,
            )
            if settings.enable_circuit_breaker
            else None
        )
        self._guard = Guard(self.breaker, settings.request_timeout_ms / 1000)

    @property
    def client(self) -> MongoClient[Document]:
        """The client, made on first use in this process."""
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._client = self._connect()
        return self._client

    @cached_property
    def database(self) -> MongoDatabase[Document]:
        """The service's database, with the service's read and write concern.

        ``command`` ignores that read concern: a read sent that way must carry its own.
        """
        return self.client.get_database(
            self._settings.mongodb_db,
            codec_options=CODEC_OPTIONS,
            write_concern=WRITE_CONCERN,
            read_concern=READ_CONCERN,
        )

    @cached_property
    def portfolios(self) -> Collection[Document]:
        """The collection of portfolios."""
        return self.database[COLLECTION]

    @cached_property
    def idempotency(self) -> Collection[Document]:
        """The collection of idempotency records."""
        return self.database[IDEMPOTENCY_COLLECTION]

    def run(self, operation: Callable[[], T], *, retry: bool) -> T:
        """Run database calls under the request's deadline, the breaker and the retry rule.

        Args:
            operation: makes the PyMongo calls.
            retry: whether it may run again after an attempt of unknown outcome.

        Raises:
            Unavailable: MongoDB is known to be down, or an outage lasts until the deadline.
        """
        if self.health.fails_fast:
            raise Unavailable("Database unavailable")
        result = self._guard.call(operation, retry=retry)
        self.health.record_success()
        return result

    def read(self, operation: Callable[[], T]) -> T:
        """Run reads as ``run`` does, and miss nothing that was acknowledged before an election.

        A new primary has all of it, but learns only later that a majority has: until then, reads
        with read concern majority would return an older state.

        Args:
            operation: makes the PyMongo calls; it may run more than once.

        Raises:
            Unavailable: as ``run`` does.
        """

        def read() -> T:
            result = operation()
            # Checked afterwards, when the primary that has answered is known.
            while (election := self._election()) not in (None, self._confirmed):
                self._await_commit_point()
                self._confirmed = election
                result = operation()
            return result

        return self.run(read, retry=True)

    @property
    def topology(self) -> str:
        """``standalone``, ``replica set``, ``sharded`` or ``unknown``, as last seen by PyMongo."""
        seen = self.client.topology_description
        kinds = {server.server_type_name for server in seen.server_descriptions().values()}
        if seen.topology_type_name.startswith("ReplicaSet") or "RSPrimary" in kinds:
            self._topology = "replica set"
        elif kinds & {"Mongos", "LoadBalancer"}:
            self._topology = "sharded"
        elif "Standalone" in kinds:
            self._topology = "standalone"
        return self._topology

    @property
    def has_transactions(self) -> bool:
        """Whether the topology offers transactions, which a standalone does not.

        Raises:
            Unavailable: MongoDB has never been reached.
        """
        topology = self.topology
        if topology == "unknown":
            self.run(lambda: self.client.admin.command("ping"), retry=True)
            topology = self.topology
        return topology in ("replica set", "sharded")

    @property
    def pool(self) -> Pool:
        """The connections of all servers' pools, beside the size of one."""
        return self._pool.snapshot(self._settings.min_pool_size, self._settings.max_pool_size)

    def start(self) -> None:
        """Open the pool and start the health monitor; to be called in each worker process."""
        self.health.start()

    def close(self) -> None:
        """Stop the health monitor and close every connection."""
        self.health.stop()
        if self._client is not None:
            self._client.close()

    def ping(self, timeout_s: float = PING_TIMEOUT_S) -> float:
        """Count the portfolios and return the milliseconds that it took.

        This proves that the collection can be read, as MongoDB's own ping does not.

        Raises:
            PyMongoError: no answer within ``timeout_s`` seconds, or a refusal.
        """
        begun = time.perf_counter()
        with pymongo.timeout(timeout_s):
            self.count()
        return (time.perf_counter() - begun) * 1000

    def count(self) -> int:
        """Return the number of portfolios, from metadata; to be run by the guard."""
        reply = self.database.command("count", COLLECTION, readConcern=READ_CONCERN.document)
        return int(reply["n"])

    def ensure_indexes(self) -> list[str]:
        """Create the missing indexes and return the names of those of the portfolios."""
        return ensure_indexes(self.portfolios, self.idempotency)

    def explain(self, error: BaseException) -> str:
        """Return a sentence on why MongoDB does not answer; the URI's password is masked.

        Args:
            error: what PyMongo raised.
        """
        cause = find_cause(error, self._servers() if self._client else ())
        return f"MongoDB at {location(self._settings.mongodb_uri)} does not answer: {cause}."

    def _servers(self) -> Iterable[ServerDescription]:
        return self.client.topology_description.server_descriptions().values()

    def _election(self) -> ObjectId | None:
        """Return the id of the primary's election; None where there are no elections."""
        for server in self._servers():
            if server.server_type_name == "RSPrimary":
                return server.election_id
        return None

    def _await_commit_point(self) -> None:
        """Wait until reads from the primary show all that its predecessors acknowledged."""
        self.portfolios.with_options(read_concern=_LINEARIZABLE).find_one({}, {"_id": 1})

    def _is_failure(self, error: BaseException) -> bool:
        """Whether ``error`` speaks against MongoDB, not only against the call that raised it.

        A slow search that exceeds its own deadline must not open the breaker for all others. Where
        MongoDB hangs, pings fail as well.
        """
        return is_outage(error) and not (exceeded_deadline(error) and self.health.reachable)

    def _connect(self) -> MongoClient[Document]:
        timeout_ms = self._settings.request_timeout_ms
        client: MongoClient[Document] = self._client_factory(
            self._settings.mongodb_uri,
            appname=SERVICE,
            maxPoolSize=self._settings.max_pool_size,
            minPoolSize=self._settings.min_pool_size,
            connectTimeoutMS=self._settings.connection_timeout_ms,
            serverSelectionTimeoutMS=timeout_ms,
            # These two bound the streamed list, which has no deadline of its own.
            socketTimeoutMS=timeout_ms,
            waitQueueTimeoutMS=timeout_ms,
            # The guard retries. PyMongo's own retry after a handshake that was cut carries a
            # transaction number, which a standalone refuses.
            maxAdaptiveRetries=0,
            event_listeners=self.listeners,
            # With servers in DNS, each call looks them up until they are known.
            **({"connect": False} if self._in_dns else {}),
        )
        return client

    def _on_ping(self, recovered: bool) -> None:
        if recovered:
            log.info("MongoDB answers", extra={"topology": self.topology})
        if self.breaker is not None:
            self.breaker.half_open()
        if time.monotonic() >= self._prepare_at:
            # In its own thread: an index over many documents takes longer than a ping may.
            self._prepare_at = math.inf
            threading.Thread(target=self._prepare, name="database-prepare", daemon=True).start()

    def _prepare(self) -> None:
        try:
            self.server_version = str(self.client.server_info().get("version", ""))
            self.ensure_indexes()
        except Exception as error:  # the service works without them, only slower
            self._prepare_at = time.monotonic() + _INDEX_RETRY_S
            cause = f"{type(error).__name__}: {error}"[:500]
            log.warning("indexes could not be ensured", extra={"error": cause})
