"""Columns that a run of the user's own has beside those of the tables.

Each has a file, ``columns/<table>.<column>.json``, which holds its unit and meaning: so that any
number of processes can add columns at once. A run of a study has none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType

from sublim_causal.errors import DataError, RunError
from sublim_causal.location import matching, write_atomically
from sublim_causal.store.schema import TABLES, Column

FOLDER = "columns"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""What an own column can be called."""
UNITLESS = "unitless"
TYPES = {"number": "double", "text": "string"}
Columns = Mapping[str, Sequence[Column]]
"""Own columns by table."""

_KNOWN: ContextVar[Columns] = ContextVar("known", default=MappingProxyType({}))


def own_column(name: str, unit: str, meaning: str = "", *, text: bool = False) -> Column:
    """Return an own column of numbers, or of text, which has no unit."""
    kind, unit = ("text", "") if text else ("number", unit)
    return Column(name, TYPES[kind], unit, meaning or name.replace("_", " "), own=True)


def own_columns(run: Path) -> dict[str, list[Column]]:
    """Return the own columns of `run` by table, sorted by name.

    Raises
    ------
    RunError
        If the file of one is damaged.
    """
    found: dict[str, list[Column]] = {}
    for path in sorted(matching(run / FOLDER, "*.json"), key=str):
        table, _, name = path.stem.partition(".")
        if table in TABLES and NAME.fullmatch(name):
            found.setdefault(table, []).append(_read(path, name))
    return found


def _read(path: Path, name: str) -> Column:
    try:
        about = json.loads(path.read_bytes())
        unit, meaning, kind = (str(about[key]) for key in ("unit", "meaning", "type"))
        return Column(name, TYPES[kind], unit, meaning, own=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: damaged, {error}\nremedy: restore the file from a copy, or delete the run"
        ) from None


def declare_columns(run: Path, columns: Columns) -> None:
    """Add own columns to `run`; those that it has already stay.

    Raises
    ------
    DataError
        If the run has a column of this name with another type or unit.
    StorageError
        If a file cannot be written.
    """
    known = own_columns(run)
    for table, own in columns.items():
        there = {one.name: one for one in known.get(table, ())}
        for column in own:
            old = there.get(column.name)
            if old is None:
                write_atomically(_file(run, table, column.name), _content(column))
            elif (old.type, old.unit) != (column.type, column.unit):
                raise DataError(
                    f"{run}: the column {column.name!r} of the table {table!r} holds "
                    f"{_words(old)}, not {_words(column)}\n"
                    "remedy: give it another name, or the unit that it has"
                )


def _file(run: Path, table: str, name: str) -> Path:
    return run / FOLDER / f"{table}.{name}.json"


def _content(column: Column) -> bytes:
    kind = next(kind for kind, type_ in TYPES.items() if type_ == column.type)
    about = {"unit": column.unit, "meaning": column.meaning, "type": kind}
    return (json.dumps(about, ensure_ascii=False) + "\n").encode()


def _words(column: Column) -> str:
    return "text" if column.type == "string" else f"numbers in {column.unit!r}"


@contextmanager
def knowing_columns(columns: Columns) -> Iterator[None]:
    """Let plans and reports name these own columns within the block, beside those known before."""
    before = _KNOWN.get()
    token = _KNOWN.set({table: _joined(before, columns, table) for table in TABLES})
    try:
        yield
    finally:
        _KNOWN.reset(token)


def _joined(before: Columns, columns: Columns, table: str) -> tuple[Column, ...]:
    named = {one.name: one for one in (*before.get(table, ()), *columns.get(table, ()))}
    return tuple(named.values())


def known_columns(table: str) -> tuple[Column, ...]:
    """Return the columns of `table`, and the own ones of the run that is being analysed."""
    return (*TABLES[table], *_KNOWN.get().get(table, ()))
