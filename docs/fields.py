"""Sphinx directives that write out what the package declares: fields, columns, commands, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from inspect import getdoc
from typing import Any, ClassVar

import typer
from docutils.nodes import Node
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sublim_causal.allowed import in_words, place_of
from sublim_causal.declared import list_declared, read_toml
from sublim_causal.study.commands.fields import default_of, described, toml_value


class Fields(SphinxDirective):
    """``.. fields:: module:NAME``: the fields of a pydantic model, or of each in a registry.

    Options: ``title`` in place of the model's name; ``skip``, a model (``module:NAME``) whose
    fields are left out.
    """

    required_arguments = 1
    option_spec: ClassVar = {"title": str, "skip": str}

    def run(self) -> list[Node]:
        """Return the nodes."""
        found = find(self.arguments[0])
        skip = set(find(self.options["skip"]).model_fields) if "skip" in self.options else set()
        title = self.options.get("title", getattr(found, "__name__", ""))
        entries = found if isinstance(found, Mapping) else {title: found}
        lines: list[str] = []
        for name, row in entries.items():
            model = getattr(row, "declaration", row)
            lines += [f".. rubric:: ``{name}``", "", getdoc(model) or "", ""]
            lines += table(("field", "allowed", "default", "meaning"), field_rows(model, skip))
        return self.parse_text_to_nodes("\n".join(lines))


class Columns(SphinxDirective):
    """``.. columns:: steps``: the columns of a table of a run."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return the nodes."""
        columns = find("sublim_causal.store.schema:TABLES")[self.arguments[0]]
        rows = [(literal(c.name), c.unit, c.meaning.replace("|", "\\|")) for c in columns]
        return self.parse_text_to_nodes("\n".join(table(("column", "unit", "meaning"), rows)))


class Commands(SphinxDirective):
    """``.. commands::``: arguments and options of every command."""

    def run(self) -> list[Node]:
        """Return the nodes."""
        lines: list[str] = []
        for name, command in commands(typer.main.get_command(find("sublim_causal.study.cli:app"))):
            rows = [parameter_row(one) for one in command.params if not one.hidden]
            heading = ("argument or option", "default", "meaning")
            lines += [f".. rubric:: ``{name}``", "", command.help or "", "", *table(heading, rows)]
        return self.parse_text_to_nodes("\n".join(lines))


class Declared(SphinxDirective):
    """``.. declared:: studies``: name and title of every built-in study, or plan."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return the nodes."""
        kind = self.arguments[0]
        rows = []
        for name, path in list_declared(kind).items():
            content = read_toml(path, kind)
            rows.append((literal(name), content.get("title") or content["sentence"]))
        return self.parse_text_to_nodes("\n".join(table(("name", "about"), rows)))


def find(path: str) -> Any:
    """Return what ``module:NAME`` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def field_rows(model: type[BaseModel], skip: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each field: name, what is allowed, default, meaning."""
    for name, field in model.model_fields.items():
        if name not in skip:
            value = default_of(field)
            plain = value is not None and not isinstance(value, BaseModel)
            default = literal(toml_value(value) if plain else "")
            yield literal(field.alias or name), in_words(place_of(field)), default, described(field)


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command with its name, those of groups too."""
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")


def parameter_row(one: Any) -> tuple[str, ...]:
    """Return names, default and meaning of an argument or option."""
    names = [*one.opts, *one.secondary_opts]
    if one.param_type_name == "argument":
        names = [one.metavar or one.name.upper()]
    shown = isinstance(one.default, str | int | float) and not isinstance(one.default, bool)
    default = literal(str(one.default)) if shown else ""
    return ", ".join(map(literal, names)), default, one.help or ""


def literal(text: str) -> str:
    """Return `text` as code; nothing for nothing."""
    return f"``{text}``" if text else ""


def table(heading: Sequence[str], rows: Any) -> list[str]:
    """Return a reStructuredText table; nothing for no rows."""
    rows = list(rows)
    text = [".. list-table::", "   :header-rows: 1", ""] if rows else []
    for row in [tuple(heading), *rows] if rows else []:
        for i, cell in enumerate(row):
            text.append(f"   {'*' if i == 0 else ' '} - {' '.join(cell.split())}".rstrip())
    return [*text, ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    for directive in (Fields, Columns, Commands, Declared):
        app.add_directive(directive.__name__.lower(), directive)
    return {"parallel_read_safe": True}
