"""Clients that work on the same portfolios at the same time and record all that they do."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from tests.consistency.history import (
    History,
    Kind,
    Operation,
    Outcome,
    State,
    states_of,
)
from tests.support.harness import Answer, Connection, NoAnswer

_CLIENTS = 14
# Requests a second that they send together, at most.
_RATE = 160.0
# Few enough that clients meet, enough that most of what they do succeeds.
_CONTENDED = 10
_OWN = 5
_REPLAYABLE = 50
_ATTEMPTS = 6
_SMALL_BULK = 8
# More than one batch of MongoDB's: a crash can come between the two.
_LARGE_BULK = 100
_PAGE = 20
_STOP_TIMEOUT_S = 60.0
_SEARCHES = (
    "/api/v2/portfolios?name=",
    "/api/v2/portfolios?name_like=",
    "/api/fast/portfolios/search?name=",
)


class Board:
    """The portfolios that all clients work on, as they were last seen by any of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contended: deque[str] = deque(maxlen=_CONTENDED)
        self._seen: dict[str, State] = {}
        self._created: deque[Creation] = deque(maxlen=_REPLAYABLE)

    def add(self, state: State) -> None:
        """Have all clients work on a portfolio, in place of the one that they have longest."""
        with self._lock:
            if state.portfolio not in self._contended:
                self._contended.append(state.portfolio)
            self._seen.setdefault(state.portfolio, state)

    def saw(self, state: State) -> None:
        """Take note of a newer version of a portfolio, if they work on it."""
        with self._lock:
            known = self._seen.get(state.portfolio)
            if known is not None and known.version < state.version:
                self._seen[state.portfolio] = state

    def correct(self, state: State) -> None:
        """Take note of the version of a portfolio after a refusal, be it newer or older."""
        with self._lock:
            self._seen[state.portfolio] = state

    def remove(self, portfolio: str) -> None:
        """Have no client work on a portfolio any more."""
        with self._lock:
            if portfolio in self._contended:
                self._contended.remove(portfolio)

    def pick(self, chooser: random.Random) -> State | None:
        """Return one of the portfolios, or None where there is none yet."""
        with self._lock:
            if not self._contended:
                return None
            return self._seen[chooser.choice(self._contended)]

    def remember(self, creation: Creation) -> None:
        """Keep a creation with a key that was answered, to be asked for again."""
        with self._lock:
            self._created.append(creation)

    def recall(self, chooser: random.Random) -> Creation | None:
        """Return such a creation, or None where there is none yet."""
        with self._lock:
            return chooser.choice(self._created) if self._created else None


class Creation:
    """A creation and how it is asked for.

    Args:
        names: of what it creates; more than one makes it a bulk.
        key: its ``Idempotency-Key``, or empty.
        fast: whether a bulk goes by the fast API.
    """

    def __init__(self, names: tuple[str, ...], key: str, *, fast: bool) -> None:
        self.names = names
        self.key = key
        bulk = len(names) > 1
        self.kind = {
            (False, False): Kind.CREATE,
            (False, True): Kind.CREATE_ONCE,
            (True, False): Kind.BULK,
            (True, True): Kind.BULK_ONCE,
        }[bulk, bool(key)]
        items = [{"name": name} for name in names]
        self.body: Any = items if bulk else items[0]
        self.path = "/api/v1/portfolios"
        if bulk:
            self.path = "/api/fast/portfolios/bulk" if fast else "/api/v2/portfolios"


