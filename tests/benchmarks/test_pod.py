"""The limits of the pod, by either version of the kernel's interface, and what is read from it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.cgroup import (
    GroupV1,
    GroupV2,
    NoRight,
    is_version_2,
    joining,
    pod_limits,
)
from benchmarks.load import Sample
from benchmarks.pod import recovery


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


def test_version_1_limits_and_counts_in_three_hierarchies(tmp_path: Path) -> None:
    cpu = folder(tmp_path / "cpu" / "pod")
    folder(tmp_path / "cpuacct" / "pod", cpuacct__usage="1500000000\n")
    statistics = "cache 7\ntotal_inactive_file 30\n"
    memory = folder(
        tmp_path / "memory" / "pod", memory__usage_in_bytes="130", memory__stat=statistics
    )
    group = GroupV1(tmp_path, "pod")
    group.limit()
    assert (cpu / "cpu.cfs_quota_us").read_text() == "20000"
    assert (memory / "memory.limit_in_bytes").read_text() == "268435456"
    assert (group.cpu_seconds(), group.memory_bytes(), len(group.folders)) == (1.5, 100, 3)


def test_version_1_knows_controllers_that_share_a_hierarchy(tmp_path: Path) -> None:
    folder(tmp_path / "cpu,cpuacct" / "pod")
    folder(tmp_path / "memory" / "pod")
    for controller in ("cpu", "cpuacct"):
        (tmp_path / controller).symlink_to(tmp_path / "cpu,cpuacct")
    assert len(GroupV1(tmp_path, "pod").folders) == 2


def test_version_2_limits_and_counts_in_one_folder(tmp_path: Path) -> None:
    pod = folder(
        tmp_path / "pod",
        cpu__stat="usage_usec 2500000\nuser_usec 1\n",
        memory__current="130",
        memory__stat="anon 90\ninactive_file 30\n",
    )
    group = GroupV2(tmp_path, "pod")
    group.limit()
    assert (pod / "cpu.max").read_text() == "20000 100000"
    assert (pod / "memory.max").read_text() == "268435456"
    assert (group.cpu_seconds(), group.memory_bytes()) == (2.5, 100)


def test_version_2_is_one_that_holds_both_controllers(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert is_version_2(tmp_path)
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    assert not is_version_2(tmp_path)


def test_where_no_group_can_be_made_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoRight, match="no control group can be made"), pod_limits(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("slow_until_s", "seconds"), [(0.0, 0.0), (0.6, 0.75), (5.9, None)], ids=str
)
def test_recovery_is_when_a_second_without_a_slow_answer_begins(
    slow_until_s: float, seconds: float | None
) -> None:
    begin = 8.0
    samples = [
        Sample(
            "get_one", begin + tick / 100, 500.0 if tick / 100 < slow_until_s else 5.0, 200, False
        )
        for tick in range(600)
    ]
    assert recovery(samples, begin, 6.0) == seconds


def test_a_program_that_can_not_be_limited_does_not_run(tmp_path: Path) -> None:
    command = [*joining(GroupV2(tmp_path, "not made")), "echo", "unlimited"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
