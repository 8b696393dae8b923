"""``init``: write a study file with every field, what it means, and its default."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from sublim_causal.location import locate, storing
from sublim_causal.study.commands.names import complete_study
from sublim_causal.study.console.output import out


def init(
    file: Annotated[
        Path, typer.Argument(parser=locate, metavar="FILE", help="The file to write.")
    ] = Path("study.toml"),
    like: Annotated[
        str,
        typer.Option(help="Study that gives the initial values.", autocompletion=complete_study),
    ] = "quickstart",
) -> None:
    """Write a study file to edit: every field with its meaning, allowed values and default."""
    from sublim_causal.declared import find_declared, read_toml
    from sublim_causal.errors import RequestError
    from sublim_causal.study.commands.template import study_lines
    from sublim_causal.study.spec.reading import read_study

    if file.exists():
        raise RequestError(
            "FILE", str(file), "a file that does not exist yet", "choose another name"
        )
    if not file.parent.is_dir():
        raise RequestError("FILE", str(file), "a file in an existing folder", "create the folder")
    read_study(like, settings=[f"name={json.dumps(file.stem)}"])
    table = {**read_toml(find_declared("studies", like), "studies"), "name": file.stem}
    text = "\n".join(study_lines(table)) + "\n"
    with storing(file):
        file.write_text(text, encoding="utf-8")
    out.print(f"Written: {file}", soft_wrap=True)
    out.print(f"Next:    sublim-causal run {shlex.quote(str(file))} --dry-run", soft_wrap=True)
