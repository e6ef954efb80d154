"""What goes wrong with MongoDB: one fault after the other, each repaired before the next."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from pymongo.errors import OperationFailure

from portfolio.devserver.mongod import Mongod
from tests.consistency.cluster import ReplicaSet
from tests.consistency.history import Fault, History
from tests.support.gunicorn import wait_until

Inject = Callable[[], None]

# How long clients work undisturbed between two faults.
_CALM_S = 1.5
_STEP_DOWN_S = 20


class Nemesis:
    """Injects faults and records them.

    Args:
        history: where they are recorded; its seed gives their durations.
        faults: what can be injected, by name; those that kill a process are told by ``crashes``.
        wait_healthy: returns when MongoDB works again.
        crashes: the names of faults that kill a ``mongod`` process.
    """

    def __init__(
        self,
        history: History,
        faults: Mapping[str, Inject],
        wait_healthy: Callable[[], object],
        crashes: Iterable[str] = (),
    ) -> None:
        self._history = history
        self._faults = faults
        self._wait_healthy = wait_healthy
        self._crashes = frozenset(crashes)

    def run(self, names: Sequence[str]) -> None:
        """Inject faults in the given order, with calm before, between and after them."""
        time.sleep(_CALM_S)
        for name in names:
            started = time.monotonic()
            self._faults[name]()
            self._wait_healthy()
            fault = Fault(name, started, time.monotonic(), crash=name in self._crashes)
            self._history.faults.append(fault)
            time.sleep(_CALM_S)


class ReplicaSetFaults:
    """The faults of a replica set.

    Args:
        cluster: the replica set.
        election_timeout_s: of the replica set.
        request_timeout_s: of the service: what has no majority is answered 503 after it.
        seed: of the choice of members and durations.
    """

    def __init__(
        self,
        cluster: ReplicaSet,
        election_timeout_s: float,
        request_timeout_s: float,
        seed: int,
    ) -> None:
        self._cluster = cluster
        self._election_timeout_s = election_timeout_s
        self._request_timeout_s = request_timeout_s
        self._random = random.Random(seed)
        self.by_name: dict[str, Inject] = {
            "primary killed": self.kill_primary,
            "primary stopped and continued": self.stop_primary,
            "primary steps down": self.step_down,
            "primary parted from its peers": self.part_primary,
            "majority gone and back": self.lose_majority,
            "majority gone until the primary steps down": self.lose_majority_for_long,
            "majority gone, then the primary killed": self.lose_majority_and_primary,
        }

    def kill_primary(self) -> None:
        """Kill -9 the primary; start it again when another is primary."""
        primary, others = self._members()
        with _killed(self._cluster.members[primary]):
            self._cluster.wait_primary(others)
            self._pause(0.5, 2.0)

    def stop_primary(self) -> None:
        """Stop the primary's process; continue it when another is primary."""
        primary, others = self._members()
        with _stopped(self._cluster.members[primary]):
            self._cluster.wait_primary(others)
            self._pause(0.0, 1.5)

    def step_down(self) -> None:
        """Have the primary step down."""
        wait_until(self._step_down, "the primary steps down")

    def part_primary(self) -> None:
        """Part the primary from its peers, not from clients, until another is primary."""
        primary, others = self._members()
        with self._cluster.parted(primary):
            self._cluster.wait_primary(others)
            self._pause(0.5, 2.0)

    def lose_majority(self) -> None:
        """Stop both secondaries and continue them while the primary still waits for them."""
        _, others = self._members()
        with _stopped(*(self._cluster.members[number] for number in others)):
            self._lack_majority()

    def lose_majority_for_long(self) -> None:
        """Stop both secondaries until the primary steps down; it may be elected again."""
        _, others = self._members()
        with _stopped(*(self._cluster.members[number] for number in others)):
            wait_until(lambda: not self._cluster.primaries(), "the primary steps down")

    def lose_majority_and_primary(self) -> None:
        """Stop both secondaries, then kill the primary; what it alone has is rolled back."""
        primary, others = self._members()
        with _stopped(*(self._cluster.members[number] for number in others)):
            self._lack_majority()
            self._cluster.members[primary].kill()
        try:
            self._cluster.wait_primary(others)
            self._pause(0.5, 1.0)
        finally:
            self._cluster.members[primary].start()

    def _members(self) -> tuple[int, list[int]]:
        primary = self._cluster.wait_healthy()
        return primary, [n for n in range(len(self._cluster.members)) if n != primary]

    def _step_down(self) -> bool:
        primary, others = self._members()
        try:
            with self._cluster.members[primary].client() as client:
                client.admin.command("replSetStepDown", _STEP_DOWN_S)
        except OperationFailure:  # no secondary has caught up
            return False
        self._cluster.wait_primary(others)
        return True

    def _lack_majority(self) -> None:
        """Wait until requests run into their deadline, but not until the primary steps down."""
        time.sleep((self._request_timeout_s + self._election_timeout_s) / 2)

    def _pause(self, least_s: float, most_s: float) -> None:
        time.sleep(self._random.uniform(least_s, most_s))


class StandaloneFaults:
    """The faults of a standalone.

    Args:
        mongod: the standalone.
        seed: of durations.
    """

    def __init__(self, mongod: Mongod, seed: int) -> None:
        self._mongod = mongod
        self._random = random.Random(seed)
        self.by_name: dict[str, Inject] = {
            "killed and restarted": self.kill,
            "stopped and continued": self.stop,
            "stopped for a moment": self.stop_for_a_moment,
        }

    def kill(self) -> None:
        """Kill -9 the process and start it again."""
        with _killed(self._mongod):
            time.sleep(self._random.uniform(0.0, 1.0))

    def stop(self) -> None:
        """Stop the process for longer than a request may take, then continue it."""
        with _stopped(self._mongod):
            time.sleep(self._random.uniform(3.0, 5.0))

    def stop_for_a_moment(self) -> None:
        """Stop the process for less than a request may take, then continue it."""
        with _stopped(self._mongod):
            time.sleep(self._random.uniform(0.3, 1.2))


@contextmanager
def _killed(mongod: Mongod) -> Iterator[None]:
    mongod.kill()
    try:
        yield
    finally:
        mongod.start()


@contextmanager
def _stopped(*members: Mongod) -> Iterator[None]:
    for member in members:
        member.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for member in members:
            member.signal(signal.SIGCONT)
