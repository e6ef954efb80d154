"""A history by portfolio: what was asked and answered of each, and what clients knew by when."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from tests.consistency.history import Kind, Operation, Outcome, State


class PortfolioHistory:
    """What a history tells of one portfolio."""

    def __init__(self, identity: str, final: State | None) -> None:
        self.identity = identity
        self.final = final
        # Answers to creations and updates, and to reads, that show it.
        self.acknowledged: list[tuple[Operation, State]] = []
        self.read: list[tuple[Operation, State]] = []
        self.not_found: list[Operation] = []
        self.searched: list[Operation] = []
        self.changes: list[Operation] = []
        # What ``read`` shows and must be left out of account, since it was rolled back.
        self.withdrawn: set[State] = set()

    @property
    def deletes(self) -> list[Operation]:
        """The deletes that may have been applied."""
        return [each for each in self._applied if each.kind is Kind.DELETE]

    @property
    def was_deleted(self) -> bool:
        """Whether a delete was acknowledged."""
        return any(delete.outcome is Outcome.OK for delete in self.deletes)

    @property
    def _applied(self) -> list[Operation]:
        return [each for each in self.changes if each.may_be_applied]

    def outlives(self, version: int) -> bool:
        """Whether the end allows that ``version`` was reached and not taken back."""
        if self.final is not None:
            return self.final.version >= version
        return any(delete.version >= version for delete in self.deletes)

    def firm_names(self) -> dict[int, dict[str, list[Operation]]]:
        """Return the names of each version that were acknowledged or are stored at the end."""
        names: dict[int, dict[str, list[Operation]]] = defaultdict(lambda: defaultdict(list))
        for operation, state in self.acknowledged:
            names[state.version][state.name].append(operation)
        if self.final is not None:
            names[self.final.version][self.final.name] += []
        return names

    def changes_of(self, version: int, *, before: float) -> list[Operation]:
        """Return what may have replaced ``version`` before a moment."""
        return [each for each in self._applied if each.version == version and each.started < before]

    def deletes_before(self, moment: float) -> list[Operation]:
        """Return the deletes that may have been applied before ``moment``."""
        return [delete for delete in self.deletes if delete.started < moment]


class Evidence:
    """What clients had been told of a portfolio by any moment."""

    def __init__(self, portfolio: PortfolioHistory) -> None:
        told = [
            (operation.ended, state.version, operation, state)
            for operation, state in portfolio.acknowledged + portfolio.read
            if state not in portfolio.withdrawn
        ]
        told.sort(key=lambda each: each[0])
        self._ends = [each[0] for each in told]
        self._newest: list[tuple[int, Operation]] = []
        for _, version, operation, _ in told:
            if not self._newest or version > self._newest[-1][0]:
                self._newest.append((version, operation))
            else:
                self._newest.append(self._newest[-1])
        self._first: dict[State, Operation] = {}
        for _, _, operation, state in told:
            self._first.setdefault(state, operation)
        deletes = [each for each in portfolio.changes if each.outcome is Outcome.OK]
        deletes = [each for each in deletes if each.kind is Kind.DELETE]
        self._deleted = min(deletes, key=lambda each: each.ended, default=None)

    def newest(self, before: float) -> tuple[int, Operation] | None:
        """Return the highest version that was told before a moment, and by which answer."""
        known = bisect_left(self._ends, before)
        return self._newest[known - 1] if known else None

    def deleted(self, before: float) -> Operation | None:
        """Return the delete that was acknowledged before a moment, if one was."""
        return self._deleted if self._deleted and self._deleted.ended < before else None

    def of(self, state: State, before: float) -> Operation | None:
        """Return the first answer that showed ``state``, if it came before a moment."""
        first = self._first.get(state)
        return first if first is not None and first.ended < before else None

    def of_version(self, version: int, before: float) -> Operation | None:
        """Return an answer before a moment that showed ``version``, whatever its name."""
        for state, operation in self._first.items():
            if state.version == version and operation.ended < before:
                return operation
        return None
