"""Standard streams that cannot take the output: pipes closed early, full disks, closed streams."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TextIO

NAMES = ("stdin", "stdout", "stderr")


class Pipe(io.FileIO):
    """A file descriptor for writing that drops output once it takes no more."""

    closed_early = False
    """Whether the reader is gone, as in ``| head``."""
    failure: OSError | None = None
    """Why output was lost, where somebody would have read it."""

    def write(self, data: Any, /) -> int:
        """Write bytes, or drop them where they cannot be written; return how many were taken."""
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            self.closed_early = True
        except OSError as error:
            self.failure = error
        return len(data)


def tolerate_any_output() -> None:
    """Let no output raise an error, whatever the standard streams are.

    A closed stream becomes the null device, before a file of the program takes its number. What an
    encoding lacks is spelt out. What a pipe or a file does not take is dropped.
    """
    for number, name in enumerate(NAMES):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - lives as we do
        elif number and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            if not stream.isatty():
                setattr(sys, name, _tolerant(stream))


def _tolerant(stream: TextIO) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(Pipe(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream is sys.__stderr__,
    )


def lost_output() -> OSError | None:
    """Write what is waiting; return why some of standard output was lost, None if nothing was."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # of a terminal that is gone
            stream.flush()
    return getattr(_raw(sys.stdout), "failure", None)


def is_read(stream: IO[str]) -> bool:
    """Return whether somebody still reads what goes to `stream`."""
    raw = _raw(stream)
    return not (isinstance(raw, Pipe) and raw.closed_early)


def _raw(stream: IO[str]) -> object:
    return getattr(getattr(stream, "buffer", None), "raw", None)
