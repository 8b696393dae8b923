"""What this machine, or the container that the process is in, allows it to use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cores(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return the processor cores this process may use: those of its CPU set and its quota."""
    here = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    quotas = [int(quota) for quota in _quotas(cgroups, membership)]
    return max(1, min([len(here) or os.cpu_count() or 1, *quotas]))


def default_memory(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return a quarter of the memory of the machine or the container, in bytes."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (
        int(text)
        for folder in _folders(cgroups, membership, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(folder / name)).isdigit()
    )
    return min([whole, *limits]) // 4


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """Yield the cores that control groups allow, of version 2 and 1."""
    for folder in _folders(cgroups, membership, "cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = (_read(folder / f"cpu.cfs_{n}_us") for n in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _folders(cgroups: Path, membership: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups of this process, innermost first.

    A container sees its own group as the root, whatever path its membership names.
    """
    for line in _read(membership).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        if controllers and not root.is_dir():
            root = cgroups / controller
        group = PurePosixPath(path.lstrip("/"))
        yield from (root / one for one in (group, *group.parents))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
