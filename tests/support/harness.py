"""Load with a memory: clients that know what was acknowledged to them, and an audit of it all.

Each client works on portfolios of its own, so that it knows exactly what every answer has to be:
an update whose answer never came may have landed or may land later, everything else is certain.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tests.support.gunicorn import wait_until

# REQUEST_TIMEOUT_MS is 5 s by default; a machine that is short of CPU adds to it.
_LATE_AFTER_S = 10.0
# A client that waits longer calls it a hang, which the contract forbids.
_PATIENCE_S = 15.0
# Every fault has to be over this long after its cause is gone.
RECOVERY_S = 10.0
# Service counts as back once nothing failed for as long as this.
_QUIET_S = 2.0
_BULK = 10
# What admission control answers.
SHED = "503 Too many requests are in flight"


class NoAnswer(Exception):
    """A request that was sent, or could not be, and never answered; the message says how."""


@dataclass(frozen=True)
class Answer:
    """What came back: ``body`` is parsed where it is JSON."""

    status: int
    headers: http.client.HTTPMessage
    body: Any

    @property
    def kind(self) -> str:
        """The status, with the sentence of an error."""
        detail = self.body.get("detail") if isinstance(self.body, dict) else None
        return f"{self.status} {detail}" if isinstance(detail, str) else str(self.status)


class Connection:
    """One keep-alive connection that reconnects, to the next address, when it is told to close.

    Args:
        urls: the instances of the service; a refused connection is tried at each of them.
        first: which of them to begin with.
        timeout_s: how long to wait for an answer.
    """

    def __init__(self, urls: Sequence[str], first: int = 0, timeout_s: float = _PATIENCE_S) -> None:
        self._urls = urls
        self._current = first
        self._timeout_s = timeout_s
        self._open: http.client.HTTPConnection | None = None

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request and return its answer.

        Args:
            method: of HTTP.
            path: with its query, quoted.
            body: sent as JSON; bytes as they are.
            headers: beside ``Content-Type``.

        Raises:
            NoAnswer: there was none; the request may have been served all the same.
        """
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body)
        headers = {"Content-Type": "application/json", **(headers or {})}
        connection = self._connect()
        try:
            connection.request(method, path, payload, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswer(type(error).__name__) from error
        if response.will_close:
            self.close()
        is_json = response.headers.get_content_type() == "application/json"
        parsed = json.loads(content) if is_json and content else None
        return Answer(response.status, response.headers, parsed)

    @property
    def local_port(self) -> int:
        """The port on this side, which tells whose the other side is; opens the connection."""
        return int(self._connect().sock.getsockname()[1])

    def close(self) -> None:
        """Close it; the next request goes to the next address."""
        if self._open is not None:
            self._open.close()
            self._open = None
            self._current += 1

    def _connect(self) -> http.client.HTTPConnection:
        for _ in self._urls:
            if self._open is not None:
                return self._open
            address = urlsplit(self._urls[self._current % len(self._urls)]).netloc
            self._open = http.client.HTTPConnection(address, timeout=self._timeout_s)
            try:
                self._open.connect()
            except OSError as error:
                refused = error
                self.close()
        if self._open is None:
            raise NoAnswer(type(refused).__name__) from refused
        return self._open


@dataclass
class Known:
    """What a client knows of one portfolio: its state, and updates from it that may yet land."""

    identity: str
    name: str
    version: int
    created: str
    pending: set[str] = field(default_factory=set)

    def allows(self, name: str, version: int) -> bool:
        """Whether this may be its state now."""
        landed = version == self.version + 1 and name in self.pending
        return landed or (name, version) == (self.name, self.version)

    def move(self, name: str, version: int) -> None:
        """Take over what was answered."""
        if version != self.version:
            self.pending.clear()
        self.name, self.version = name, version


@dataclass
class Ledger:
    """What one client, or all of them, did and saw."""

    requests: int = 0
    accepted: int = 0
    known: list[Known] = field(default_factory=list)
    # Names of creations without an answer: one may be there, once, or not; a bulk all or none.
    unsure: list[list[str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def failed(self) -> list[str]:
        """The kinds of failures, but for what admission control refused.

        It judges the CPU, which on a shared machine others may take: for tests of something else.
        """
        return [kind for _, kind in self.failures if kind != SHED]

    def add(self, other: Ledger) -> None:
        """Add up what ``other`` holds."""
        self.requests += other.requests
        self.accepted += other.accepted
        for name in ("known", "unsure", "lost", "wrong", "failures"):
            getattr(self, name).extend(getattr(other, name))
        self.slowest_s = max(self.slowest_s, other.slowest_s)


class Client:
    """One user of the service, who creates, reads, updates and creates in bulk.

    Args:
        urls: the instances of the service.
        number: which client it is.
    """

    def __init__(self, urls: Sequence[str], number: int) -> None:
        self.ledger = Ledger()
        self.last_success = 0.0
        self._connection = Connection(urls, first=number)
        self._random = random.Random(number)
        self._names = (f"drill-{uuid.uuid4().hex[:12]}-{i}" for i in itertools.count())

    def step(self) -> None:
        """Do one thing."""
        if not self.ledger.known:
            return self._create()
        actions = [self._create, self._read, self._update, self._update_stale, self._create_bulk]
        action = self._random.choices(actions, weights=[30, 35, 20, 5, 10])[0]
        return action()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _create(self) -> None:
        name = next(self._names)
        answer = self._send("POST", "/api/v1/portfolios", {"name": name})
        if answer is None:
            self.ledger.unsure.append([name])
        elif self._expect(answer, 201):
            self._learn([name], [answer.body])

    def _create_bulk(self) -> None:
        names = list(itertools.islice(self._names, _BULK))
        answer = self._send("POST", "/api/v2/portfolios", [{"name": name} for name in names])
        if answer is None:
            self.ledger.unsure.append(names)
        elif self._expect(answer, 201):
            self._learn(names, answer.body)

    def _read(self) -> None:
        known = self._pick()
        answer = self._send("GET", f"/api/v1/portfolio/{known.identity}")
        if answer is None:
            return
        if answer.status == 404:
            self.ledger.lost.append(f"{known} is not found")
            self.ledger.known.remove(known)
        elif self._expect(answer, 200):
            self._compare(known, answer.body)

    def _update(self) -> None:
        known = self._pick()
        name = next(self._names)
        answer = self._put(known, name, known.version)
        if answer is None:
            known.pending.add(name)
        elif answer.status == 409 and known.pending:
            pass  # an update without an answer has landed; the next read tells which
        elif self._expect(answer, 200):
            known.pending = {name}
            if (answer.body["name"], answer.body["version"]) != (name, known.version + 1):
                self.ledger.wrong.append(f"{known} updated to {name}, answered {answer.body}")
            self._compare(known, answer.body)

    def _update_stale(self) -> None:
        known = self._pick()
        answer = self._put(known, next(self._names), known.version - 1)
        if answer is not None:
            self._expect(answer, 409)

    def _put(self, known: Known, name: str, version: int) -> Answer | None:
        body = {"portfolioId": known.identity, "name": name, "version": version}
        return self._send("PUT", f"/api/v1/portfolio/{known.identity}", body)

    def _pick(self) -> Known:
        # Mostly one of the last: a write is at risk while it is young.
        return self._random.choice(self.ledger.known[-20:])

    def _learn(self, names: list[str], body: list[dict[str, Any]]) -> None:
        if [(each["name"], each["version"]) for each in body] != [(name, 1) for name in names]:
            self.ledger.wrong.append(f"created {names}, answered {body}")
        self.ledger.known += [
            Known(each["portfolioId"], each["name"], each["version"], each["dateCreated"])
            for each in body
        ]

    def _compare(self, known: Known, body: dict[str, Any]) -> None:
        if (body["portfolioId"], body["dateCreated"]) != (known.identity, known.created):
            self.ledger.wrong.append(f"{known} answered as {body}")
        elif not known.allows(body["name"], body["version"]):
            stale = body["version"] < known.version
            self.ledger.wrong.append(f"{known} answered {'stale' if stale else 'wrong'}: {body}")
        else:
            known.move(body["name"], body["version"])

    def _expect(self, answer: Answer, status: int) -> bool:
        if answer.status == status:
            return True
        self.ledger.wrong.append(f"expected {status}, got {answer.kind}: {answer.body}")
        return False

    def _send(self, method: str, path: str, body: Any = None) -> Answer | None:
        """Return the answer, or None where the outcome is open: none came, or a 5xx."""
        ledger = self.ledger
        ledger.requests += 1
        begun = time.monotonic()
        try:
            answer = self._connection.request(method, path, body)
        except NoAnswer as error:
            return self._fail(begun, f"no answer: {error}")
        took = time.monotonic() - begun
        ledger.slowest_s = max(ledger.slowest_s, took)
        if took > _LATE_AFTER_S:
            ledger.wrong.append(f"{method} {path}: {answer.kind} after {took:.1f} s")
        if answer.status < 500:
            self.last_success = begun
            ledger.accepted += method != "GET" and answer.status < 300
            return answer
        if answer.status != 503 or "Retry-After" not in answer.headers:
            ledger.wrong.append(f"{method} {path}: {answer.kind}, headers {answer.headers.items()}")
        return self._fail(begun, answer.kind)

    def _fail(self, begun: float, kind: str) -> None:
        if time.monotonic() - begun >= _PATIENCE_S:
            self.ledger.wrong.append(f"hang: {kind}")
        self.ledger.failures.append((time.monotonic(), kind))


class Load:
    """Clients that work until they are stopped.

    Args:
        urls: the instances of the service.
        clients: how many there are, each with one connection.
        rate: requests a second that they send together while all goes well.
    """

    def __init__(self, urls: Sequence[str], clients: int = 12, rate: float = 200) -> None:
        self.clients = [Client(urls, number) for number in range(clients)]
        self._pause_s = clients / rate
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._running: list[Future[None]] = []

    def start(self) -> None:
        """Begin, or go on after a pause."""
        self._stopping.clear()
        self._running = [self._pool.submit(self._work, client) for client in self.clients]

    def run_for(self, seconds: float) -> None:
        """Let it run; a client that breaks down ends this, and the test, at once."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check()
            time.sleep(0.05)

    def recover(self, cured: float) -> float:
        """Wait until every client is served again and return the seconds since ``cured``.

        That is the time of the last failure, or of the first success of the last client to have
        one, whichever is later.
        """

        def is_back() -> bool:
            self._check()
            now = time.monotonic()
            served = all(client.last_success > cured for client in self.clients)
            return served and now - self._last_failure() > _QUIET_S and now - cured > _QUIET_S

        # An answer that was awaited when the cure came may fail as late as its deadline.
        wait_until(is_back, "every client is served again", 3 * RECOVERY_S)
        return max(self._last_failure() - cured, 0.0)

    def pause(self) -> None:
        """Wait until every client has its answer and sends nothing more, until ``start``."""
        self._stopping.set()
        for running in self._running:
            running.result(2 * _PATIENCE_S)

    def stop(self) -> Ledger:
        """Stop and return what all clients did and saw."""
        self.pause()
        total = Ledger()
        for client in self.clients:
            client.close()
            total.add(client.ledger)
        self._pool.shutdown()
        return total

    def _work(self, client: Client) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            client.step()
            due = max(due + self._pause_s, time.monotonic())
            self._stopping.wait(due - time.monotonic())

    def _check(self) -> None:
        for running in self._running:
            if running.done():
                running.result()

    def _last_failure(self) -> float:
        return max(
            (client.ledger.failures[-1][0] for client in self.clients if client.ledger.failures),
            default=0.0,
        )


def audit(ledger: Ledger, documents: Iterable[dict[str, Any]]) -> None:
    """Compare what was acknowledged with what is stored; add what differs to ``ledger``.

    Args:
        ledger: of all clients that wrote to the collection.
        documents: the whole collection.
    """
    stored = {str(document["_id"]): document for document in documents}
    names = Counter(document["name"] for document in stored.values())
    for known in ledger.known:
        document = stored.pop(known.identity, None)
        if document is None:
            ledger.lost.append(f"{known} is not stored")
        elif document["version"] < known.version:
            ledger.lost.append(f"{known}: its update is lost, stored is {document}")
        elif not known.allows(document["name"], document["version"]):
            ledger.wrong.append(f"{known} is stored as {document}")
        elif on_the_wire(document["dateCreated"]) != known.created:
            ledger.wrong.append(f"{known} has another date on disk: {document}")
    for creation in ledger.unsure:
        found = [names[name] for name in creation]
        if found not in ([0] * len(creation), [1] * len(creation)):
            ledger.wrong.append(f"half or twice there: {found} of {creation}")
    expected = set(itertools.chain.from_iterable(ledger.unsure))
    ledger.wrong += [
        f"nobody made {document}"
        for document in stored.values()
        if document["name"] not in expected
    ]


def on_the_wire(moment: datetime) -> str:
    """Return a stored date as section 1 of the contract writes it."""
    return moment.replace(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
