"""Objects that a study file names as ``module:Class``."""

from __future__ import annotations

import importlib
from typing import Any

from sublim_causal.errors import RequestError, nearest


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
            "put the file beside where you start the command, or on PYTHONPATH",
        ) from error
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise RequestError(
            field, path, f"a name defined in module {module_name!r}", nearest(name, public)
        )
    return getattr(module, name)
