"""Locks of a run that a dead process cannot keep: on all of it, or on some of its seeds.

In a directory they are locks on ranges of bytes of the file ``.lock``, one byte per seed, which the
operating system releases when the process ends, however it ends. So processes that share a
directory, also from several machines, train different seeds at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sublim_causal.errors import RequestError, RunError, StorageError
from sublim_causal.location import is_remote, storing, validate_files
from sublim_causal.store.lease import is_leased, leased

FILE = ".lock"
FLOCK = "hhqqi4x"
"""Layout of ``struct flock``, of 64-bit Linux."""
MIRROR = ".mirror"
"""The lock of the process that mirrors a run."""
SEEDS = range(2**31)
"""All seeds that a run can have."""
MANIFEST = range(2**40, 2**40 + 1)
"""The byte whose lock allows to change what all processes share."""
REPLICATES = 2**41
"""The first of the bytes that stand for replicates of runs of one's own, `SEEDS` for each arm."""
ARMS = 2**20
"""Arms that these bytes tell apart."""
HELD = (BlockingIOError, PermissionError)
"""What says that another open file has locked some of the bytes."""


@contextlib.contextmanager
def locked(run: Path, seeds: range | None = None) -> Iterator[None]:
    """Hold the lock of `run`, or of some of its `seeds`; there must be no symbolic links in it.

    For an object store see `lease.leased`.

    Raises
    ------
    RunError
        If another process holds it; the message names host and process if the lock does.
        If there is a symbolic link in `run`.
    RequestError
        If a run in an object store, or on another system than Linux, is locked in part.
    """
    validate_files(run)
    if seeds is not None and (is_remote(run) or sys.platform != "linux"):
        raise RequestError(
            "--seed-range",
            f"{seeds.start}-{seeds.stop - 1}",
            "a run in a directory, on Linux",
            "leave it out, and let one process run all seeds",
        )
    with leased(run / FILE) if is_remote(run) else _locked_bytes(run, FILE, seeds or SEEDS):
        yield


def is_locked(run: Path) -> bool:
    """Return whether a process holds the lock of `run`, or of some of its seeds; takes none."""
    if is_remote(run):
        return is_leased(run / FILE)
    try:
        with (run / FILE).open() as file:
            if sys.platform != "linux":
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
            answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _request(SEEDS))
            return bool(struct.unpack(FLOCK, answer)[0] != fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:  # no lock was ever taken, or it cannot be read
        return False


@contextlib.contextmanager
def mirroring(run: Path) -> Iterator[None]:
    """Hold the lock of the mirror of `run`, so that no two processes write the same MLflow runs.

    Raises
    ------
    RunError
        If another process holds it.
    """
    with leased(run / MIRROR) if is_remote(run) else _locked_bytes(run, MIRROR, SEEDS):
        yield


@contextlib.contextmanager
def replicate_locked(run: Path, arm: str, seed: int) -> Iterator[None]:
    """Hold one replicate of `run` while others may hold the rest; nobody may hold the whole run.

    In an object store nothing is locked: what is written there is written once, at the end.

    Raises
    ------
    RunError
        If another process holds it, or the whole run.
    """
    if is_remote(run):
        yield
        return
    place = REPLICATES + zlib.crc32(arm.encode()) % ARMS * len(SEEDS) + seed
    with _opened(run / FILE) as file:
        try:
            _lock(file, range(seed, seed + 1), wait=False, shared=True)
            if sys.platform == "linux":
                _lock(file, range(place, place + 1), wait=False)
        except HELD:
            raise RunError(
                f"{run}: {arm}, seed {seed}: in use by another process\n"
                "remedy: wait for it, or give another seed or arm"
            ) from None
        yield


@contextlib.contextmanager
def manifest_locked(run: Path) -> Iterator[None]:
    """Wait until no other process changes the manifest of `run`, and let none change it.

    In an object store the lock of the whole run is enough.
    """
    if is_remote(run):
        yield
        return
    with _opened(run / FILE) as file:
        _lock(file, MANIFEST, wait=True)
        yield


@contextlib.contextmanager
def _locked_bytes(run: Path, name: str, seeds: range) -> Iterator[None]:
    with storing(run):
        run.mkdir(parents=True, exist_ok=True)
    with _opened(run / name) as file:
        try:
            _lock(file, seeds, wait=False)
        except HELD:
            raise RunError(
                f"{run}: in use by {_holder(run / name, seeds)}\n"
                "remedy: wait for it, or choose another directory with --out"
            ) from None
        _tell_holder(run / name, seeds)
        yield


@contextlib.contextmanager
def _opened(lock: Path) -> Iterator[IO[str]]:
    """Open a file to lock bytes of it.

    Raises
    ------
    StorageError
        If it cannot be made, or the file system knows no locks.
    """
    with contextlib.ExitStack() as stack:
        with storing(lock):
            file = stack.enter_context(lock.open("a+"))
        yield file


def _lock(file: IO[str], places: range, *, wait: bool, shared: bool = False) -> None:
    """Lock bytes of a file; a lock belongs to the open file, as that of ``flock`` does.

    A `shared` lock keeps others from locking the bytes alone.

    Raises
    ------
    BlockingIOError, PermissionError
        If another open file has locked some of them, and this one shall not `wait`.
    StorageError
        If the file system knows no locks.
    """
    try:
        if sys.platform != "linux":
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
        else:
            kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
            call = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
            fcntl.fcntl(file, call, _request(places, kind))
    except HELD:
        raise
    except OSError as error:
        raise StorageError(
            f"{file.name}: cannot be locked: {error.strerror}\n"
            "remedy: keep the run on a file system with locks, such as a local disk"
        ) from None


def _request(places: range, kind: int = fcntl.F_WRLCK) -> bytes:
    """Return ``struct flock``: type, whence, start, length, pid."""
    return struct.pack(FLOCK, kind, os.SEEK_SET, places.start, len(places), 0)


def _tell_holder(lock: Path, seeds: range) -> None:
    """Write down who holds the lock of `seeds`, one holder per line, in place of earlier ones."""
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "seeds": [seeds.start, seeds.stop]}
    with storing(lock), lock.open("r+", errors="replace") as file:
        if sys.platform == "linux":
            _lock(file, MANIFEST, wait=True)
        others = [line for line in file.read().splitlines() if _disjoint(line, seeds)]
        file.seek(0)
        file.truncate()
        file.write("".join(f"{line}\n" for line in [*others, json.dumps(holder)]))


def _disjoint(line: str, seeds: range) -> bool:
    """Return whether `line` names the holder of other seeds only."""
    try:
        first, stop = json.loads(line)["seeds"]
        return bool(stop <= seeds.start or seeds.stop <= first)
    except (ValueError, TypeError, KeyError):
        return False


def _holder(lock: Path, seeds: range) -> str:
    """Return who holds a lock in words; its file is empty until the holder has written to it."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        for line in reversed(lock.read_text(errors="replace").splitlines()):
            holder: dict[str, Any] = json.loads(line)
            if not _disjoint(line, seeds):
                return f"process {holder['pid']} on host {holder['host']}"
    return "another process"
