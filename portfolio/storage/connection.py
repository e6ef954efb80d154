"""The connection to MongoDB: the client, its pool, and what they know of the servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, NamedTuple

import pymongo
from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database as MongoDatabase
from pymongo.errors import NotPrimaryError, PyMongoError
from pymongo.monitoring import ConnectionPoolListener
from pymongo.read_concern import ReadConcern
from pymongo.server_description import ServerDescription

from portfolio.config import SERVICE, Settings
from portfolio.scheduling import run_later
from portfolio.storage.documents import CODEC_OPTIONS, Document
from portfolio.storage.failures import find_cause, is_logged_out, location

COLLECTION = "portfolio"
IDEMPOTENCY_COLLECTION = "portfolio_idempotency"
# What is acknowledged survives a crash and a failover.
WRITE_CONCERN = WriteConcern(w="majority", j=True)
# Reads return what a majority of the replica set has, which no failover undoes (CONTRACT.md,
# section 2). Secondaries may learn of it late, so that the primary is read whatever the URI says.
READ_CONCERN = ReadConcern("majority")
READ_PREFERENCE = ReadPreference.PRIMARY
PING_TIMEOUT_S = 2.0
_CLOSE_TIMEOUT_S = 1.0


class Pool(NamedTuple):
    """The connection pool at one moment: allowed sizes, and connections by state."""

    max: int
    min: int
    in_use: int
    available: int
    waiting: int


class Connection:
    """One worker's client of MongoDB, made on first use, so that it survives a fork.

    Attributes:
        listeners: PyMongo's event listeners; may be added to until the client is made.
        in_dns: whether the servers are to be looked up in DNS.
    """

    def __init__(self, settings: Settings, client_factory: Callable[..., Any]) -> None:
        self._settings = settings
        self._client_factory = client_factory
        self._pool = _PoolListener()
        self._topology = "unknown"
        self.listeners: list[Any] = [self._pool]
        self.in_dns = settings.mongodb_uri.startswith("mongodb+srv:")
        self._has_login = "@" in location(settings.mongodb_uri)

    @cached_property
    def client(self) -> MongoClient[Document]:
        """The client, made on first use in this process; it connects on its own first use."""
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
            # Calls are retried here. PyMongo's own retry after a handshake that was cut carries a
            # transaction number, which a standalone refuses.
            maxAdaptiveRetries=0,
            event_listeners=self.listeners,
            # It connects on first use. Servers in DNS are looked up by each call until then.
            connect=False,
        )
        return client

    @cached_property
    def database(self) -> MongoDatabase[Document]:
        """The service's database, with the service's concerns and read preference.

        ``command`` ignores that read concern: a read sent that way must carry its own.
        """
        return self.client.get_database(
            self._settings.mongodb_db,
            codec_options=CODEC_OPTIONS,
            write_concern=WRITE_CONCERN,
            read_concern=READ_CONCERN,
            read_preference=READ_PREFERENCE,
        )

    @cached_property
    def portfolios(self) -> Collection[Document]:
        """The collection of portfolios."""
        return self.database[COLLECTION]

    @cached_property
    def idempotency(self) -> Collection[Document]:
        """The collection of idempotency records."""
        return self.database[IDEMPOTENCY_COLLECTION]

    @property
    def topology(self) -> str:
        """``standalone``, ``replica set``, ``sharded`` or ``unknown``, as last seen by PyMongo."""
        kinds = {server.server_type_name for server in self.servers()}
        type_name = self.client.topology_description.topology_type_name
        if type_name.startswith("ReplicaSet") or "RSPrimary" in kinds:
            self._topology = "replica set"
        elif kinds & {"Mongos", "LoadBalancer"}:
            self._topology = "sharded"
        elif "Standalone" in kinds:
            self._topology = "standalone"
        return self._topology

    @property
    def pool(self) -> Pool:
        """The connections of all servers' pools together, and the sizes allowed for one pool."""
        size, in_use = self._settings.max_pool_size, self._pool.in_use
        available = max(size - in_use, 0)
        return Pool(size, self._settings.min_pool_size, in_use, available, self._pool.waiting)

    def servers(self) -> Iterable[ServerDescription]:
        """Return the servers, as PyMongo has seen them last."""
        return self.client.topology_description.server_descriptions().values()

    def ping(self, timeout_s: float = PING_TIMEOUT_S) -> float:
        """Count the portfolios and return the milliseconds that it took.

        This proves that the collection can be read, as MongoDB's own ping does not. If it fails
        because the client can't recover, the next call makes a new one.

        Raises:
            PyMongoError: no answer within ``timeout_s`` seconds, a refusal, or no primary.
        """
        begun = time.perf_counter()
        try:
            with pymongo.timeout(timeout_s):
                self.count()
                # With directConnection PyMongo reads from a secondary too.
                if not self.client.is_primary:
                    raise NotPrimaryError("the server of directConnection is not the primary")
        except PyMongoError as error:
            # PyMongo drops a server that runs as a standalone, as for maintenance, from its replica
            # set; without another member it never comes back. And it never logs in again on a
            # connection whose user was dropped and created anew, as by a restore.
            if not self.servers() or (self._has_login and is_logged_out(error)):
                self._replace_client()
            raise
        return (time.perf_counter() - begun) * 1000

    def count(self) -> int:
        """Return the number of portfolios, from metadata."""
        reply = self.database.command("count", COLLECTION, readConcern=READ_CONCERN.document)
        return int(reply["n"])

    def explain(self, error: BaseException) -> str:
        """Return a sentence on why MongoDB does not answer, as PyMongo's ``error`` tells it."""
        cause = find_cause(error, self.servers())
        return f"MongoDB at {location(self._settings.mongodb_uri)} does not answer: {cause}."

    def close(self) -> None:
        """Close every connection."""
        # PyMongo ends its sessions in MongoDB first, and would wait for one that is down.
        with pymongo.timeout(_CLOSE_TIMEOUT_S):
            self.client.close()

    def _replace_client(self) -> None:
        """Let the next call make a new client."""
        # Calls in flight still use the old one.
        run_later(self._settings.request_timeout_ms / 1000, self.client.close)
        for name in ("client", "database", "portfolios", "idempotency"):
            self.__dict__.pop(name, None)


class _PoolListener(ConnectionPoolListener):
    """Counts the connections of all servers' pools."""

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
