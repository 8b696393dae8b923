"""What a container allows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sublim_causal.study.executors.machine import cores, default_memory

MiB = 2**20


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_limits_of_version_2_bound_cores_and_memory(tmp_path: Path) -> None:
    groups, membership = tmp_path / "cgroup", tmp_path / "self"
    write(groups / "job" / "step", cpu__max="max 100000", memory__max="max")
    write(groups / "job", cpu__max="150000 100000", memory__max=str(400 * MiB))
    membership.write_text("0::/job/step\n")
    assert cores(groups, membership) == 1
    assert default_memory(groups, membership) == 100 * MiB


@pytest.mark.parametrize("mounted", ["cpu,cpuacct", "cpu"])
def test_limits_of_version_1_bound_cores_and_memory(mounted: str, tmp_path: Path) -> None:
    groups, membership = tmp_path / "cgroup", tmp_path / "self"
    write(groups / mounted, cpu__cfs_quota_us="100000", cpu__cfs_period_us="100000")
    write(groups / "memory", memory__limit_in_bytes=str(800 * MiB))
    membership.write_text("4:cpu,cpuacct:/docker/1f\n3:memory:/docker/1f\n")
    assert cores(groups, membership) == 1
    assert default_memory(groups, membership) == 200 * MiB


@pytest.mark.parametrize("content", ["", "0::/x\n", "garbage", "4:cpu:/\n3:memory:/\n"])
def test_without_limits_the_machine_counts(content: str, tmp_path: Path) -> None:
    groups, membership = tmp_path / "cgroup", tmp_path / "self"
    write(groups / "x", cpu__max="max 100000", memory__max="max")
    write(groups / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(groups / "memory", memory__limit_in_bytes="9223372036854771712")
    membership.write_text(content)
    assert cores(groups, membership) == len(os.sched_getaffinity(0))
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert default_memory(groups, membership) == whole // 4
