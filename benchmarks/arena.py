"""Where the contestants meet: one MongoDB, one collector, a database of the same content each."""

from __future__ import annotations

import json
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.collector import collector
from benchmarks.operations import GET_ONE, NAME_EQUALITY, PAGE, documents
from benchmarks.servers import Server
from portfolio.devserver.mongod import Mongod
from portfolio.storage.connection import COLLECTION
from portfolio.storage.documents import INDEXES

_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Arena:
    """A running MongoDB, a running collector, a folder for logs and one for run-time files."""

    mongod: Mongod
    collector: str
    folder: Path
    runtime: Path

    def seed(self, database: str, count: int, first: int = 0) -> None:
        """Store the seeded portfolios ``first`` to ``count``, and the service's indexes."""
        with self.mongod.client() as client:
            collection = client[database][COLLECTION]
            for batch in documents(count, first):
                collection.insert_many(batch, ordered=False)
            collection.create_indexes(list(INDEXES))

    def service(self, database: str) -> Server:
        """Return the service on ``database``."""
        return servers.service(self.mongod.uri, database, self.collector, self.folder, self.runtime)

    def raw(self, database: str) -> Server:
        """Return the raw baseline on ``database``."""
        return servers.raw_wsgi(self.mongod.uri, database, self.folder)

    def contestants(self) -> list[Server]:
        """Return the service and the baselines, each on a database of its own."""
        return [
            self.service("service"),
            self.raw("raw"),
            servers.lean_fastapi(self.mongod.uri, "lean", self.folder),
        ]


@contextmanager
def arena() -> Iterator[Arena]:
    """Start what all contestants need; it ends with the block, its data with it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        # Bulks of all contestants are transactions, which a standalone does not offer.
        mongod = Mongod(folder / "mongod", replica_set="benchmark")
        mongod.start()
        stack.callback(mongod.stop)
        mongod.initiate()
        # In memory, as in deploy/.
        memory = _MEMORY if _MEMORY.is_dir() else folder
        runtime = stack.enter_context(tempfile.TemporaryDirectory(dir=memory))
        yield Arena(mongod, stack.enter_context(collector()), folder, Path(runtime))


@contextmanager
def running(contestants: Sequence[Server]) -> Iterator[None]:
    """Start ``contestants``; they end with the block."""
    with ExitStack() as stack:
        for server in contestants:
            stack.callback(server.stop)
            server.start()
        yield


def check_same_answers(contestants: Sequence[Server]) -> None:
    """Make sure that all contestants answer the same, else their speeds mean nothing.

    Raises:
        AssertionError: naming the request and the answers that differ.
    """
    for operation in (GET_ONE, PAGE, NAME_EQUALITY):
        answers = {}
        for server in contestants:
            with urllib.request.urlopen(server.url + operation.target(500), timeout=10) as answer:
                answers[server.title] = json.load(answer)
        first, *others = answers.values()
        if any(other != first for other in others):
            raise AssertionError(f"{operation.title}: answers differ: {answers}")
