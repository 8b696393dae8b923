"""``interventions``: what an arm of a study file can name, with options and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sublim_causal.study.console.output import out


def complete_name(incomplete: str) -> list[str]:
    """Return the interventions and channels whose name begins with `incomplete`."""
    return [name for name in _known() if name.startswith(incomplete)]


def interventions(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show only this one.", show_default=False, autocompletion=complete_name
        ),
    ] = None,
) -> None:
    """List interventions and channels with their options, defaults and allowed values."""
    from rich.padding import Padding
    from rich.text import Text

    from sublim_causal.errors import RequestError, nearest

    known = _known()
    if name is not None and name not in known:
        raise RequestError("NAME", name, ", ".join(known), nearest(name, known))
    shown = known if name is None else {name: known[name]}
    headings = dict.fromkeys(heading for heading, _ in shown.values())
    for heading in headings:
        out.print(Text(heading, "underline"))
        for one, (section, model) in shown.items():
            if section == heading:
                out.print(Text(f"\n{one}", "bold"))
                for indent, line in _lines(model):
                    out.print(Padding(Text(line), (0, 0, 0, indent), expand=False))
        out.print()


def _known() -> dict[str, tuple[str, type[Any]]]:
    """Return every class by its name in a study file, with its heading."""
    from sublim_causal.experiment.interventions import INTERVENTIONS
    from sublim_causal.experiment.teaching.channels import CHANNELS

    known = {name: ("Interventions: [arms.NAME]", one) for name, one in INTERVENTIONS.items()}
    channels = {name: ("Channels: [arms.NAME.channel]", one) for name, one in CHANNELS.items()}
    return {**known, **channels}


def _lines(model: type[Any]) -> Iterator[tuple[int, str]]:
    """Yield the description of a class line by line, each with its indentation."""
    from sublim_causal.allowed import in_words, place_of
    from sublim_causal.study.commands.fields import default_of, described, toml_value

    yield 2, inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    for name, field in model.model_fields.items():
        default = default_of(field)
        if default is not None:
            given = f"{name} = {toml_value(default)}"
        else:
            given = f"{name}: required" if field.is_required() else f"{name}: not set"
        yield 2, f"{given}   ({in_words(place_of(field))})"
        yield 6, described(field)
