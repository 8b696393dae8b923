"""Output into a pipe whose reader has closed it, as in ``| head``: no error, no message."""

from __future__ import annotations

import io
import sys
from typing import IO, Any, TextIO


class Pipe(io.FileIO):
    """A file descriptor for writing that drops output once its reader has closed it."""

    closed_early = False
    """Whether the reader has closed it."""

    def write(self, data: Any, /) -> int:
        """Write bytes, or drop them once the reader is closed; return how many were accepted."""
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            self.closed_early = True
            return len(data)


def tolerate_closed_pipes() -> None:
    """Let standard output and error drop output where they are pipes closed by the reader."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and stream is not None and not stream.isatty():
            stream.flush()
            setattr(sys, name, _tolerant(stream))


def _tolerant(stream: TextIO) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(Pipe(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream is sys.__stderr__,
    )


def is_read(stream: IO[str]) -> bool:
    """Return whether somebody still reads what goes to `stream`."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return not (isinstance(raw, Pipe) and raw.closed_early)
