"""How the service does as its collection grows, from a thousand documents to a million."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from benchmarks.arena import Arena, running
from benchmarks.load import HOST, percentile
from benchmarks.operations import BULK, GET_ONE, NAME_EQUALITY, PAGE, RESOLVE, Operation
from benchmarks.servers import Server
from portfolio.storage.connection import COLLECTION

SIZES = (1_000, 10_000, 100_000, 1_000_000)

_DATABASE = "growth"
_TIME_S = 2.0
_LEAST = 40
_MOST = 1000
_CHUNK = 64 * 1024
_MIB = 1024 * 1024
# The seeded portfolios are all older: what bulks have added is recognised by its date.
_SEEDED_BEFORE = datetime(2025, 1, 1)


@dataclass(frozen=True)
class Latency:
    """What one caller saw, in milliseconds."""

    p50: float
    p95: float
    requests: int
    errors: int


@dataclass(frozen=True)
class Listing:
    """The list of all portfolios, streamed."""

    portfolios: int
    seconds: float
    megabytes: float
    memory_growth_mib: float


@dataclass(frozen=True)
class Size:
    """What was seen with so many documents."""

    documents: int
    latencies: dict[str, Latency]
    listing: Listing


def operations(documents: int) -> list[Operation]:
    """Return what is asked of a collection of ``documents``."""
    search = "/api/v2/portfolios?name_like="
    deep = f"/api/v2/portfolios?limit=50&offset={documents * 9 // 10}"
    return [
        GET_ONE,
        NAME_EQUALITY,
        PAGE,
        Operation("deep_page", "page at 90%", deep),
        Operation("like_rare", "name_like, one match", f"{search}fund%200000500"),
        Operation("like_common", "name_like, every tenth", f"{search}growth"),
        RESOLVE,
        BULK,
    ]


def measure(arena: Arena) -> Iterator[Size]:
    """Let the collection grow and yield what was seen at each size.

    One caller alone: what grows with the collection then shows, and not how callers share a CPU.
    """
    stored = 0
    for documents in SIZES:
        arena.seed(_DATABASE, documents, first=stored)
        stored = documents
        server = arena.service(_DATABASE)
        with running([server]):
            latencies = {
                operation.key: _latency(server, operation) for operation in operations(documents)
            }
            _forget_bulks(arena)
            yield Size(documents, latencies, _listing(server, documents))


def _latency(server: Server, operation: Operation) -> Latency:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    numbers = itertools.count(1)
    seen: list[float] = []
    errors = 0
    begun = time.perf_counter()
    while len(seen) < _MOST and (len(seen) < _LEAST or time.perf_counter() - begun < _TIME_S):
        target, body = operation.target(next(numbers)), operation.payload(numbers)
        headers = {"Content-Type": "application/json"} if body else {}
        sent = time.perf_counter()
        connection.request(operation.method, target, body, headers)
        answer = connection.getresponse()
        answer.read()
        seen.append((time.perf_counter() - sent) * 1000)
        errors += answer.status >= 300
    connection.close()
    return Latency(percentile(seen, 0.50), percentile(seen, 0.95), len(seen), errors)


def _listing(server: Server, documents: int) -> Listing:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    mark = b'"portfolioId"'
    size = portfolios = 0
    tail = b""
    begun = time.perf_counter()
    with _memory_growth(server) as growth:
        connection.request("GET", "/api/v1/portfolios")
        answer = connection.getresponse()
        while chunk := answer.read(_CHUNK):
            size += len(chunk)
            text = tail + chunk
            portfolios += text.count(mark)
            tail = text[-len(mark) + 1 :]
    seconds = time.perf_counter() - begun
    connection.close()
    if portfolios != documents:
        raise RuntimeError(f"the list of {documents} portfolios holds {portfolios}")
    return Listing(portfolios, seconds, size / 1e6, max(growth))


@contextmanager
def _memory_growth(server: Server) -> Iterator[list[float]]:
    """Sample by how many MiB the largest worker has grown, until the block ends."""
    processes = server.processes()
    before = [process.memory_info().rss for process in processes]
    growth = [0.0]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            for process, rss in zip(processes, before, strict=True):
                growth.append((process.memory_info().rss - rss) / _MIB)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield growth
    finally:
        done.set()
        sampler.join()


def _forget_bulks(arena: Arena) -> None:
    with arena.mongod.client() as client:
        client[_DATABASE][COLLECTION].delete_many({"dateCreated": {"$gte": _SEEDED_BEFORE}})
