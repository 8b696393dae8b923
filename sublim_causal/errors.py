"""Errors a user can act on: what was wrong, where, and the way out."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sublim_causal.renames import RENAMED, renamed

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that command a terminal, change the direction of text, or are none."""


class SublimError(Exception):
    """Base of every error this package raises on purpose."""


class RequestError(SublimError):
    """The request is wrong: a field has a value that is not allowed.

    Parameters
    ----------
    field : str
        Where the value stands, as a dotted path (``arms.projection.strength``) or an option.
    value : object
        What was given.
    allowed : str
        What would have been accepted, in words.
    remedy : str
        What to do about it.
    file : str
        The file in which the value stands; empty if it was given otherwise.
    """

    def __init__(
        self, field: str, value: object, allowed: str, remedy: str = "", file: str = ""
    ) -> None:
        self.field, self.value, self.allowed, self.remedy = field, value, allowed, remedy
        self.file = file
        place = f"{file}: {field}" if file else field
        told = "missing" if value is None else f"{_short(value)} is not allowed"
        lines = [f"{place}: {told}", f"allowed: {allowed}"]
        super().__init__("\n".join([*lines, f"remedy: {remedy}"] if remedy else lines))

    def in_file(self, file: str) -> RequestError:
        """Return the error with the name of the file in which the value stands."""
        if self.file:
            return self
        remedy = self.remedy or "correct it there"
        return RequestError(self.field, self.value, self.allowed, remedy, file)

    def __reduce__(self) -> tuple[type[RequestError], tuple[str, object, str, str, str]]:
        """Let a worker process send the error to its parent."""
        return type(self), (self.field, self.value, self.allowed, self.remedy, self.file)


class DataError(SublimError):
    """Data that were read cannot be used: missing, damaged, or not what was asked for."""


class RunError(SublimError):
    """A run directory cannot be used as asked: not a run, another study, or locked."""


class StorageError(SublimError):
    """A file cannot be written: the disk is full, or the file system refuses."""


SHOWN = 300
"""Characters of a wrong value that are shown."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exceeded quota, and a file beyond the size allowed."""
NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Error numbers of a read-only file system, and of a folder of another user."""


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the error that says that `path` cannot be written, why, and what to do about it."""
    full = path.absolute()
    there = next(one for one in (full, *full.parents) if _exists(one))
    place = there if there.is_dir() else there.parent
    why = f"{path}: cannot be written: {error.strerror or error}"
    if error.errno in DISK_FULL:
        return StorageError(
            f"{why} ({_free(place)})\n"
            "remedy: free some space, or choose another directory; finished blocks are kept, and "
            "the same command resumes the run"
        )
    if error.errno in NOT_ALLOWED:
        return StorageError(
            f"{why}\nremedy: make {place} writable, or choose another directory, such as one with "
            "a copy of the run"
        )
    if there.is_dir() == (there == full):
        return StorageError(
            f"{path}: cannot be written: {there} is a {'directory' if there == full else 'file'}\n"
            "remedy: move it out of the run directory; finished blocks are kept, and the same "
            "command resumes the run"
        )
    return StorageError(f"{why}\nremedy: choose another directory")


def system_error(error: OSError) -> SublimError:
    """Return what to say of an unexpected error of the operating system."""
    if error.filename is None:
        if error.errno not in DISK_FULL:
            return SublimError(f"{type(error).__name__}: {error}")
        places = ", ".join(_free(Path(place)) for place in (Path.cwd(), tempfile.gettempdir()))
        return StorageError(
            f"a file cannot be written: {error.strerror} ({places})\n"
            "remedy: free some space; finished blocks are kept, and the same command resumes the "
            "run"
        )
    if error.errno in (*DISK_FULL, errno.EROFS):
        return storage_error(Path(os.fsdecode(error.filename)), error)
    return SublimError(
        f"{os.fsdecode(error.filename)}: cannot be used: {error.strerror or error}\n"
        "remedy: check that it exists, and that you may read and write it"
    )


def _free(place: Path) -> str:
    return f"{shutil.disk_usage(place).free / 2**20:,.1f} MB free in {place}"


def _exists(path: Path) -> bool:
    with suppress(OSError):  # a name that is too long
        return path.exists()
    return False


def escaped(text: object) -> str:
    r"""Return `text` with the characters of `HIDDEN` spelt out, as ``\x1b`` or ``\u202e``."""
    return HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the closest of `names`, or an empty string.

    A name that one of them had in an earlier version is explained as such.
    """
    known = list(names)
    if RENAMED.get(name) in known:
        return renamed(name)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""
