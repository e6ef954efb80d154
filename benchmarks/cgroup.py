"""A control group with the limits of a pod, by either version of the kernel's interface."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CPU = 0.2
_MEMORY_BYTES = 256 * 1024 * 1024
_PERIOD_US = 100_000
_ROOT = Path("/sys/fs/cgroup")
# Joins the groups, then becomes the command: what a container's runtime does.
_JOIN = (
    'for group in $GROUPS_TO_JOIN; do echo $$ > "$group/cgroup.procs" || exit 1; done; exec "$@"'
)


class NoRight(RuntimeError):
    """No group can be made here; the message says why."""


class GroupV1:
    """A group of version 1: a folder in each controller's own hierarchy."""

    def __init__(self, root: Path, name: str) -> None:
        self._cpu, self._accounts, self._memory = (
            root / controller / name for controller in ("cpu", "cpuacct", "memory")
        )
        # Where both are mounted as one, they are one folder.
        self.folders = list({path.resolve(): path for path in self._all()}.values())

    def _all(self) -> tuple[Path, ...]:
        return self._cpu, self._accounts, self._memory

    def limit(self) -> None:
        """Set the limits of the pod."""
        (self._cpu / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (self._cpu / "cpu.cfs_quota_us").write_text(str(int(_CPU * _PERIOD_US)))
        (self._memory / "memory.limit_in_bytes").write_text(str(_MEMORY_BYTES))

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that were used in it until now."""
        return int((self._accounts / "cpuacct.usage").read_text()) / 1e9

    def memory_bytes(self) -> int:
        """Return what Kubernetes counts as its memory: all but file cache that nobody uses."""
        usage = int((self._memory / "memory.usage_in_bytes").read_text())
        return usage - _statistic(self._memory / "memory.stat", "total_inactive_file")


class GroupV2:
    """A group of version 2: one folder for all controllers."""

    def __init__(self, root: Path, name: str) -> None:
        self._folder = root / name
        self.folders = [self._folder]

    def limit(self) -> None:
        """Set the limits of the pod."""
        (self._folder / "cpu.max").write_text(f"{int(_CPU * _PERIOD_US)} {_PERIOD_US}")
        (self._folder / "memory.max").write_text(str(_MEMORY_BYTES))

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that were used in it until now."""
        return _statistic(self._folder / "cpu.stat", "usage_usec") / 1e6

    def memory_bytes(self) -> int:
        """Return what Kubernetes counts as its memory: all but file cache that nobody uses."""
        usage = int((self._folder / "memory.current").read_text())
        return usage - _statistic(self._folder / "memory.stat", "inactive_file")


Group = GroupV1 | GroupV2


@contextmanager
def pod_limits(root: Path = _ROOT, *, name: str = "service") -> Iterator[Group]:
    """Make a group with the limits of the pod; it ends with the block, empty by then.

    Args:
        root: where the kernel's interface is mounted.
        name: tells the groups of this process apart.

    Raises:
        NoRight: this process may not make one.
    """
    name = f"portfolio-benchmark-{os.getpid()}-{name}"
    group: Group = GroupV2(root, name) if is_version_2(root) else GroupV1(root, name)
    made = []
    try:
        for folder in group.folders:
            folder.mkdir()
            made.append(folder)
        group.limit()
    except OSError as error:
        for folder in made:
            folder.rmdir()
        raise NoRight(f"no control group can be made: {error}") from error
    try:
        yield group
    finally:
        for folder in group.folders:
            folder.rmdir()


def joining(group: Group) -> list[str]:
    """Return the prefix of a command that makes it run inside ``group``."""
    folders = " ".join(str(folder) for folder in group.folders)
    return ["/usr/bin/env", f"GROUPS_TO_JOIN={folders}", "/bin/sh", "-c", _JOIN, "sh"]


def is_version_2(root: Path = _ROOT) -> bool:
    """Whether the CPU and memory controllers are those of version 2."""
    controllers = root / "cgroup.controllers"
    return controllers.exists() and {"cpu", "memory"} <= set(controllers.read_text().split())


def _statistic(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    raise KeyError(f"{path} has no {name}")
