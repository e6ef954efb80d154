"""Three real MongoDB members that reach each other, and are reached, through proxies.

Every member's address in the replica set's configuration is that of its proxy, which peers and
clients use alike. A proxy finds out which process a connection comes from, so that members can be
parted from each other while clients still reach all of them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from portfolio.devserver.mongod import Mongod
from portfolio.devserver.processes import free_port
from tests.support.gunicorn import wait_until
from tests.support.mongod import TEST_PARAMETERS
from tests.support.proxy import Proxy

_SET = "rs"
_MEMBERS = 3
_HEALTHY_TIMEOUT_S = 60.0
_LOOK_S = 0.05
# What a driver calls itself in the handshake, with which each of its connections begins. To look up
# the process takes long on a busy machine, and is done for what remains: the members' own.
_DRIVER = b"PyMongo"
_LOOK_TIMEOUT_MS = 500


class MemberProxy(Proxy):
    """The proxy in front of one member, which tells its peers from clients.

    Args:
        number: the member's.
        cluster: knows the members' processes, and which of them are parted.
    """

    def __init__(self, number: int, cluster: ReplicaSet) -> None:
        super().__init__(cluster.members[number].port)
        self._number = number
        self._cluster = cluster

    async def identify(self, source_port: int, first: bytes) -> str:
        if _DRIVER in first:
            return ""
        loop = asyncio.get_running_loop()
        source = await loop.run_in_executor(None, self._cluster.member_at, source_port)
        return "" if source is None else str(source)

    async def may_pass(self, source: str) -> None:
        # What is held back arrives when the link is there again, as it does with TCP.
        while source and self._cluster.are_parted(int(source), self._number):
            await asyncio.sleep(0.02)


class ReplicaSet:
    """A replica set of three members; a context manager.

    Args:
        folder: where the members keep their data and logs.
        election_timeout_s: after which a member that hears nothing of the primary stands for
            election, and a primary that hears of no majority steps down.
    """

    def __init__(self, folder: Path, election_timeout_s: float) -> None:
        self._election_timeout_s = election_timeout_s
        self.members = [
            Mongod(
                folder / f"member-{number}",
                replica_set=_SET,
                port=free_port(),
                parameters=TEST_PARAMETERS,
            )
            for number in range(_MEMBERS)
        ]
        self._parted: frozenset[frozenset[int]] = frozenset()
        self._proxies: list[MemberProxy] = []
        self._clients: list[MongoClient[dict[str, Any]]] = []
        self._stack = ExitStack()

    @property
    def uri(self) -> str:
        """What the service connects to."""
        addresses = ",".join(f"127.0.0.1:{proxy.port}" for proxy in self._proxies)
        return f"mongodb://{addresses}/?replicaSet={_SET}"

    def __enter__(self) -> ReplicaSet:
        with ExitStack() as stack:
            for number, member in enumerate(self.members):
                stack.callback(member.kill)
                member.start()
                self._proxies.append(stack.enter_context(MemberProxy(number, self)))
                self._clients.append(stack.enter_context(direct_client(member)))
            self._initiate()
            self.wait_healthy()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _initiate(self) -> None:
        timeout_s = self._election_timeout_s
        config = {
            "_id": _SET,
            "members": [
                {"_id": number, "host": f"127.0.0.1:{proxy.port}"}
                for number, proxy in enumerate(self._proxies)
            ],
            "settings": {
                "electionTimeoutMillis": int(timeout_s * 1000),
                "heartbeatTimeoutSecs": max(1, int(timeout_s)),
            },
        }
        with self.members[0].client() as client:
            client.admin.command("replSetInitiate", config)

    def member_at(self, source_port: int) -> int | None:
        """Return the member whose process has a connection from a port; None if none has."""
        for number, member in enumerate(self.members):
            process = member.process
            if process is None:
                continue
            with suppress(psutil.Error):
                connections = psutil.Process(process.pid).net_connections("tcp")
                if any(each.laddr.port == source_port for each in connections):
                    return number
        return None

    def are_parted(self, one: int, other: int) -> bool:
        """Whether nothing passes between two members."""
        return frozenset({one, other}) in self._parted

    @contextmanager
    def parted(self, number: int) -> Iterator[None]:
        """Part a member from its peers, not from clients."""
        self._parted = frozenset(
            frozenset({number, other}) for other in range(_MEMBERS) if other != number
        )
        try:
            yield
        finally:
            self._parted = frozenset()

    def primaries(self) -> list[int]:
        """Return the members that take themselves for primary."""
        return [number for number in range(_MEMBERS) if self._hello(number, "isWritablePrimary")]

    def wait_primary(self, among: Sequence[int]) -> int:
        """Return the member of ``among`` that is primary, as soon as there is one."""
        found = wait_until(
            lambda: [number for number in self.primaries() if number in among],
            f"one of the members {list(among)} is primary",
            _HEALTHY_TIMEOUT_S,
        )
        return int(found[0])

    def wait_healthy(self) -> int:
        """Return the primary as soon as there is one and two secondaries follow it."""

        def is_healthy() -> bool:
            primaries = self.primaries()
            return len(primaries) == 1 and all(
                number in primaries or self._hello(number, "secondary")
                for number in range(_MEMBERS)
            )

        wait_until(is_healthy, "two secondaries follow a primary", _HEALTHY_TIMEOUT_S)
        return self.primaries()[0]

    def _hello(self, number: int, field: str) -> bool:
        try:
            return bool(self._clients[number].admin.command("hello").get(field))
        except PyMongoError:
            return False


class ElectionWatch:
    """Notes when another member is seen to be primary; a context manager.

    Args:
        cluster: the members.
        elections: where the times go.
    """

    def __init__(self, cluster: ReplicaSet, elections: list[float]) -> None:
        self._cluster = cluster
        self._elections = elections
        self._terms: set[Any] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(member,), daemon=True)
            for member in cluster.members
        ]

    def __enter__(self) -> ElectionWatch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, member: Mongod) -> None:
        with direct_client(member) as client:
            while not self._stopping.wait(_LOOK_S):
                try:
                    hello = client.admin.command("hello")
                except PyMongoError:
                    continue
                if hello.get("isWritablePrimary"):
                    self._note(hello["electionId"])

    def _note(self, term: Any) -> None:
        with self._lock:
            if term not in self._terms:
                self._terms.add(term)
                self._elections.append(time.monotonic())


def direct_client(member: Mongod) -> MongoClient[dict[str, Any]]:
    """Return a client of one member that soon gives up, since the member may stand still."""
    return MongoClient(
        "127.0.0.1",
        member.port,
        directConnection=True,
        serverSelectionTimeoutMS=_LOOK_TIMEOUT_MS,
        connectTimeoutMS=_LOOK_TIMEOUT_MS,
        socketTimeoutMS=_LOOK_TIMEOUT_MS,
    )
