"""What clients did and saw, and what was done to MongoDB meanwhile, as records.

Times are seconds of ``time.monotonic`` in the process that ran the clients.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Kind(StrEnum):
    """What an operation asks for."""

    CREATE = "create"
    BULK = "bulk"
    CREATE_ONCE = "create with key"
    BULK_ONCE = "bulk with key"
    READ = "read"
    SEARCH = "search"
    PAGE = "page"
    UPDATE = "update"
    DELETE = "delete"


# The client that reads the list of all at the end.
AT_END = -1
CREATIONS = frozenset({Kind.CREATE, Kind.BULK, Kind.CREATE_ONCE, Kind.BULK_ONCE})


class Outcome(StrEnum):
    """What the client knows of an operation afterwards."""

    OK = "ok"
    # An error that promises that nothing was applied.
    REFUSED = "refused"
    # 503, or no answer: it may have been applied, or may be applied later.
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True, slots=True)
class State:
    """One portfolio as an answer shows it."""

    portfolio: str
    version: int
    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One request and its answer.

    Attributes:
        number: identifies it in its history.
        client: who sent it.
        kind: what it asks for.
        started: just before it was sent.
        ended: just after its answer came, or was given up.
        outcome: what the client knows of it.
        status: of the answer; 0 where there was none.
        answer: status and sentence of the answer, or how there was none.
        names: what it writes, each used by this operation alone (a retry with the same key uses
            those of the first attempt); of a search, the name that it looks for.
        portfolio: the id that it reads, updates or deletes; of a search, the one to be found.
        version: the version that an update or a delete names.
        key: its ``Idempotency-Key``.
        states: the portfolios in its answer.
    """

    number: int
    client: int
    kind: Kind
    started: float
    ended: float
    outcome: Outcome
    status: int
    answer: str
    names: tuple[str, ...] = ()
    portfolio: str = ""
    version: int = 0
    key: str = ""
    states: tuple[State, ...] = ()

    @property
    def is_creation(self) -> bool:
        """Whether it creates portfolios."""
        return self.kind in CREATIONS

    @property
    def is_change(self) -> bool:
        """Whether it updates or deletes one."""
        return self.kind in (Kind.UPDATE, Kind.DELETE)

    @property
    def may_be_applied(self) -> bool:
        """Whether its effect may be found."""
        return self.outcome is not Outcome.REFUSED

    def __str__(self) -> str:
        asked = " ".join(
            part
            for part in (
                self.kind.value,
                self.portfolio,
                f"version {self.version}" if self.is_change else "",
                f"key {self.key}" if self.key else "",
                f"{', '.join(self.names[:3])}{' …' if len(self.names) > 3 else ''}",
            )
            if part
        )
        time = f"{self.started:.3f} to {self.ended:.3f}"
        return f"#{self.number} client {self.client} {time}: {asked} -> {self.answer}"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to MongoDB.

    Attributes:
        name: what it was.
        started: just before it began.
        ended: when it was repaired.
        crash: whether a ``mongod`` process was killed at ``started``.
    """

    name: str
    started: float
    ended: float
    crash: bool = False


@dataclass
class History:
    """All that happened in one run.

    Attributes:
        seed: what the choices of clients and faults were made from.
        operations: in no particular order.
        faults: in order.
        elections: when a member was first seen to be primary in place of another.
        final: what is stored at the end, by id, after all faults were repaired.
    """

    seed: int
    operations: list[Operation] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    elections: list[float] = field(default_factory=list)
    final: dict[str, State] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it to ``path``, one JSON object a line."""
        with path.open("w") as file:
            for line in self._lines():
                file.write(json.dumps(line) + "\n")

    def _lines(self) -> Iterator[dict[str, Any]]:
        yield {"seed": self.seed, "elections": self.elections}
        yield from ({"fault": asdict(fault)} for fault in self.faults)
        ordered = sorted(self.operations, key=lambda operation: operation.started)
        yield from ({"operation": asdict(operation)} for operation in ordered)
        yield from ({"final": asdict(state)} for state in self.final.values())

    @classmethod
    def load(cls, path: Path) -> History:
        """Return the history that was saved to ``path``."""
        history = cls(seed=0)
        for line in map(json.loads, path.read_text().splitlines()):
            if "operation" in line:
                history.operations.append(_operation(line["operation"]))
            elif "fault" in line:
                history.faults.append(Fault(**line["fault"]))
            elif "final" in line:
                state = State(**line["final"])
                history.final[state.portfolio] = state
            else:
                history.seed, history.elections = line["seed"], line["elections"]
        return history


def states_of(documents: Iterable[dict[str, Any]]) -> tuple[State, ...]:
    """Return portfolios as they are on the wire as states."""
    return tuple(State(each["portfolioId"], each["version"], each["name"]) for each in documents)


def _operation(fields: dict[str, Any]) -> Operation:
    fields["kind"] = Kind(fields["kind"])
    fields["outcome"] = Outcome(fields["outcome"])
    fields["names"] = tuple(fields["names"])
    fields["states"] = tuple(State(**state) for state in fields["states"])
    return Operation(**fields)
