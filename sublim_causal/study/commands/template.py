"""The text of a study file with every field, what it means and allows, and its default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sublim_causal.allowed import in_words, models_at, place_of
from sublim_causal.experiment.config import ArmConfig
from sublim_causal.study.commands.fields import default_of, described, toml_value
from sublim_causal.study.spec.study import Study

WIDTH = 100
"""Columns of a study file."""


def study_lines(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a study file that sets the values of `table`.

    Every other field is a comment with its default.
    """
    yield "# A study file of sublim-causal. Fields that are commented out show the default."
    fields = {name: one for name, one in Study.model_fields.items() if name != "arms"}
    yield from _section(fields, table, "")
    yield ""
    yield from _comment(
        "Arms, in the order of tables and figures. In addition to an intervention and its options, "
        "which `sublim-causal interventions` lists, an arm takes the fields shown for an arm NAME."
    )
    fields = {name: one for name, one in ArmConfig.model_fields.items() if name != "intervention"}
    yield from _section(fields, {}, "arms.NAME")
    yield from ("", tomli_w.dumps({"arms": table["arms"]}).rstrip("\n"))


def _section(
    fields: Mapping[str, FieldInfo], table: Mapping[str, Any], header: str
) -> Iterator[str]:
    """Yield the lines of one section and those within it: plain fields come first, as in TOML."""
    sections = {name: model for name, one in fields.items() if (model := _model_of(one))}
    plain = {name: one for name, one in fields.items() if name not in sections}
    if plain and header:
        yield ""
        yield f"[{header}]" if table else f"# [{header}]"
    for name, field in plain.items():
        yield from _field(field.alias or name, field, table)
    if header:
        # Options that the section leaves to what it names, such as those of a task.
        known = {field.alias or name for name, field in fields.items()}
        options = {name: value for name, value in table.items() if name not in known}
        yield from tomli_w.dumps(options).splitlines()
    for name, model in sections.items():
        inner = table.get(name, {})
        yield from _section(model.model_fields, inner, f"{header}.{name}".lstrip("."))


def _field(name: str, field: FieldInfo, table: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a field means and allows, and its value or its default."""
    allowed = in_words(place_of(field))
    yield from _comment(f"{described(field)} [{allowed}]" if allowed else described(field))
    if name in table:
        yield f"{name} = {toml_value(table[name])}"
    elif (default := default_of(field)) is not None:
        yield f"# {name} = {toml_value(default)}"
    else:
        yield f"# {name} ="


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is a section, which may be optional."""
    return next(models_at(place_of(field)), None)


def _comment(text: str) -> Iterator[str]:
    yield from (f"# {line}" for line in textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False))
