"""What a Python module defines, read from its source: no line of it is run."""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DEEPEST = 20
"""Imports and base classes that are followed, one after another."""


LARGEST_FILE = 2**22
"""Bytes of a Python file that is read: parsing takes a hundred times as much memory."""
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class ClassSource:
    """A class statement in a file.

    Attributes
    ----------
    file : Path
    members : frozenset of str
        What its body and those of its bases define.
    complete : bool
        Whether all its bases are known.
    """

    file: Path
    members: frozenset[str]
    complete: bool


def source_file(module: str) -> Path | None:
    """Return the Python file of `module`, dotted; None if there is none."""
    places: Sequence[str] | None = None
    origin: str | None = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        if end > 1 and places is None:
            return None
        spec = _spec(".".join(parts[:end]), places)
        if spec is None:
            return None
        places, origin = spec.submodule_search_locations, spec.origin
    return Path(origin) if origin and origin.endswith(".py") else None


def _spec(name: str, places: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    """Find a module as the import system does, but without importing the packages around it."""
    found = (finder.find_spec(name, places) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)


def find_class(module: str, name: str, depth: int = DEEPEST) -> ClassSource | None:
    """Return the class that `module` defines or imports as `name`; None if it has none.

    Raises
    ------
    SyntaxError, ValueError, RecursionError, OSError
        If the file cannot be read or parsed.
    """
    file = source_file(module)
    if file is None or not depth:
        return None
    if file.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{file} has more than {LARGEST_FILE >> 20} MB")
    found = None
    for statement in _statements(ast.parse(file.read_bytes()).body):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            found = _class_source(file, module, statement, depth)
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    origin = _absolute(statement, module, file)
                    found = find_class(origin, alias.name, depth - 1)
    return found


def code_digest(file: Path) -> str:
    """Return a hash of the code in a Python file: 16 hexadecimal digits.

    Comments, docstrings and the layout of lines make no difference.
    """
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, also those under a condition."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements(statement.body)
            yield from _statements(statement.orelse)
        if isinstance(statement, ast.Try):
            for handler in statement.handlers:
                yield from _statements(handler.body)


def _absolute(statement: ast.ImportFrom, module: str, file: Path) -> str:
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    relative = "." * statement.level + (statement.module or "")
    return importlib.util.resolve_name(relative, package)


def _class_source(file: Path, module: str, statement: ast.ClassDef, depth: int) -> ClassSource:
    members: set[str] = set()
    for one in statement.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            members.add(one.name)
        targets = one.targets if isinstance(one, ast.Assign) else [getattr(one, "target", None)]
        members.update(target.id for target in targets if isinstance(target, ast.Name))
    complete = True
    for base in statement.bases:
        known = find_class(module, base.id, depth - 1) if isinstance(base, ast.Name) else None
        members.update(known.members if known else ())
        complete = complete and known is not None and known.complete
    return ClassSource(file, frozenset(members), complete)
