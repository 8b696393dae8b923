"""The process that imports torch once, and from which workers of this machine are forked."""

from __future__ import annotations

import multiprocessing
import os


def start_method() -> str:
    """How workers start: ``"forkserver"``, which imports torch once, where there is one."""
    return "forkserver" if os.name == "posix" else "spawn"


def import_for_workers() -> None:
    """Let that process begin to import, if there can be one and it has not begun."""
    if start_method() == "forkserver":
        from multiprocessing import forkserver

        multiprocessing.set_forkserver_preload(["sublim_causal.study.executors.preloaded"])
        forkserver.ensure_running()
