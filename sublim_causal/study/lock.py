"""One runner a run: a lock that a dead process cannot keep."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sublim_causal.errors import RunError
from sublim_causal.location import is_remote, validate_links
from sublim_causal.study.lease import leased

FILE = ".lock"


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of `run`, which must not hold symbolic links.

    In a directory the operating system releases it when the process ends, however it ends; for
    an object store see `lease.leased`.

    Raises
    ------
    RunError
        If another process holds it; the message names host and process if the lock tells them.
        If there is a symbolic link in `run`.
    """
    validate_links(run)
    with leased(run / FILE) if is_remote(run) else _flocked(run):
        yield


@contextmanager
def _flocked(run: Path) -> Iterator[None]:
    import fcntl

    run.mkdir(parents=True, exist_ok=True)
    with (run / FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"{run}: in use by {_holder(run / FILE)}\n"
                "remedy: wait for it, or choose another directory with --out"
            ) from None
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        yield


def _holder(lock: Path) -> str:
    """Return who holds a lock in words; its file is empty until the holder has written to it."""
    try:
        holder = json.loads(lock.read_bytes())
        return f"process {holder['pid']} on host {holder['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
