"""The connection to MongoDB: the client and its pool, what is known of its health, the indexes."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import pymongo
from bson import ObjectId
from pymongo import MongoClient, WriteConcern, monitoring
from pymongo.collation import Collation
from pymongo.collection import Collection
from pymongo.database import Database as MongoDatabase
from pymongo.errors import NetworkTimeout
from pymongo.operations import IndexModel
from pymongo.read_concern import ReadConcern

from portfolio.config import SERVICE, Settings
from portfolio.errors import Unavailable
from portfolio.storage.diagnosis import find_cause, location
from portfolio.storage.documents import CODEC_OPTIONS, Document
from portfolio.storage.guard import Breaker, Guard, exceeded_deadline, is_outage

log = logging.getLogger(__name__)

T = TypeVar("T")

COLLECTION = "portfolio"
# What is acknowledged survives a crash and a fail-over.
WRITE_CONCERN = WriteConcern(w="majority", j=True)
# What is read is on a majority of the replica set, so that no failover takes it back (section 2 of
# the contract). A primary would else show writes that only it has.
READ_CONCERN = ReadConcern("majority")
# A read that waits until a majority has all that the primary had before it.
_LINEARIZABLE = ReadConcern("linearizable")
IDEMPOTENCY_COLLECTION = "portfolio_idempotency"
# Equality without regard to case, served by an index; a regex with option i would scan it.
CASE_INSENSITIVE = Collation(locale="en", strength=2)
PAGES_INDEX = "newest_first"
# Both end with the order of pages, so that neither a page nor a search by name sorts in memory.
# The first carries the name too: a search for a substring then reads keys alone.
INDEXES = (
    IndexModel([("dateCreated", -1), ("_id", -1), ("name", 1)], name=PAGES_INDEX),
    IndexModel(
        [("name", 1), ("dateCreated", -1), ("_id", -1)],
        name="name_case_insensitive",
        collation=CASE_INSENSITIVE,
    ),
)

# An idempotency key holds for a day.
_KEYS_EXPIRE = IndexModel([("created", 1)], name="expire", expireAfterSeconds=24 * 3600)

# The contract gives readiness 5 s to notice that MongoDB went away, hung or came back: a ping a
# second that may take two leaves room for a late start of either.
_PING_INTERVAL_S = 1.0
_PING_TIMEOUT_S = 2.0
_FIRST_PING_TIMEOUT_S = 1.0
_STALE_AFTER_S = 4.0
# Most that is logged of one outage.
_MAX_CAUSES = 3
# A fail-over takes a few seconds, for which a caller does better to wait within its deadline.
_FAIL_AT_ONCE_AFTER_S = 10.0
# An index over a million documents is built in seconds; a build that hangs must end some time.
_INDEX_TIMEOUT_S = 3600.0
_INDEX_RETRY_S = 60.0


class Pool(NamedTuple):
    """The connection pool at one moment: sizes allowed, and connections by what they do."""

    max: int
    min: int
    in_use: int
    available: int
    waiting: int


class Database:
    """One worker's MongoDB: nothing is opened before the first use, so it survives a fork.

    Args:
        settings: address, pool sizes, deadlines and breaker thresholds.
        client_factory: makes the client, in place of ``MongoClient``.
    """

    def __init__(
        self, settings: Settings, client_factory: Callable[..., Any] | None = None
    ) -> None:
        self._settings = settings
        self._client_factory = client_factory or _client_factory(settings.mongodb_uri)
        self._in_dns = settings.mongodb_uri.startswith("mongodb+srv:")
        self._client: MongoClient[Document] | None = None
        self._database: MongoDatabase[Document] | None = None
        self._lock = threading.Lock()
        self._pool = _PoolWatch()
        # What PyMongo tells its events to; may be added to until the client is made.
        self.listeners: list[Any] = [self._pool]
        self._stopped = threading.Event()
        self._watcher: threading.Thread | None = None
        self._last_answer: float | None = None
        # The election whose primary is known to show all that was ever acknowledged.
        self._confirmed: ObjectId | None = None
        self._failing_since: float | None = None
        self._causes: set[str] = set()
        self._prepare_at = 0.0
        self._topology = "unknown"
        self.started = False
        self.ping_ms = 0.0
        self.server_version = ""
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

    @property
    def database(self) -> MongoDatabase[Document]:
        """The service's database; a majority has what is read, and has journalled what is written.

        ``command`` does not use its read concern: a read sent that way carries its own.
        """
        if self._database is None:
            self._database = self.client.get_database(
                self._settings.mongodb_db,
                codec_options=CODEC_OPTIONS,
                write_concern=WRITE_CONCERN,
                read_concern=READ_CONCERN,
            )
        return self._database

    @property
    def portfolios(self) -> Collection[Document]:
        """The collection of portfolios."""
        return self.database[COLLECTION]

    @property
    def idempotency(self) -> Collection[Document]:
        """The collection of idempotency keys; it is not the predecessor's to know."""
        return self.database[IDEMPOTENCY_COLLECTION]

    def run(self, operation: Callable[[], T], *, retry: bool) -> T:
        """Run database calls under the request's deadline, the breaker and the retry rule.

        Args:
            operation: makes the PyMongo calls.
            retry: whether it may run again after an attempt of unknown outcome.

        Raises:
            Unavailable: at once where MongoDB is known to be away, else by the deadline.
        """
        if self._watcher is not None and self._known_down():
            raise Unavailable("Database unavailable")
        result = self._guard.call(operation, retry=retry)
        self._last_answer = time.monotonic()
        return result

    def read(self, operation: Callable[[], T]) -> T:
        """Run reads as ``run`` does, and miss nothing that was acknowledged before an election.

        A new primary has all of it, but does not know at once that a majority has: until then,
        reads with read concern majority would show an older state.

        Args:
            operation: makes the PyMongo calls; it may run more than once.

        Raises:
            Unavailable: as ``run`` does.
        """

        def read() -> T:
            result = operation()
            # Looked at afterwards: whichever primary has answered, it is known by now.
            while (election := self._election()) not in (None, self._confirmed):
                self._await_commit_point()
                self._confirmed = election
                result = operation()
            return result

        return self.run(read, retry=True)

    @property
    def reachable(self) -> bool:
        """Whether MongoDB has answered lately, from what is known: no call is made."""
        return (
            self._failing_since is None
            and self._last_answer is not None
            and time.monotonic() - self._last_answer < _STALE_AFTER_S
        )

    @property
    def topology(self) -> str:
        """``standalone``, ``replica set``, ``sharded`` or ``unknown``: what PyMongo saw last."""
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
            Unavailable: MongoDB was never reached, and is not now.
        """
        topology = self.topology
        if topology == "unknown":
            self.run(lambda: self.client.admin.command("ping"), retry=True)
            topology = self.topology
        return topology in ("replica set", "sharded")

    @property
    def pool(self) -> Pool:
        """What the pools of all servers have in use, beside the size of one server's."""
        in_use = self._pool.in_use
        return Pool(
            max=self._settings.max_pool_size,
            min=self._settings.min_pool_size,
            in_use=in_use,
            available=max(self._settings.max_pool_size - in_use, 0),
            waiting=self._pool.waiting,
        )

    def start(self) -> None:
        """Open the pool and begin to watch MongoDB's health, once in each worker process.

        The first ping is awaited for up to a second, so that a worker knows what to say when the
        first request comes.
        """
        if self._watcher is None:
            first_check_done = threading.Event()
            self._watcher = threading.Thread(
                target=self._monitor, args=(first_check_done,), name="database-watch", daemon=True
            )
            self._watcher.start()
            first_check_done.wait(_FIRST_PING_TIMEOUT_S)

    def close(self) -> None:
        """Stop watching and close every connection."""
        self._stopped.set()
        if self._client is not None:
            self._client.close()

    def ping(self, timeout_s: float = _PING_TIMEOUT_S) -> float:
        """Ask MongoDB how many portfolios there are and return the milliseconds that it took.

        MongoDB answers a ping to whoever asks; this proves that the collection can be read. Without
        a filter the answer comes from the collection's metadata, whatever its size.

        Raises:
            PyMongoError: no answer within ``timeout_s`` seconds, or a refusal.
        """
        begun = time.perf_counter()
        with pymongo.timeout(timeout_s):
            self.database.command("count", COLLECTION)
        return (time.perf_counter() - begun) * 1000

    def ensure_indexes(self) -> list[str]:
        """Create the indexes that are missing and return the names of all of them."""
        with pymongo.timeout(_INDEX_TIMEOUT_S):
            self.idempotency.create_indexes([_KEYS_EXPIRE])
            return self.portfolios.create_indexes(list(INDEXES))

    def _election(self) -> ObjectId | None:
        """Return what tells the primary's election from others; None where there are none."""
        for server in self.client.topology_description.server_descriptions().values():
            if server.server_type_name == "RSPrimary":
                return server.election_id
        return None

    def _await_commit_point(self) -> None:
        """Wait until the primary shows to reads all that its predecessors acknowledged."""
        self.portfolios.with_options(read_concern=_LINEARIZABLE).find_one({}, {"_id": 1})

    def _is_failure(self, error: BaseException) -> bool:
        """Whether ``error`` speaks against MongoDB, not only against the call that ended with it.

        A slow search that ran into its own deadline must not close the way for all others. Where
        MongoDB hangs, nothing is answered, not even pings.
        """
        return is_outage(error) and not (exceeded_deadline(error) and self.reachable)

    def _connect(self) -> MongoClient[Document]:
        budget_ms = self._settings.request_timeout_ms
        client: MongoClient[Document] = self._client_factory(
            self._settings.mongodb_uri,
            appname=SERVICE,
            maxPoolSize=self._settings.max_pool_size,
            minPoolSize=self._settings.min_pool_size,
            connectTimeoutMS=self._settings.connection_timeout_ms,
            serverSelectionTimeoutMS=budget_ms,
            # These two bound the streamed list, which runs under no deadline of its own.
            socketTimeoutMS=budget_ms,
            waitQueueTimeoutMS=budget_ms,
            # The guard retries. PyMongo's own retry after a handshake that was cut carries a
            # transaction number, which a standalone refuses.
            maxAdaptiveRetries=0,
            event_listeners=self.listeners,
            # Servers that DNS names are then looked up with the first call, and again until known.
            **({"connect": False} if self._in_dns else {}),
        )
        return client

    def _known_down(self) -> bool:
        if self._in_dns and self._last_answer is None:
            # No deadline bounds the look-up of its servers: only the watcher waits for that.
            return True
        if self._failing_since is None:
            return False
        if self._last_answer is None and self._connection_refused():
            return True
        return time.monotonic() - self._failing_since > _FAIL_AT_ONCE_AFTER_S

    def _connection_refused(self) -> bool:
        """Whether every server refused the connection or has no address: not only was slow."""
        servers = self.client.topology_description.server_descriptions().values()
        return all(
            server.error is not None and not isinstance(server.error, NetworkTimeout)
            for server in servers
        )

    def _monitor(self, first_check_done: threading.Event) -> None:
        self._check_health(_FIRST_PING_TIMEOUT_S)
        first_check_done.set()
        while not self._stopped.wait(_PING_INTERVAL_S):
            self._check_health()

    def _check_health(self, timeout_s: float = _PING_TIMEOUT_S) -> None:
        begun = time.monotonic()
        try:
            self.ping_ms = self.ping(timeout_s)
        except Exception as error:  # whatever it is, the watch goes on
            if (self._last_answer or 0.0) > begun:
                return  # another call was answered meanwhile: this worker was slow, not MongoDB
            if not self._stopped.is_set():
                self._failing_since = self._failing_since or begun
                self._report_outage(error)
            return
        if self._failing_since is not None or not self.started:
            log.info("MongoDB answers", extra={"topology": self.topology})
        self._failing_since = None
        self._causes.clear()
        self._last_answer = time.monotonic()
        self.started = True
        if self.breaker is not None:
            self.breaker.half_open()
        if time.monotonic() >= self._prepare_at:
            # In its own thread: an index over many documents takes longer than a ping may.
            self._prepare_at = math.inf
            threading.Thread(target=self._prepare, name="database-prepare", daemon=True).start()

    def explain(self, error: BaseException) -> str:
        """Return a sentence on why MongoDB does not answer; the URI's password is masked.

        Args:
            error: what PyMongo raised.
        """
        client = self._client
        servers = client.topology_description.server_descriptions().values() if client else ()
        cause = find_cause(error, servers)
        return f"MongoDB at {location(self._settings.mongodb_uri)} does not answer: {cause}."

    def _report_outage(self, error: Exception) -> None:
        """Log why MongoDB does not answer: each cause once in an outage, and a few at most.

        The first may say less than the next: "no answer in time", where a server refuses later.
        """
        sentence = self.explain(error)
        if sentence in self._causes or len(self._causes) >= _MAX_CAUSES:
            return
        self._causes.add(sentence)
        # Once MongoDB has answered, the URI is right.
        hint = "" if self.started else " Check MONGODB_URI."
        log.error("%s%s", sentence, hint)

    def _prepare(self) -> None:
        try:
            self.server_version = str(self.client.server_info().get("version", ""))
            self.ensure_indexes()
        except Exception as error:  # the service works without them, only slower
            self._prepare_at = time.monotonic() + _INDEX_RETRY_S
            log.warning("indexes could not be ensured", extra={"error": _describe(error)})


def _client_factory(uri: str) -> Callable[..., Any]:
    if not uri.startswith("mongomock:"):
        return MongoClient
    # Deferred: only a local run without a mongod has it.
    from portfolio.devserver.mongomock_client import MongomockClient  # noqa: PLC0415

    return MongomockClient


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


class _PoolWatch(monitoring.ConnectionPoolListener):
    """Counts connections from PyMongo's own pool events."""

    def __init__(self) -> None:
        self.in_use = 0
        self.waiting = 0

    def connection_check_out_started(self, event: Any) -> None:
        self.waiting += 1

    def connection_check_out_failed(self, event: Any) -> None:
        self.waiting -= 1

    def connection_checked_out(self, event: Any) -> None:
        self.waiting -= 1
        self.in_use += 1

    def connection_checked_in(self, event: Any) -> None:
        self.in_use -= 1

    def pool_created(self, event: Any) -> None: ...
    def pool_ready(self, event: Any) -> None: ...
    def pool_cleared(self, event: Any) -> None: ...
    def pool_closed(self, event: Any) -> None: ...
    def connection_created(self, event: Any) -> None: ...
    def connection_ready(self, event: Any) -> None: ...
    def connection_closed(self, event: Any) -> None: ...
