"""Check a history that was kept: ``python -m tests.consistency build/consistency/….jsonl``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.consistency.checker import check
from tests.consistency.history import History
from tests.consistency.runs import PROMISES


def main(path: str) -> int:
    """Print the violations in a file; return 1 where there are some."""
    file = Path(path)
    history = History.load(file)
    promises = PROMISES["standalone" if file.stem.startswith("standalone") else "replica set"]
    violations = check(history, promises).violations
    for violation in violations:
        print(violation)  # noqa: T201
    print(f"{len(history.operations)} operations, {len(violations)} violations")  # noqa: T201
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
