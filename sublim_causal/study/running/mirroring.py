"""Keep the MLflow mirror up to date while a study trains."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sublim_causal.errors import SublimError
from sublim_causal.store.connection import TrackingError, is_server, redact
from sublim_causal.store.lock import mirroring

if TYPE_CHECKING:
    from sublim_causal.store.curves import ArmCurves
    from sublim_causal.store.mirror import SyncResult

END_SECONDS = 30.0
"""How long a server may delay the end of a command; a file beside the run takes what it needs."""
LIVE_SECONDS, LIVE_SHARE = 5.0, 0.1
"""Pause between updates of the mean curves of the arms; share of the time that these may take."""
NICE = 10
"""Priority of the thread that mirrors while workers train, as of the command ``nice``."""
THREAD = "mirror"
"""Name of the threads that mirror."""


@dataclass
class BackgroundMirror:
    """Mirrors finished blocks in a thread, off the training path; errors end the mirroring only.

    Attributes
    ----------
    run : Path
        Run directory.
    tracking_uri : str or None
        MLflow store; None: nothing is mirrored.
    replicates : bool or None
        Whether every replicate gets a run of its own; None: if `total` is at most
        `REPLICATE_LIMIT`.
    total : int
        Replicates of the whole study.
    seconds : float
        How long a server may delay the end; what is left of it after the end.
    error : str
        Why mirroring ended; empty while it works.
    """

    run: Path
    tracking_uri: str | None
    replicates: bool | None
    total: int = 0
    seconds: float = END_SECONDS
    error: str = ""
    training: dict[str, ArmCurves] = field(default_factory=dict, init=False)
    """Curves so far of the blocks that are being trained, by block."""
    _news: threading.Event = field(default_factory=threading.Event, init=False)
    _closing: bool = field(default=False, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def __enter__(self) -> BackgroundMirror:
        if self.tracking_uri is not None:
            self._thread = threading.Thread(target=self._work, name=THREAD, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._closing = True
        self._news.set()
        if self._thread is None or kind is not None:
            return
        start = time.monotonic()
        self._thread.join(self.seconds if is_server(str(self.tracking_uri)) else None)
        self.seconds = max(0.0, self.seconds - (time.monotonic() - start))
        if self._thread.is_alive():
            store = redact(str(self.tracking_uri))
            self.error = (
                f"the MLflow store {store} took too long (over {END_SECONDS:.0f} s at the end)"
            )

    def show(self, block: str, curves: ArmCurves) -> None:
        """Show the curves so far of a block that is being trained."""
        self.training[block] = curves
        self._news.set()

    def update(self, block: str | None = None) -> None:
        """Mirror new blocks, such as `block`, whose curves so far are no longer needed."""
        if block is not None:
            self.training.pop(block, None)
        self._news.set()

    def _work(self) -> None:
        if sys.platform == "linux":  # elsewhere threads have no priority of their own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        from sublim_causal.store.tracking import REPLICATE_LIMIT, open_mirror

        few = self.total <= REPLICATE_LIMIT
        replicates = few if self.replicates is None else self.replicates
        try:
            with mirroring(self.run):
                mirror = open_mirror(self.run, str(self.tracking_uri), replicates=replicates)
                closing, again = False, time.monotonic() + LIVE_SECONDS
                while not closing:  # a short study is over before the store is open
                    self._news.wait()
                    self._news.clear()
                    closing = self._closing
                    if not closing:
                        mirror.forgive_waiting()
                    mirror.mirror_new()
                    if not closing and (start := time.monotonic()) > again:
                        mirror.update_arms(list(self.training.values()))
                        took = time.monotonic() - start
                        again = start + max(LIVE_SECONDS, took / LIVE_SHARE)
                mirror.finish()
        except Exception as error:  # the record is safe; a mirror must never stop a study
            self.error = redact(str(error) if isinstance(error, SublimError) else repr(error))


def sync_in_time(
    run: Path,
    tracking_uri: str,
    *,
    replicates: bool | None,
    progress: Callable[[int, int], None],
    seconds: float = END_SECONDS,
) -> SyncResult:
    """Mirror a run as `tracking.sync` does; give up on a server that takes nothing for `seconds`.

    Raises
    ------
    TrackingError
        If the server was too slow; a thread of name `THREAD` still waits for it then.
    SublimError
        As `tracking.sync`.
    """
    from sublim_causal.store.tracking import sync

    answered, ended = threading.Event(), threading.Event()
    results: list[SyncResult | BaseException] = []

    def work() -> None:
        try:
            found = sync(
                run, tracking_uri, replicates=replicates, progress=progress, answered=answered.set
            )
            results.append(found)
        except BaseException as error:  # raised again by the caller's thread
            results.append(error)
        ended.set()
        answered.set()

    threading.Thread(target=work, name=THREAD, daemon=True).start()
    limit = seconds if is_server(tracking_uri) else None
    while not ended.is_set():
        if not answered.wait(limit):
            raise TrackingError(
                f"the MLflow store {redact(tracking_uri)} accepted nothing for {seconds:.0f} s\n"
                "remedy: check the server, then mirror the run with `sync`, which continues "
                "where this one stopped; the tables of the run are complete without it"
            )
        answered.clear()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def is_mirroring() -> bool:
    """Return whether a thread is still waiting for a server that was too slow."""
    return any(one.name == THREAD and one.is_alive() for one in threading.enumerate())
