"""The files of a report, and which of a folder's files are an earlier report's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from pathlib import Path

from sublim_causal.errors import RequestError
from sublim_causal.location import is_remote, remove, validate_replaceable, write_atomically

PAGE = "index.html"
RECORD = "files.txt"
"""Names the tables and figures that a report wrote, one a line: the next one removes no others."""
FOLDERS = ("figures", "tables")


def check_folder(out: Path) -> None:
    """Check that a report can be written to `out`.

    Raises
    ------
    RequestError
        If `out`, a folder above it, or one that it shall hold is a file or a link, or it cannot be
        written.
    StorageError
        If something else than a file stands where the page shall be.
    """
    if is_remote(out):  # an object store has no folders
        return
    folders = [out / name for name in FOLDERS]
    for place in (*out.parents, out, *folders):
        if place.exists() and not place.is_dir():
            raise RequestError(
                "--out", str(out), f"a folder, new or existing; {place} is a file", "name another"
            )
    there = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not os.access(there, os.W_OK):
        raise RequestError("--out", str(out), f"a writable folder; {there} is not", "name another")
    for place in folders:
        if place.is_symlink():
            raise RequestError(
                "--out", str(out), f"a path without links; {place} is a link", "name another"
            )
    validate_replaceable(out / PAGE)


def write(out: Path, files: Mapping[str, str | bytes]) -> None:
    """Write `files`, by name in `out`; remove tables and figures that only an earlier report has.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    ours = {name for name in files if name.partition("/")[0] in FOLDERS}
    stale = _recorded(out) - ours
    # The record comes first: a report that is cut off leaves no file that nobody owns.
    _record(out, ours | stale)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        write_atomically(out / name, data)
    for name in stale:
        remove(out / name)
    _record(out, ours)


def _record(out: Path, names: Set[str]) -> None:
    write_atomically(out / RECORD, "".join(f"{name}\n" for name in sorted(names)).encode())


def _recorded(out: Path) -> set[str]:
    """Return what an earlier report wrote and is still a file; a record names nothing elsewhere."""
    record = out / RECORD
    names = record.read_text().splitlines() if record.is_file() else []
    places = {name: out / name for name in names}
    return {
        name
        for name, place in places.items()
        if place.is_file() and place.parent in [out / folder for folder in FOLDERS]
    }
