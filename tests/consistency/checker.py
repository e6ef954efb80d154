"""Holds a history against what the service promises; pure, so that it can be tested by itself.

Every write gives a portfolio a name that no other write uses. A name therefore tells which write
an answer shows, and updates name the version that they replace: so the versions of a portfolio
form a chain in which every link has one writer, and no search for an order of events is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from tests.consistency.evidence import Evidence, PortfolioHistory
from tests.consistency.history import AT_END, History, Kind, Operation, Outcome, State

_READS = frozenset({Kind.READ, Kind.SEARCH, Kind.PAGE})
# What it may take from the record of a crash to the end of the process.
_KILLED_S = 0.1
_EXPECTED = {
    Kind.CREATE: {201},
    Kind.BULK: {201},
    # 409: another attempt with this key is in progress.
    Kind.CREATE_ONCE: {201, 409},
    Kind.BULK_ONCE: {201, 409},
    Kind.READ: {200, 404},
    Kind.SEARCH: {200},
    Kind.PAGE: {200},
    Kind.UPDATE: {200, 404, 409},
    Kind.DELETE: {204, 404, 409},
}


class Rule(StrEnum):
    """What a history must not contradict."""

    LOST = "no acknowledged write is lost"
    CHAIN = "versions form one chain with one winner each"
    ROLLED_BACK = "no read shows what was rolled back"
    BACKWARDS = "reads do not go backwards"
    WHOLE = "bulks are whole"
    ONCE = "a key creates once"
    REFUSED = "an error other than 503 says truly that nothing was applied"
    ANSWER = "answers are what the contract says"
    LISTED = "the list of all at the end is what is stored"


@dataclass(frozen=True)
class Promises:
    """What the service promises on one topology.

    Args:
        stale_s: for how many seconds before and after a change of the primary a read may be stale.
        transactions: whether the topology has them. Without, a bulk that was answered 503 may be
            seen until it is undone, and a write that was in progress when ``mongod`` was killed
            may have been seen before it reached the journal.
    """

    stale_s: float = 0.0
    transactions: bool = True


@dataclass(frozen=True)
class Violation:
    """A promise that was broken.

    Attributes:
        rule: the promise.
        portfolio: the id; empty where no portfolio is known.
        what: what contradicts what.
        operations: those that show it.
    """

    rule: Rule
    portfolio: str
    what: str
    operations: tuple[Operation, ...]

    def __str__(self) -> str:
        lines = [f"{self.rule.name} ({self.rule}): portfolio {self.portfolio or '-'}: {self.what}"]
        return "\n    ".join([*lines, *map(str, self.operations)])


@dataclass
class Report:
    """What came of a check.

    Attributes:
        violations: the promises that were broken, by portfolio.
        stale: reads that were stale while the primary changed, as documented.
        exposed: what reads showed before it was undone or crashed away, as documented of a
            standalone.
    """

    violations: list[Violation] = field(default_factory=list)
    stale: list[Operation] = field(default_factory=list)
    exposed: list[State] = field(default_factory=list)


def check(history: History, promises: Promises) -> Report:
    """Return where ``history`` contradicts ``promises``."""
    return _Check(history, promises).run()


class _Check:
    def __init__(self, history: History, promises: Promises) -> None:
        self._history = history
        self._promises = promises
        self._report = Report()
        self._operations = sorted(history.operations, key=lambda each: each.started)
        # All attempts of one creation with a key write the same names.
        self._writers: dict[str, list[Operation]] = defaultdict(list)
        self._portfolios: dict[str, PortfolioHistory] = {}
        self._index()

    def run(self) -> Report:
        for operation in self._operations:
            self._check_answer(operation)
        for portfolio in self._portfolios.values():
            self._check_reads(portfolio)
            self._check_lost(portfolio)
            self._check_chain(portfolio)
            evidence = Evidence(portfolio)
            self._check_backwards(portfolio, evidence)
            self._check_refusals(portfolio, evidence)
        self._check_creations()
        self._check_lists()
        return self._report

    def _index(self) -> None:
        for operation in self._operations:
            if operation.is_creation or operation.kind is Kind.UPDATE:
                for name in operation.names:
                    self._writers[name].append(operation)
            for state in operation.states:
                portfolio = self._portfolio(state.portfolio)
                shown = portfolio.read if operation.kind in _READS else portfolio.acknowledged
                shown.append((operation, state))
            if operation.is_change:
                self._portfolio(operation.portfolio).changes.append(operation)
            elif operation.kind is Kind.READ and operation.status == 404:
                self._portfolio(operation.portfolio).not_found.append(operation)
            elif operation.kind is Kind.SEARCH and operation.outcome is Outcome.OK:
                self._portfolio(operation.portfolio).searched.append(operation)
        for identity in self._history.final:
            self._portfolio(identity)

    def _portfolio(self, identity: str) -> PortfolioHistory:
        if identity not in self._portfolios:
            final = self._history.final.get(identity)
            self._portfolios[identity] = PortfolioHistory(identity, final)
        return self._portfolios[identity]

    def _violated(
        self, rule: Rule, portfolio: str, what: str, operations: Iterable[Operation] = ()
    ) -> None:
        self._report.violations.append(Violation(rule, portfolio, what, tuple(operations)))

    def _writers_of(self, state: State) -> list[Operation]:
        """Return the operations that may have made ``state``, judged by what they ask for."""
        return [
            operation
            for operation in self._writers.get(state.name, ())
            if (operation.is_creation and state.version == 1)
            or (operation.portfolio, operation.version) == (state.portfolio, state.version - 1)
        ]

    # ANSWER

    def _check_answer(self, operation: Operation) -> None:
        if operation.status in (0, 503):
            return
        name_conflict = operation.is_creation and operation.status == 409
        name_conflict = name_conflict and "Idempotency-Key" not in operation.answer
        if operation.status not in _EXPECTED[operation.kind] or name_conflict:
            self._violated(
                Rule.ANSWER, operation.portfolio, f"answered {operation.answer}", [operation]
            )
        elif operation.outcome is Outcome.OK and not _fits(operation):
            shown = ", ".join(map(str, operation.states[:3]))
            self._violated(
                Rule.ANSWER, operation.portfolio, f"does not fit the request: {shown}", [operation]
            )

    # ROLLED_BACK, and REFUSED where what is shown was refused

    def _check_reads(self, portfolio: PortfolioHistory) -> None:
        firm = portfolio.firm_names()
        reads: dict[State, list[Operation]] = defaultdict(list)
        names: dict[int, set[str]] = defaultdict(set)
        for operation, state in portfolio.read:
            reads[state].append(operation)
            names[state.version].add(state.name)
        if portfolio.final is not None:
            reads[portfolio.final] += []
        for state, shown_by in reads.items():
            writers = self._writers_of(state)
            what = f"version {state.version} as {state.name!r}"
            if not writers:
                where = "was read" if shown_by else "is stored"
                self._violated(
                    Rule.ANSWER,
                    portfolio.identity,
                    f"{what} {where}; nobody wrote it",
                    shown_by[:1],
                )
            elif not any(writer.may_be_applied for writer in writers):
                self._violated(
                    Rule.REFUSED,
                    portfolio.identity,
                    f"{what} was applied, though it was refused",
                    [*writers, *shown_by[:1]],
                )
            elif state.name not in firm[state.version]:
                why = self._why_rolled_back(portfolio, state, firm, names)
                if why is not None:
                    portfolio.withdrawn.add(state)
                    if self._may_be_exposed(shown_by, writers):
                        self._report.exposed.append(state)
                    else:
                        self._violated(
                            Rule.ROLLED_BACK,
                            portfolio.identity,
                            f"{what} was read, but {why}",
                            [*writers, *shown_by[:3]],
                        )

    def _why_rolled_back(
        self,
        portfolio: PortfolioHistory,
        state: State,
        firm: dict[int, dict[str, list[Operation]]],
        names: dict[int, set[str]],
    ) -> str | None:
        if firm[state.version]:
            return f"that version is {next(iter(firm[state.version]))!r}"
        if not portfolio.outlives(state.version):
            end = portfolio.final
            return f"the end has {f'version {end.version}' if end else 'no such portfolio'}"
        others = [name for name in names[state.version] if name != state.name]
        return f"another read showed that version as {others[0]!r}" if others else None

    def _may_be_exposed(self, reads: list[Operation], writers: list[Operation]) -> bool:
        """Whether the lack of transactions and of a replica explains what ``reads`` showed."""
        if self._promises.transactions:
            return False
        if any(writer.kind is Kind.BULK for writer in writers):
            return True
        crashes = [fault.started for fault in self._history.faults if fault.crash]
        return any(
            writer.started <= crash + _KILLED_S
            and crash <= writer.ended
            and all(read.started <= crash + _KILLED_S for read in reads)
            for writer in writers
            for crash in crashes
        )

    # LOST

    def _check_lost(self, portfolio: PortfolioHistory) -> None:
        lost = [
            (operation, state)
            for operation, state in portfolio.acknowledged
            if not portfolio.outlives(state.version)
        ]
        if lost:
            last = max(state.version for _, state in lost)
            end = portfolio.final
            stored = f"version {end.version} is stored" if end else "it is not stored"
            self._violated(
                Rule.LOST,
                portfolio.identity,
                f"version {last} was acknowledged, but at the end {stored}",
                [operation for operation, _ in lost] + portfolio.changes[-3:],
            )
        if portfolio.final is not None:
            deletes = [each for each in portfolio.deletes if each.outcome is Outcome.OK]
            if deletes:
                self._violated(
                    Rule.LOST,
                    portfolio.identity,
                    f"it was deleted, but version {portfolio.final.version} is stored",
                    deletes,
                )

    # CHAIN

    def _check_chain(self, portfolio: PortfolioHistory) -> None:
        winners: dict[int, list[Operation]] = defaultdict(list)
        for change in portfolio.changes:
            if change.outcome is Outcome.OK:
                winners[change.version].append(change)
        for version, changes in winners.items():
            if len(changes) > 1:
                self._violated(
                    Rule.CHAIN,
                    portfolio.identity,
                    f"{len(changes)} changes of version {version} were acknowledged",
                    changes,
                )
        firm = portfolio.firm_names()
        for version, names in firm.items():
            if len(names) > 1:
                told = " and ".join(map(repr, names))
                operations = [each for group in names.values() for each in group[:2]]
                self._violated(
                    Rule.CHAIN, portfolio.identity, f"version {version} is {told}", operations
                )
        top = max((version for version, names in firm.items() if names), default=1)
        written = {
            each.version + 1
            for each in portfolio.changes
            if each.kind is Kind.UPDATE and each.may_be_applied
        }
        for version in range(2, top + 1):
            if version not in written:
                self._violated(
                    Rule.CHAIN,
                    portfolio.identity,
                    f"version {top} was reached, though no update led to version {version}",
                    [operation for operation, _ in portfolio.acknowledged[-2:]],
                )
        for version, changes in winners.items():
            if version < top and any(each.kind is Kind.DELETE for each in changes):
                self._violated(
                    Rule.CHAIN,
                    portfolio.identity,
                    f"version {version} was deleted, yet there is a version {top}",
                    changes + [operation for operation, _ in portfolio.acknowledged[-2:]],
                )

    # BACKWARDS

    def _check_backwards(self, portfolio: PortfolioHistory, evidence: Evidence) -> None:
        for operation, state in portfolio.read:
            if state in portfolio.withdrawn:
                continue
            newest = evidence.newest(operation.started)
            if newest is not None and newest[0] > state.version:
                self._stale(
                    portfolio,
                    operation,
                    f"version {state.version} was read after version {newest[0]} was told",
                    newest[1],
                )
            elif delete := evidence.deleted(operation.started):
                self._stale(
                    portfolio,
                    operation,
                    f"version {state.version} was read after it was deleted",
                    delete,
                )
        for operation in portfolio.not_found:
            newest = evidence.newest(operation.started)
            if newest is not None and not portfolio.deletes_before(operation.ended):
                self._stale(
                    portfolio,
                    operation,
                    f"it was not found after version {newest[0]} was told",
                    newest[1],
                )
        for operation in portfolio.searched:
            wanted = State(portfolio.identity, operation.version, operation.names[0])
            told = evidence.of(wanted, operation.started)
            if (
                told is not None
                and wanted not in operation.states
                and not portfolio.changes_of(wanted.version, before=operation.ended)
            ):
                self._stale(
                    portfolio,
                    operation,
                    f"{wanted.name!r} was not found after it was told",
                    told,
                )

    def _stale(
        self, portfolio: PortfolioHistory, operation: Operation, what: str, told: Operation
    ) -> None:
        if self._primary_changed(operation):
            self._report.stale.append(operation)
        else:
            rule = Rule.REFUSED if operation.is_change else Rule.BACKWARDS
            whose = " by the same client" if operation.client == told.client else ""
            what = f"{what}{whose} {operation.started - told.ended:.3f} s before"
            self._violated(rule, portfolio.identity, what, [told, operation])

    def _primary_changed(self, operation: Operation) -> bool:
        margin = self._promises.stale_s
        return any(
            operation.started - margin <= election <= operation.ended + margin
            for election in self._history.elections
        )

    # REFUSED

    def _check_refusals(self, portfolio: PortfolioHistory, evidence: Evidence) -> None:
        for change in portfolio.changes:
            if change.status == 404:
                newest = evidence.newest(change.started)
                if newest is not None and not portfolio.deletes_before(change.ended):
                    self._stale(
                        portfolio,
                        change,
                        f"a change was refused by 404 after version {newest[0]} was told",
                        newest[1],
                    )
            elif change.status == 409:
                told = evidence.of_version(change.version, change.started)
                replaced = portfolio.changes_of(change.version, before=change.ended)
                if told is not None and not replaced:
                    self._stale(
                        portfolio,
                        change,
                        f"a change of version {change.version}, the current one, was refused "
                        "by 409; the version was told",
                        told,
                    )

    # ONCE and WHOLE

    def _check_creations(self) -> None:
        identities = self._identities_by_name()
        done: set[tuple[str, ...]] = set()
        for operation in self._operations:
            if not operation.is_creation or operation.names in done:
                continue
            done.add(operation.names)
            attempts = self._writers[operation.names[0]]
            twice = [name for name in operation.names if len(identities.get(name, ())) > 1]
            if twice:
                found = sorted(identities[twice[0]])
                more = f", {len(twice) - 1} more of its bulk too" if len(twice) > 1 else ""
                self._violated(
                    Rule.ONCE,
                    ", ".join(found),
                    f"{twice[0]!r} was created {len(found)} times{more}",
                    attempts,
                )
            self._check_whole(operation.names, attempts, identities)

    def _identities_by_name(self) -> dict[str, set[str]]:
        """Return the ids under which each created name was seen as version 1."""
        identities: dict[str, set[str]] = defaultdict(set)
        for portfolio in self._portfolios.values():
            states = {state for _, state in portfolio.acknowledged + portfolio.read}
            if portfolio.final is not None:
                states.add(portfolio.final)
            for state in states - portfolio.withdrawn:
                if state.version == 1:
                    identities[state.name].add(portfolio.identity)
        return identities

    def _check_whole(
        self, names: tuple[str, ...], attempts: list[Operation], identities: dict[str, set[str]]
    ) -> None:
        if len(names) == 1:
            return
        there, open_, missing = [], [], []
        for name in names:
            known = [self._portfolios[identity] for identity in identities.get(name, ())]
            if any(each.final is not None or each.was_deleted for each in known):
                there.append(name)
            elif any(each.deletes for each in known):
                open_.append(name)
            else:
                missing.append(name)
        if there and missing:
            self._violated(
                Rule.WHOLE,
                "",
                f"of {len(names)} portfolios {len(there)} were stored, but not {missing[0]!r}",
                attempts,
            )

    # LISTED

    def _check_lists(self) -> None:
        for operation in self._operations:
            if operation.client != AT_END:
                continue
            differences = set(operation.states) ^ set(self._history.final.values())
            if differences or len(operation.states) != len(self._history.final):
                # Without differences a portfolio is listed twice.
                first = next(iter(differences or operation.states))
                where = "listed" if first in operation.states else "stored"
                self._violated(
                    Rule.LISTED,
                    first.portfolio,
                    f"{len(operation.states)} are listed and {len(self._history.final)} stored; "
                    f"{len(differences)} differ: version {first.version} as {first.name!r} "
                    f"is {where} only",
                    [operation],
                )


def _fits(operation: Operation) -> bool:
    """Whether an answer shows what was asked for."""
    states = operation.states
    if operation.is_creation:
        return [(each.version, each.name) for each in states] == [
            (1, name) for name in operation.names
        ]
    if operation.kind is Kind.UPDATE:
        return states == (State(operation.portfolio, operation.version + 1, operation.names[0]),)
    if operation.kind is Kind.READ:
        return all(each.portfolio == operation.portfolio for each in states)
    if operation.kind is Kind.SEARCH:
        return all(operation.names[0] in each.name for each in states)
    return True
