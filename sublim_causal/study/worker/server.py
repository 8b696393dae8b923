"""The process from which local workers are forked; this module imports nothing that takes time."""

from __future__ import annotations

import multiprocessing
import os

# torch.optim imports torch._dynamo at first use, which takes longer than torch itself.
PRELOADED = ["sublim_causal.study.executors.local", "torch", "torch._dynamo"]


def start_method() -> str:
    """How workers start: ``"forkserver"``, which imports torch once, where there is one."""
    return "forkserver" if os.name == "posix" else "spawn"


def start_server() -> None:
    """Start the server, which imports `PRELOADED` meanwhile, unless it runs already."""
    if start_method() == "forkserver":
        from multiprocessing import forkserver

        multiprocessing.set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()
