"""What tests need of MongoDB beside what ``tox -e serve`` needs."""

from __future__ import annotations

from portfolio.devserver.mongod import Mongod
from tests.support.gunicorn import wait_until

# Lets a test arm fail points.
TEST_PARAMETERS = {"enableTestCommands": "1"}
# A replica set of one member answers linearizable reads, and makes indexes, when it next flushes
# its journal: every 100 ms by default, for which many tests would wait. To flush it takes CPU even
# when nothing is written: 3% of a core at 5 ms, 1% at 20.
QUICK_JOURNAL = ("--journalCommitInterval", "20")


def set_uri(members: list[Mongod]) -> str:
    """Return the URI of a replica set."""
    addresses = ",".join(member.address for member in members)
    return f"mongodb://{addresses}/?replicaSet={members[0].replica_set}"


def is_primary(member: Mongod) -> bool:
    """Whether ``member`` takes writes."""
    with member.client() as client:
        return bool(client.admin.command("hello")["isWritablePrimary"])


def await_primary(members: list[Mongod]) -> None:
    """Wait until one of ``members`` takes writes."""
    wait_until(lambda: any(map(is_primary, members)), "another member is primary")
