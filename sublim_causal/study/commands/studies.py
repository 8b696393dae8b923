"""``studies``: list the built-in studies; ``studies show NAME``: print the file of one."""

from __future__ import annotations

import typer

from sublim_causal.study.commands.options import StudyArgument
from sublim_causal.study.console.output import out

app = typer.Typer(help="List the built-in studies, or show the file of one.")


@app.callback(invoke_without_command=True)
def list_studies(context: typer.Context) -> None:
    """Print name and title of every built-in study."""
    from rich.table import Table
    from rich.text import Text

    from sublim_causal.study.spec.reading import built_in_studies

    if context.invoked_subcommand is not None:
        return
    table = Table(show_header=False, box=None)
    for name, title in built_in_studies().items():
        table.add_row(Text(name, "bold"), title)
    out.print(table)


@app.command()
def show(name: StudyArgument) -> None:
    """Print the study file NAME unchanged; `> my.toml` makes a copy to edit."""
    from sublim_causal.declared import find_declared, read_toml

    path = find_declared("studies", name)
    read_toml(path, "studies")
    print(path.read_text(encoding="utf-8"), end="")
