"""The board: a memory-mapped file in which each worker of one instance shows how it is.

Each worker writes a slot of its own and reads all; there is no lock. A slot carries a checksum, so
that a reader who meets a writer half-way looks again.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

# Twice as many as WEB_CONCURRENCY may be: at a reload old and new workers overlap. The file is
# sparse, so that a slot takes memory once it is written.
SLOTS = 128
SLOT_BYTES = 16 * 1024

# Process, moment of writing (seconds of the monotonic clock), length and checksum of what follows.
_HEADER = struct.Struct("<QdII")
CAPACITY = SLOT_BYTES - _HEADER.size

_READ_ATTEMPTS = 5
# A worker writes twice a second; Gunicorn ends one that hangs after 60 s.
_FORGET_AFTER_S = 90.0


def prepare_folder(folder: Path) -> None:
    """Make ``folder`` where it is missing, for this user alone.

    Raises:
        OSError: it can't be made or written.
        PermissionError: it is somebody else's, who could give our workers orders.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() not in (0, folder.stat().st_uid):
        raise PermissionError(f"{folder} belongs to another user")


class Board:
    """The shared file.

    Args:
        path: where it is; made where it is missing.

    Raises:
        OSError: it can't be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            if os.fstat(descriptor).st_size != SLOTS * SLOT_BYTES:
                os.ftruncate(descriptor, SLOTS * SLOT_BYTES)
            self._map = mmap.mmap(descriptor, SLOTS * SLOT_BYTES)
        finally:
            os.close(descriptor)
        self._slot: int | None = None

    def publish(self, content: bytes) -> None:
        """Show ``content``, of up to ``CAPACITY`` bytes, as this process's.

        Raises:
            ValueError: it is longer.
            RuntimeError: every slot belongs to a process that lives.
        """
        if len(content) > CAPACITY:
            raise ValueError(f"{len(content)} bytes don't fit into a slot of {CAPACITY}")
        offset = self._own_slot() * SLOT_BYTES
        begin = offset + _HEADER.size
        self._map[begin : begin + len(content)] = content
        header = os.getpid(), time.monotonic(), len(content), zlib.crc32(content)
        _HEADER.pack_into(self._map, offset, *header)

    def withdraw(self) -> None:
        """Show nothing of this process any more."""
        if self._slot is not None and self._owner(self._slot) == os.getpid():
            _HEADER.pack_into(self._map, self._slot * SLOT_BYTES, 0, 0.0, 0, 0)
        self._slot = None

    def read(self) -> Iterator[bytes]:
        """Yield what each process that lives shows."""
        for slot in range(SLOTS):
            if self._owner(slot):
                content = self._content(slot)
                if content is not None:
                    yield content

    def _content(self, slot: int) -> bytes | None:
        offset = slot * SLOT_BYTES
        for _ in range(_READ_ATTEMPTS):
            _, _, length, checksum = _HEADER.unpack_from(self._map, offset)
            begin = offset + _HEADER.size
            content = self._map[begin : begin + min(length, CAPACITY)]
            if zlib.crc32(content) == checksum:
                return content
            time.sleep(0.001)
        return None

    def _own_slot(self) -> int:
        """Return the slot of this process, taking one where it has none.

        Processes begin to look at a place that their ids give, so that two that start at once
        look at different ones. Should they take the same slot after all, one of them finds so
        at its next writing and takes another.
        """
        pid = os.getpid()
        if self._slot is not None and self._owner(self._slot) == pid:
            return self._slot
        for distance in range(SLOTS):
            slot = (pid + distance) % SLOTS
            if self._owner(slot) in (0, pid):
                self._slot = slot
                return slot
        raise RuntimeError("No slot is free")

    def _owner(self, slot: int) -> int:
        """Return the process that a slot belongs to, or 0 where it is free or its owner gone."""
        pid, written, _, _ = _HEADER.unpack_from(self._map, slot * SLOT_BYTES)
        age = time.monotonic() - written
        if pid == 0 or not 0 <= age < _FORGET_AFTER_S or not _lives(pid):
            return 0
        return int(pid)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True
