"""Sphinx directives that write out the fields of files and the columns of tables."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import getdoc
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from docutils.nodes import Node
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


class Fields(SphinxDirective):
    """``.. fields:: module:NAME``: the fields of a pydantic model, or of each in a registry.

    With the option ``skip`` the fields of that model (``module:NAME``) are left out.
    """

    required_arguments = 1
    option_spec: ClassVar = {"skip": str}

    def run(self) -> list[Node]:
        """Return the nodes."""
        found = find(self.arguments[0])
        skip = set(find(self.options["skip"]).model_fields) if "skip" in self.options else set()
        entries = found.items() if isinstance(found, Mapping) else [("", found)]
        lines: list[str] = []
        for name, row in entries:
            model = getattr(row, "declaration", row)
            title = [f".. rubric:: ``{name}``", ""] if name else []
            lines += [*title, getdoc(model) or "", "", *table(rows(model, skip)), ""]
        return self.parse_text_to_nodes("\n".join(lines))


class Columns(SphinxDirective):
    """``.. columns:: steps``: the columns of a table of a run."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return the nodes."""
        columns = find("sublim_causal.store.schema:TABLES")[self.arguments[0]]
        body = [
            (f"``{c.name}``", c.unit, f"``{c.meaning}``" if "<" in c.meaning else c.meaning)
            for c in columns
        ]
        return self.parse_text_to_nodes("\n".join(table([("column", "unit", "meaning"), *body])))


def find(path: str) -> Any:
    """Return what ``module:NAME`` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def rows(model: type[BaseModel], skip: set[str]) -> list[tuple[str, ...]]:
    """Return a heading and a row a field: name, values, default, meaning."""
    body = [
        (f"``{info.alias or name}``", values(info), default(info), info.description or "")
        for name, info in model.model_fields.items()
        if name not in skip
    ]
    return [("field", "values", "default", "meaning"), *body] if body else []


def values(info: FieldInfo) -> str:
    """Return type and bounds of a field in words."""
    bounds = [
        f"{sign} {getattr(one, key):g}"
        for one in info.metadata
        for key, sign in BOUNDS.items()
        if getattr(one, key, None) is not None
    ]
    return ", ".join([*spelled(info.annotation), *bounds])


def spelled(annotation: Any) -> Iterator[str]:
    """Yield the kinds of value that a type allows."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield ", ".join(f"``{one}``" for one in arguments)
    elif origin in (Union, types.UnionType):
        for one in arguments:
            if one is not type(None):
                yield from spelled(one)
    elif hasattr(annotation, "__metadata__"):
        yield from spelled(arguments[0])
    elif origin is tuple:
        yield f"list of {'; '.join(spelled(arguments[0]))}"
    elif origin is not None:
        yield "table"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield f"table (`{annotation.__name__}`)"
    else:
        words = {int: "whole number", float: "number", str: "text", bool: "true or false"}
        yield words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def default(info: FieldInfo) -> str:
    """Return the default of a field as TOML writes it; empty for None, or where there is none."""
    value = info.default
    if value is PydanticUndefined:
        return "" if info.default_factory is None else "empty"
    if value is None or isinstance(value, BaseModel | Mapping):
        return ""
    if isinstance(value, bool):
        return f"``{str(value).lower()}``"
    if isinstance(value, tuple):
        return f"``{list(value)}``".replace("'", '"')
    return f'``"{value}"``' if isinstance(value, str) else f"``{value}``"


def table(lines: list[tuple[str, ...]]) -> list[str]:
    """Return a reStructuredText table with a heading."""
    if not lines:
        return []
    text = [".. list-table::", "   :header-rows: 1", ""]
    for line in lines:
        for i, cell in enumerate(line):
            text.append(f"   {'*' if i == 0 else ' '} - {' '.join(cell.split())}".rstrip())
    return [*text, ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("fields", Fields)
    app.add_directive("columns", Columns)
    return {"parallel_read_safe": True}
