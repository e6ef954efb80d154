"""Load: a closed loop of a few connections, and an open loop on a fixed schedule."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.operations import Operation

try:
    from uvloop import run
except ImportError:  # slower, and good enough for a test of this program
    from asyncio import run  # type: ignore[assignment]

HOST = "127.0.0.1"
# What an open loop leaves waiting at once before it queues on its own side, still on the clock.
_MOST_CONNECTIONS = 512
# How long answers are awaited after the last request was due.
_GRACE_S = 5.0


@dataclass(frozen=True)
class Load:
    """What one run of load saw; latencies in milliseconds."""

    requests: int
    seconds: float
    errors: int
    p50: float
    p95: float
    p99: float

    @property
    def rate(self) -> float:
        """Answers that were no errors, a second."""
        return (self.requests - self.errors) / self.seconds


class Phase(NamedTuple):
    """A part of an open loop: requests a second, and for how many seconds."""

    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was due in seconds since the start, and what came of it.

    ``status`` is 0 where no answer came; ``latency_ms`` is then how long it was waited for.
    """

    kind: str
    due_s: float
    latency_ms: float
    status: int
    retry_after: bool

    @property
    def accepted(self) -> bool:
        """Whether the request was served."""
        return 200 <= self.status < 300


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of ``values`` lie; NaN where there are none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def summarise(samples: Sequence[Sample]) -> Load:
    """Return rate, errors and percentiles of ``samples``, failures at the time they took.

    The rate is that of answers, from the first request to the last answer.
    """
    first = min(sample.due_s for sample in samples)
    seconds = max(sample.due_s + sample.latency_ms / 1000 for sample in samples) - first
    latencies = sorted(sample.latency_ms for sample in samples)
    return Load(
        requests=len(samples),
        seconds=seconds,
        errors=sum(not sample.accepted for sample in samples),
        p50=percentile(latencies, 0.50),
        p95=percentile(latencies, 0.95),
        p99=percentile(latencies, 0.99),
    )


def closed_loop(port: int, operation: Operation, connections: int, seconds: float) -> Load:
    """Keep ``connections`` busy, each with its next request as soon as it has its answer."""
    with _quiet_collector():
        return run(_ClosedLoop(port, operation, seconds).run(connections))


