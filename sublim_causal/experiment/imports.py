"""What a study file names: a registered class, or one of its own as ``module:Class``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from sublim_causal.declared import validate_declared
from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.source import find_class
from sublim_causal.renames import renamed


class Options(BaseModel):
    """Base of the built-in interventions and channels: frozen options, validated."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


@dataclass(frozen=True)
class Contract:
    """What a class must be before it is imported and called.

    Attributes
    ----------
    words : str
        The contract in words, for error messages.
    methods : tuple of frozenset of str
        A class has all methods of one of these sets.
    """

    words: str
    methods: tuple[frozenset[str], ...]

    def kept_by(self, members: frozenset[str]) -> bool:
        """Return whether `members` hold all methods of one of the sets."""
        return any(needed <= members for needed in self.methods)


def import_class(field: str, path: str, contract: Contract) -> type[Any]:
    """Import the class that `path`, ``module:Class``, names.

    The module is imported only if its source defines such a class with the methods of `contract`.
    A class whose bases the source does not show is checked after its import.

    Raises
    ------
    RequestError
        If the module cannot be imported, has no such class, or the class lacks a method.
    """
    module_name, _, name = path.partition(":")
    if module_name not in sys.modules:
        _validate_source(field, path, contract)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise RequestError(
            field,
            path,
            "module:Class of a module that can be imported",
            f"importing {module_name!r} failed with {type(error).__name__}: {error}",
        ) from error
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [n for n, one in vars(module).items() if isinstance(one, type)]
        allowed = f"a class of module {module_name!r}"
        raise RequestError(field, path, allowed, nearest(name, classes))
    methods = frozenset(n for n in dir(found) if callable(getattr(found, n, None)))
    if not contract.kept_by(methods):
        raise RequestError(field, path, contract.words)
    return found


def _validate_source(field: str, path: str, contract: Contract) -> None:
    """Refuse a module whose source defines no such class; nothing is imported."""
    module, _, name = path.partition(":")
    try:
        found = find_class(module, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError, ImportError) as error:
        raise RequestError(
            field,
            path,
            "module:Class of a module that can be imported",
            f"reading {module!r} failed with {type(error).__name__}: {error}",
        ) from error
    if found is None:
        raise RequestError(
            field,
            path,
            "module:Class of a Python file that defines or imports the class by name",
            "put the file beside the study file, or on PYTHONPATH",
        )
    if found.complete and not contract.kept_by(found.members):
        raise RequestError(field, path, contract.words, f"the class is in {found.file}")


def named_classes(table: object) -> Iterator[str]:
    """Yield what a nested `table` of an arm names as ``module:Class``."""
    if isinstance(table, Mapping):
        for key, value in table.items():
            if key in ("intervention", "name") and isinstance(value, str) and ":" in value:
                yield value
            yield from named_classes(value)
    elif isinstance(table, list | tuple):
        for value in table:
            yield from named_classes(value)


def build_named(
    registry: Mapping[str, type[Any]],
    contract: Contract,
    field: str,
    key: str,
    options: Mapping[str, Any],
) -> Any:
    """Build an object of the class that `options` names, from the other options.

    Parameters
    ----------
    registry : mapping
        The built-in classes by name.
    contract : Contract
        What any other class must be.
    field : str
        Name of the table with the options (``arms.hard.channel``), for error messages.
    key : str
        The option that holds the name.

    Raises
    ------
    RequestError
        If the class is unknown, or it refuses an option.
    """
    given = dict(options)
    name = given.pop(key, None)
    factory = class_named(registry, contract, f"{field}.{key}", name)
    if issubclass(factory, BaseModel):
        return validate_declared(factory, given, field)
    try:
        return factory(**given)
    except Exception as error:
        message = str(error) if isinstance(error, TypeError) else f"{type(error).__name__}: {error}"
        remedy = next(filter(None, map(renamed, given)), message)
        raise RequestError(field, given, f"the options of {name}", remedy) from error


def class_named(
    registry: Mapping[str, type[Any]], contract: Contract, field: str, name: object
) -> type[Any]:
    """Return the class of the built-in `name`, or import ``module:Class``.

    Raises
    ------
    RequestError
        If there is no such class, or it does not keep `contract`.
    """
    if isinstance(name, str) and name in registry:
        return registry[name]
    if isinstance(name, str) and ":" in name:
        return import_class(field, name, contract)
    allowed = f"{', '.join(registry)}, or module:Class"
    raise RequestError(field, name, allowed, nearest(str(name), registry))
