"""``status``: how much of a run is there."""

from __future__ import annotations

from typing import Annotated

import typer

from sublim_causal.study.commands.options import RunArgument
from sublim_causal.study.console.output import DONE, INCOMPLETE, out, warn_of_damage


def status(
    run: RunArgument,
    watch: Annotated[
        bool, typer.Option("--watch", help="Update until the run is finished.")
    ] = False,
) -> None:
    """Show how much of RUN is complete, by arm, and which files are damaged."""
    from sublim_causal.study.console import status as state

    found = state.watch(run, out) if watch else state.read_status(run)
    if not watch:
        out.print(state.status_table(found))
    warn_of_damage(found.damaged)
    out.print(state.ending(found))
    raise typer.Exit(INCOMPLETE if found.damaged else DONE)
