"""Which connection ends when there are too many."""

from __future__ import annotations

from portfolio.server.client_socket import RESERVED_CONNECTIONS, ConnectionTable

LIMIT = 3
MIB = 1 << 20


class FakeConnection:
    """A connection that does what the test says."""

    def __init__(self, table: ConnectionTable) -> None:
        self.head_begun = False
        self.closing = False
        self.stalled_since: float | None = None
        self.has_unread = False
        self.unread_bytes = self.read_bytes = 0
        self.woken = 0
        self.table = table
        self.added = table.add(self)
        table.waiting[self] = None

    def wake(self) -> None:
        self.woken += 1

    def cut(self) -> None:
        self.wake()
        self.unread_bytes = 0

    def hold(self, size: int) -> None:
        """Hold ``size`` bytes that its client does not read."""
        self.unread_bytes = size
        self.table.hold(self)


def test_the_one_that_has_waited_longest_for_a_request_ends() -> None:
    table = ConnectionTable(LIMIT)
    connections = [FakeConnection(table) for _ in range(LIMIT + 2)]
    assert [each.closing for each in connections] == [True, True, False, False, False]
    assert [each.woken for each in connections] == [1, 1, 0, 0, 0]


def test_where_none_waits_for_a_request_the_one_that_has_stalled_longest_ends() -> None:
    table = ConnectionTable(LIMIT)
    connections = [FakeConnection(table) for _ in range(LIMIT)]
    table.waiting.clear()
    connections[1].stalled_since, connections[2].stalled_since = 20.0, 10.0
    FakeConnection(table)
    assert [each.closing for each in connections] == [False, False, True]


def test_those_at_work_stay_and_no_more_are_added_than_there_is_room_for() -> None:
    table = ConnectionTable(LIMIT)
    added = []
    for _ in range(LIMIT + RESERVED_CONNECTIONS + 1):
        connection = FakeConnection(table)
        table.waiting.clear()
        assert not connection.closing
        added.append(connection.added)
    assert added == [True] * (LIMIT + RESERVED_CONNECTIONS) + [False]


def test_one_that_has_ended_leaves_its_place() -> None:
    table = ConnectionTable(LIMIT)
    connections = [FakeConnection(table) for _ in range(LIMIT + 1)]
    table.remove(connections[0])
    assert (len(table), table.is_full) == (LIMIT, True)
    table.remove(connections[1])
    assert (len(table), table.is_full) == (LIMIT - 1, False)


def test_where_too_much_waits_for_clients_to_read_the_one_that_has_waited_longest_ends() -> None:
    table = ConnectionTable(LIMIT)
    longest, second, third = (FakeConnection(table) for _ in range(LIMIT))
    longest.hold(10 * MIB)
    second.hold(10 * MIB)
    assert not longest.closing
    third.hold(10 * MIB)
    assert [each.woken for each in (longest, second, third)] == [1, 0, 0]
    assert longest.closing
    table.release(second)
    second.hold(10 * MIB)
    assert [each.woken for each in (longest, second, third)] == [1, 0, 0]


def test_one_whose_last_response_waits_to_be_read_ends_too() -> None:
    table = ConnectionTable(LIMIT)
    last, other = FakeConnection(table), FakeConnection(table)
    table.end_idle()
    last.hold(20 * MIB)
    other.hold(20 * MIB)
    assert (last.woken, other.woken) == (2, 1)
    table.remove(last)
    table.remove(other)
    assert not table.is_full


def test_one_whose_client_reads_stays() -> None:
    table = ConnectionTable(LIMIT)
    slow, done, stalled = (FakeConnection(table) for _ in range(LIMIT))
    for each in (slow, done, stalled):
        each.hold(4 * MIB)
    slow.read_bytes = 1
    done.read_bytes, done.unread_bytes = 4 * MIB, 0
    table.waiting.clear()
    FakeConnection(table).hold(20 * MIB)
    assert [each.closing for each in (slow, done, stalled)] == [False, False, True]


def test_a_response_of_any_size_is_sent_where_it_is_the_only_one() -> None:
    table = ConnectionTable(LIMIT)
    connection = FakeConnection(table)
    connection.hold(1000 * MIB)
    assert not connection.closing


def test_idle_ones_end_and_those_whose_request_has_begun_do_not() -> None:
    table = ConnectionTable(LIMIT)
    idle, unread, begun = (FakeConnection(table) for _ in range(LIMIT))
    unread.has_unread = begun.head_begun = True
    table.end_idle()
    assert [idle.woken, unread.woken, begun.woken] == [1, 0, 0]
