"""The lock of a run in an object store: an object whose holder renews a heartbeat."""

from __future__ import annotations

import _thread
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sublim_causal.errors import RunError, StorageError
from sublim_causal.location import put, read_files, remove

RENEW_SECONDS = 10
STALE_SECONDS = 60
"""A lock that was not renewed for this long belongs to a dead process; clocks must agree better."""
SETTLE_SECONDS = 2
"""After taking a dead process's lock: long enough to see another that took it at once."""


@dataclass(frozen=True)
class LockHolder:
    """The holder of a lock, as its object records it.

    Attributes
    ----------
    host : str
    pid : int
    machine : str
        What the process number counts in: this boot and process namespace; empty if unknown.
    token : str
        Random; whose the lock is.
    renewed : float
        Seconds since 1970.
    """

    host: str
    pid: int
    machine: str
    token: str
    renewed: float


@contextmanager
def leased(lock: Path) -> Iterator[None]:
    """Hold the object `lock`, renewed by a thread, and delete it at the end.

    A lock that was not renewed for `STALE_SECONDS` is taken over, and at once if its process ran on
    this machine and has ended. A holder that finds it taken over (it was suspended, or cut off from
    the store) interrupts the main thread.

    Raises
    ------
    RunError
        If another process holds it, or took it over; the message names host and process.
    """
    token = uuid.uuid4().hex
    _take(lock, token)
    ending, lost = threading.Event(), threading.Event()
    keeper = threading.Thread(target=_keep, args=(lock, token, ending, lost), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ending.set()
        keeper.join()
        if not lost.is_set():
            with suppress(StorageError):  # out of reach: it goes stale
                remove(lock)
    if lost.is_set():
        raise _in_use(lock, _read(lock))


def is_leased(lock: Path) -> bool:
    """Return whether a living process holds the object `lock`."""
    holder = _read(lock)
    return holder is not None and _is_alive(holder)


def _take(lock: Path, token: str) -> None:
    holder = _read(lock)
    if holder is not None and _is_alive(holder):
        raise _in_use(lock, holder)
    try:
        _write(lock, token, create=holder is None)
    except FileExistsError:  # another came first
        raise _in_use(lock, _read(lock)) from None
    if holder is None:
        return
    time.sleep(SETTLE_SECONDS)
    found = _read(lock)
    if found is None or found.token != token:
        raise _in_use(lock, found)


def _keep(lock: Path, token: str, ending: threading.Event, lost: threading.Event) -> None:
    while not ending.wait(RENEW_SECONDS):
        try:
            found = _read(lock)
            if found is None or found.token != token:
                lost.set()
                _thread.interrupt_main()
                return
            _write(lock, token)
        except Exception:  # the store may be out of reach for a while
            continue


def _read(lock: Path) -> LockHolder | None:
    (content,) = read_files([lock])  # in one request: the holder may renew it between two
    if isinstance(content, FileNotFoundError):
        return None
    if isinstance(content, Exception):
        raise content
    try:
        return LockHolder(**json.loads(content))
    except (ValueError, TypeError):
        return LockHolder("unknown", 0, "", "", 0.0)


def _write(lock: Path, token: str, *, create: bool = False) -> None:
    claim = LockHolder(socket.gethostname(), os.getpid(), _machine(), token, time.time())
    put(lock, json.dumps(asdict(claim)).encode(), create=create)


def _is_alive(claim: LockHolder) -> bool:
    if claim.machine and claim.machine == _machine() and _has_ended(claim.pid):
        return False
    return time.time() - claim.renewed < STALE_SECONDS


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _in_use(lock: Path, holder: LockHolder | None) -> RunError:
    who = "another process"
    if holder is not None:
        age = max(0.0, time.time() - holder.renewed)
        who = f"process {holder.pid} on host {holder.host} (last heartbeat {age:.0f} s ago)"
    return RunError(
        f"{lock.parent}: in use by {who}\n"
        f"remedy: wait for it, or choose another place with --out; the lock of a dead process is "
        f"taken over after {STALE_SECONDS} s"
    )
