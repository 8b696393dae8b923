"""What a study file names: a registered class, or one of a user's own as ``module:Class``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from sublim_causal.declared import validate_declared
from sublim_causal.errors import RequestError, nearest
from sublim_causal.renames import renamed


class Options(BaseModel):
    """Base of the built-in interventions and channels: frozen options, validated."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


def import_object(field: str, path: str) -> Any:
    """Import ``module:Class``.

    Raises
    ------
    RequestError
        If the module cannot be imported or has no such name.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise RequestError(
            field,
            path,
            "module:Class of an importable module",
            f"importing {module_name!r} failed with {type(error).__name__}: {error}; "
            "put the file in the directory in which you start the command, or on PYTHONPATH",
        ) from error
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise RequestError(
            field, path, f"a name defined in module {module_name!r}", nearest(name, public)
        )
    return getattr(module, name)


def build_named(
    registry: Mapping[str, type[Any]], field: str, key: str, options: Mapping[str, Any]
) -> Any:
    """Build an object of the class that `options` names, from the other options.

    Parameters
    ----------
    registry : mapping
        The built-in classes by name.
    field : str
        Where the options stand in the study file (``arms.hard.channel``), for error messages.
    key : str
        The option that holds the name.

    Raises
    ------
    RequestError
        If the class is unknown or refuses an option.
    """
    given = dict(options)
    name = str(given.pop(key, ""))
    if name in registry:
        factory: Any = registry[name]
    elif ":" in name:
        factory = import_object(f"{field}.{key}", name)
    else:
        allowed = f"{', '.join(registry)}, or module:Class"
        raise RequestError(f"{field}.{key}", name, allowed, nearest(name, registry))
    if isinstance(factory, type) and issubclass(factory, BaseModel):
        return validate_declared(factory, given, field)
    try:
        return factory(**given)
    except TypeError as error:
        remedy = next(filter(None, map(renamed, given)), str(error))
        raise RequestError(field, given, f"the options of {name}", remedy) from error
