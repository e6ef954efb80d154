"""The audit of a drill finds what it has to find, and lets pass what may be."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from bson import ObjectId

from tests.support.harness import Known, Ledger, audit

_CREATED = "2024-01-20T14:45:00.123Z"
_IDENTITY = ObjectId()


def stored(name: str, version: int = 1, identity: ObjectId | None = None) -> dict[str, Any]:
    date = datetime(2024, 1, 20, 14, 45, 0, 123000)
    return {"_id": identity or ObjectId(), "name": name, "version": version, "dateCreated": date}


def ledger(*, pending: set[str] | None = None, unsure: list[list[str]] | None = None) -> Ledger:
    """Return one that knows portfolio A at version 2."""
    known = Known(str(_IDENTITY), "A", 2, _CREATED, pending or set())
    return Ledger(known=[known], unsure=unsure or [])


A = stored("A", 2, _IDENTITY)


@pytest.mark.parametrize(
    ("seen", "documents"),
    [
        pytest.param(ledger(), [A], id="as-acknowledged"),
        pytest.param(
            ledger(pending={"B"}), [stored("B", 3, _IDENTITY)], id="update-without-answer-landed"
        ),
        pytest.param(ledger(pending={"B"}), [A], id="update-without-answer-did-not"),
        pytest.param(ledger(unsure=[["C"]]), [A], id="creation-without-answer-did-not-land"),
        pytest.param(ledger(unsure=[["C"]]), [A, stored("C")], id="creation-landed-once"),
        pytest.param(ledger(unsure=[["C", "D"]]), [A, stored("C"), stored("D")], id="bulk-landed"),
    ],
)
def test_what_may_be_passes(seen: Ledger, documents: list[dict[str, Any]]) -> None:
    audit(seen, documents)
    assert (seen.lost, seen.wrong) == ([], [])


@pytest.mark.parametrize(
    ("seen", "documents"),
    [
        pytest.param(ledger(), [], id="gone"),
        pytest.param(ledger(), [stored("Z", 1, _IDENTITY)], id="update-gone"),
    ],
)
def test_an_acknowledged_write_that_is_gone_is_lost(
    seen: Ledger, documents: list[dict[str, Any]]
) -> None:
    audit(seen, documents)
    assert (len(seen.lost), len(seen.wrong)) == (1, 0)


@pytest.mark.parametrize(
    ("seen", "documents"),
    [
        pytest.param(ledger(), [stored("B", 2, _IDENTITY)], id="another-name"),
        pytest.param(ledger(), [stored("A", 4, _IDENTITY)], id="version-jumped"),
        pytest.param(ledger(pending={"B"}), [stored("B", 4, _IDENTITY)], id="updated-twice"),
        pytest.param(ledger(), [A, stored("X")], id="nobody-made-it"),
        pytest.param(ledger(unsure=[["C"]]), [A, stored("C"), stored("C")], id="created-twice"),
        pytest.param(ledger(unsure=[["C", "D"]]), [A, stored("D")], id="half-a-bulk"),
        pytest.param(ledger(), [A | {"dateCreated": datetime(2024, 1, 20)}], id="another-date"),
    ],
)
def test_what_can_not_come_of_what_was_answered_is_wrong(
    seen: Ledger, documents: list[dict[str, Any]]
) -> None:
    audit(seen, documents)
    assert (len(seen.lost), len(seen.wrong)) == (0, 1)