def open_loop(port: int, hand: Mapping[Operation, int], *phases: Phase) -> list[Sample]:
    """Send requests on a fixed schedule, whatever becomes of the ones before.

    A latency counts from when its request was due, so that a server that stalls is charged for
    every request that it kept waiting, also for those that had to wait for a connection.

    Args:
        port: where the server listens.
        hand: how many requests of each operation are in a round; rounds repeat in one fixed,
            evenly mixed order, the same for every server.
        phases: what is asked, one after the other.
    """
    with _quiet_collector():
        return run(_OpenLoop(port, _deal(hand), _due_times(phases)).run())


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """No garbage collection: its pauses would be counted against the server."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Connection(asyncio.Protocol):
    """A keep-alive connection with one request in flight at most."""

    def __init__(self, done: Callable[[_Connection, int, bytes], None]) -> None:
        self._done = done
        self._received = bytearray()
        self._expected = -1
        self._transport: asyncio.Transport | None = None
        self.open = False
        self.busy = False

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self.busy = True
        self._transport.write(request)

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self.busy:
            self.busy = False
            self._done(self, 0, b"")

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._expected < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._expected = end + 4 + _content_length(bytes(self._received[:end]).lower())
        if len(self._received) < self._expected:
            return
        head = bytes(self._received).partition(b"\r\n\r\n")[0].lower()
        self._received.clear()
        self._expected = -1
        self.busy = False
        if b"\r\nconnection: close" in head:
            self.close()
        self._done(self, int(head[9:12]), head)


def _content_length(head: bytes) -> int:
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise ValueError(f"an answer without a length: {head!r}")
    return int(rest.partition(b"\r\n")[0])


class _ClosedLoop:
    def __init__(self, port: int, operation: Operation, seconds: float) -> None:
        self._port = port
        self._operation = operation
        self._seconds = seconds
        self._numbers = itertools.count()
        self._begun: dict[_Connection, float] = {}
        self._samples: list[Sample] = []
        self._start = time.perf_counter()

    async def run(self, connections: int) -> Load:
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(lambda: _Connection(self._done), HOST, self._port)
            for _ in range(connections)
        ]
        self._start = time.perf_counter()
        for _, connection in opened:
            self._send(connection)
        await asyncio.sleep(self._seconds)
        load = summarise(self._samples)
        for _, connection in opened:
            connection.busy = False
            connection.close()
        return load

    def _send(self, connection: _Connection) -> None:
        self._begun[connection] = time.perf_counter()
        connection.send(self._operation.render(HOST, self._numbers))

    def _done(self, connection: _Connection, status: int, head: bytes) -> None:
        begun = self._begun[connection]
        latency_ms = (time.perf_counter() - begun) * 1000
        due_s = begun - self._start
        self._samples.append(Sample(self._operation.key, due_s, latency_ms, status, False))
        if connection.open:
            self._send(connection)


@dataclass(slots=True, eq=False)
class _Request:
    kind: str
    due: float
    data: bytes


@dataclass
class _OpenLoop:
    port: int
    operations: Iterator[Operation]
    due_times: Sequence[float]
    samples: list[Sample] = field(default_factory=list)
    idle: list[_Connection] = field(default_factory=list)
    queue: deque[_Request] = field(default_factory=deque)
    in_flight: dict[_Connection, _Request] = field(default_factory=dict)
    opening: set[asyncio.Task[None]] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    start: float = 0.0
    released: int = 0

    async def run(self) -> list[Sample]:
        loop = asyncio.get_running_loop()
        self.start = time.perf_counter()
        # Timers of an event loop are a millisecond coarse; a thread's sleep is not, and a latency
        # of a millisecond must not be counted as two.
        threading.Thread(target=self._tick, args=(loop,), daemon=True).start()
        give_up = self.start + self.due_times[-1] + _GRACE_S
        while len(self.samples) < len(self.due_times) and time.perf_counter() < give_up:
            await asyncio.sleep(0.02)
        for request in [*self.in_flight.values(), *self.queue]:
            self._record(request, 0, b"")
        for task in self.opening:
            task.cancel()
        for connection in [*self.in_flight, *self.idle]:
            connection.busy = False
            connection.close()
        return self.samples

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        due_times = self.due_times
        index = 0
        while index < len(due_times):
            wait = self.start + due_times[index] - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            now = time.perf_counter() - self.start
            while index < len(due_times) and due_times[index] <= now:
                index += 1
            loop.call_soon_threadsafe(self._release, index)

    def _release(self, until: int) -> None:
        while self.released < until:
            operation = next(self.operations)
            due = self.start + self.due_times[self.released]
            self.released += 1
            self._dispatch(_Request(operation.key, due, operation.render(HOST, self.numbers)))

    def _dispatch(self, request: _Request) -> None:
        while self.idle:
            connection = self.idle.pop()
            if connection.open:
                self._send(connection, request)
                return
        self.queue.append(request)
        if len(self.in_flight) + len(self.opening) < _MOST_CONNECTIONS:
            task = asyncio.get_running_loop().create_task(self._connect())
            self.opening.add(task)
            task.add_done_callback(self.opening.discard)

    def _send(self, connection: _Connection, request: _Request) -> None:
        self.in_flight[connection] = request
        connection.send(request.data)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: _Connection(self._done), HOST, self.port
            )
        except OSError:
            if self.queue:
                self._record(self.queue.popleft(), 0, b"")
            return
        self._next(connection)

    def _done(self, connection: _Connection, status: int, head: bytes) -> None:
        self._record(self.in_flight.pop(connection), status, head)
        if connection.open:
            self._next(connection)

    def _next(self, connection: _Connection) -> None:
        if self.queue:
            self._send(connection, self.queue.popleft())
        else:
            self.idle.append(connection)

    def _record(self, request: _Request, status: int, head: bytes) -> None:
        latency_ms = (time.perf_counter() - request.due) * 1000
        due_s = request.due - self.start
        retry_after = b"\r\nretry-after:" in head
        self.samples.append(Sample(request.kind, due_s, latency_ms, status, retry_after))


def _due_times(phases: Sequence[Phase]) -> list[float]:
    """Return when each request is due, in seconds since the start."""
    due = []
    begin = 0.0
    for rate, seconds in phases:
        due += [begin + index / rate for index in range(int(rate * seconds))]
        begin += seconds
    return due


def _deal(hand: Mapping[Operation, int]) -> Iterator[Operation]:
    """Yield the operations of ``hand`` over and over, each spread evenly over a round."""
    places = [
        ((place + 0.5) / count, operation)
        for operation, count in hand.items()
        for place in range(count)
    ]
    places.sort(key=lambda place: place[0])
    return itertools.cycle([operation for _, operation in places])