class Client:
    """One client: it sends one request at a time.

    Args:
        number: which client it is.
        urls: the services; it moves to the next when its connection breaks.
        history: where what it does is recorded; its seed is that of its choices.
        numbers: for operations, shared with the others.
        board: what it shares with the others.
        timeout_s: how long it waits for an answer.
    """

    def __init__(
        self,
        number: int,
        urls: Sequence[str],
        history: History,
        numbers: Iterator[int],
        board: Board,
        timeout_s: float,
    ) -> None:
        self._number = number
        self._connection = Connection(urls, first=number, timeout_s=timeout_s)
        self._history = history
        self._numbers = numbers
        self._board = board
        self._random = random.Random(f"{history.seed} {number}")
        self._own: deque[State] = deque(maxlen=_OWN)
        self._stopping = threading.Event()

    def work(self, stopping: threading.Event, pause_s: float) -> None:
        """Send requests until ``stopping`` is set, one each ``pause_s`` seconds at most."""
        self._stopping = stopping
        actions = {
            self._create: 8,
            self._create_once: 10,
            self._replay: 4,
            self._create_bulk: 8,
            self._read: 30,
            self._search: 8,
            self._read_page: 6,
            self._update: 24,
            self._update_stale: 2,
            self._delete: 4,
        }
        try:
            while not stopping.is_set():
                began = time.monotonic()
                [action] = self._random.choices([*actions], [*actions.values()])
                action()
                stopping.wait(began + pause_s - time.monotonic())
        finally:
            self._connection.close()

    def _create(self) -> None:
        self._send_creation(self._new_creation(1))

    def _create_bulk(self) -> None:
        size = _LARGE_BULK if self._random.random() < 0.1 else _SMALL_BULK
        keyed = self._random.random() < 0.5
        self._persist(self._new_creation(size, keyed=keyed))

    def _create_once(self) -> None:
        self._persist(self._new_creation(1, keyed=True))

    def _replay(self) -> None:
        creation = self._board.recall(self._random)
        if creation is not None:
            self._send_creation(creation)

    def _new_creation(self, size: int, *, keyed: bool = False) -> Creation:
        tag = f"p{self._number}-{next(self._numbers)}"
        names = tuple(f"{tag}-{index}" for index in range(size))
        return Creation(names, f"key-{tag}" if keyed else "", fast=self._random.random() < 0.3)

    def _persist(self, creation: Creation) -> None:
        """Create, and where there is a key try until it is done or has been tried often enough."""
        for _ in range(_ATTEMPTS if creation.key else 1):
            outcome = self._send_creation(creation)
            if outcome is Outcome.OK and creation.key:
                self._board.remember(creation)
            if outcome is Outcome.OK or self._stopping.wait(self._random.uniform(0.02, 0.6)):
                return

    def _send_creation(self, creation: Creation) -> Outcome:
        headers = {"Idempotency-Key": creation.key} if creation.key else {}
        operation = self._send(
            next(self._numbers),
            creation.kind,
            "POST",
            creation.path,
            creation.body,
            headers,
            names=creation.names,
            key=creation.key,
        )
        for state in operation.states[:1]:
            self._own.append(state)
            if self._random.random() < 0.2:
                self._board.add(state)
        return operation.outcome

    def _read(self) -> None:
        state = self._pick()
        if state is not None:
            self._read_one(state.portfolio)

    def _read_one(self, portfolio: str) -> Operation:
        path = f"/api/v1/portfolio/{portfolio}"
        number = next(self._numbers)
        return self._send(number, Kind.READ, "GET", path, portfolio=portfolio)

    def _search(self) -> None:
        state = self._pick()
        if state is None:
            return
        self._send(
            next(self._numbers),
            Kind.SEARCH,
            "GET",
            self._random.choice(_SEARCHES) + quote(state.name),
            names=(state.name,),
            portfolio=state.portfolio,
            version=state.version,
        )

    def _read_page(self) -> None:
        page = f"/api/v2/portfolios?limit={_PAGE}" + self._random.choice(["", "&cursor="])
        operation = self._send(next(self._numbers), Kind.PAGE, "GET", page)
        if operation.states and self._random.random() < 0.5:
            # Perhaps of a creation that nobody knows the outcome of.
            self._board.add(self._random.choice(operation.states))

    def _update(self) -> None:
        state = self._board.pick(self._random)
        if state is not None:
            self._put(state, state.version)

    def _update_stale(self) -> None:
        state = self._board.pick(self._random)
        if state is not None:
            self._put(state, state.version - 1)

    def _put(self, state: State, version: int) -> None:
        number = next(self._numbers)
        # The name tells a reader of the history which portfolio it was and who changed it.
        name = f"{state.name.split(' ')[0]} u{self._number}-{number}"
        body = {"portfolioId": state.portfolio, "name": name, "version": version}
        operation = self._send(
            number,
            Kind.UPDATE,
            "PUT",
            f"/api/v1/portfolio/{state.portfolio}",
            body,
            names=(name,),
            portfolio=state.portfolio,
            version=version,
        )
        if operation.status == 404:
            self._board.remove(state.portfolio)
        elif operation.status == 409 and version == state.version:
            for current in self._read_one(state.portfolio).states:
                self._board.correct(current)

    def _delete(self) -> None:
        state = self._board.pick(self._random)
        if state is None:
            return
        operation = self._send(
            next(self._numbers),
            Kind.DELETE,
            "DELETE",
            f"/api/v1/portfolio/{state.portfolio}?version={state.version}",
            portfolio=state.portfolio,
            version=state.version,
        )
        if operation.status in (204, 404):
            self._board.remove(state.portfolio)

    def _pick(self) -> State | None:
        """Return a portfolio to read: one that all work on, or one that this client created."""
        if self._own and self._random.random() < 0.3:
            return self._random.choice(self._own)
        return self._board.pick(self._random)

    def _send(
        self,
        number: int,
        kind: Kind,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        **asked: Any,
    ) -> Operation:
        started = time.monotonic()
        try:
            answer = self._connection.request(method, path, body, headers)
        except NoAnswer as error:
            outcome, status, text = Outcome.INDETERMINATE, 0, f"no answer: {error}"
            states: tuple[State, ...] = ()
        else:
            status, text = answer.status, answer.kind
            outcome = _outcome(kind, status)
            states = _states(answer) if outcome is Outcome.OK else ()
        operation = Operation(
            number,
            self._number,
            kind,
            started,
            time.monotonic(),
            outcome,
            status,
            text,
            states=states,
            **asked,
        )
        self._history.operations.append(operation)
        for state in states:
            self._board.saw(state)
        return operation


class Clients:
    """Clients that work until they are stopped.

    Args:
        urls: the services.
        history: where what they do is recorded.
        timeout_s: how long each waits for an answer.
    """

    def __init__(self, urls: Sequence[str], history: History, timeout_s: float) -> None:
        numbers, board = itertools.count(1), Board()
        self._clients = [
            Client(number, urls, history, numbers, board, timeout_s) for number in range(_CLIENTS)
        ]
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(_CLIENTS)
        self._running: list[Future[None]] = []

    def __enter__(self) -> Clients:
        self._running = [
            self._pool.submit(client.work, self._stopping, _CLIENTS / _RATE)
            for client in self._clients
        ]
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them; one that broke down fails the test."""
        self._stopping.set()
        for running in self._running:
            running.result(_STOP_TIMEOUT_S)
        self._pool.shutdown()


def _outcome(kind: Kind, status: int) -> Outcome:
    if status < 300 or (kind is Kind.READ and status == 404):
        return Outcome.OK
    return Outcome.INDETERMINATE if status >= 500 else Outcome.REFUSED


def _states(answer: Answer) -> tuple[State, ...]:
    body = answer.body
    if answer.status == 404 or body is None:
        return ()
    if isinstance(body, dict):
        body = body.get("portfolios", [body])
    return states_of(body)
