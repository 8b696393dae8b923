"""Fields of a study file as text: default values in TOML, and descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def toml_value(value: Any) -> str:
    """Return `value` as text to the right of ``=`` in a TOML file."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{toml_key(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(toml_value, value))}]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")


def toml_key(key: object) -> str:
    """Return `key` as text to the left of ``=``, in quotes where it needs them."""
    return tomli_w.dumps({str(key): 0}).removesuffix(" = 0\n")


def default_of(field: FieldInfo) -> Any:
    """Return the default of `field`; None where there is none."""
    return None if field.is_required() else field.get_default(call_default_factory=True)


def described(field: FieldInfo) -> str:
    """Return the description of `field` in one line."""
    return " ".join((field.description or "").split())
