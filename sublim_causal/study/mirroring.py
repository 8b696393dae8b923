"""Keep the MLflow mirror up to date while a study trains."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from sublim_causal.errors import SublimError
from sublim_causal.store.connection import redact


@dataclass
class BackgroundMirror:
    """Mirrors finished blocks in a thread, off the training path; errors end the mirroring only.

    Attributes
    ----------
    run : Path
        Run directory.
    tracking_uri : str or None
        MLflow store; None: nothing is mirrored.
    replicates : bool
        Whether every replicate gets a run of its own.
    error : str
        Why mirroring ended; empty while it works.
    """

    run: Path
    tracking_uri: str | None
    replicates: bool
    error: str = ""
    _news: threading.Event = field(default_factory=threading.Event, init=False)
    _closing: bool = field(default=False, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def __enter__(self) -> BackgroundMirror:
        if self.tracking_uri is not None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._closing = True
        self._news.set()
        if self._thread is not None and kind is None:
            self._thread.join()

    def update(self) -> None:
        """Say that there are new blocks."""
        self._news.set()

    def _work(self) -> None:
        from sublim_causal.store.tracking import open_mirror

        try:
            mirror = open_mirror(self.run, str(self.tracking_uri), replicates=self.replicates)
            closing = False
            while not closing:  # a short study is over before the store is open
                self._news.wait()
                self._news.clear()
                closing = self._closing
                mirror.mirror_new()
            mirror.finish()
        except Exception as error:  # the record is safe; a mirror must never stop a study
            self.error = redact(str(error) if isinstance(error, SublimError) else repr(error))
