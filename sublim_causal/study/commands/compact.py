"""``compact``: merge the table files of a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sublim_causal.location import locate
from sublim_causal.study.commands.options import RunArgument
from sublim_causal.study.console.output import (
    DONE,
    INCOMPLETE,
    duration,
    err,
    out,
    progress_bar,
    warn_of_damage,
)


def compact(
    run: RunArgument,
    summary: Annotated[
        Path | None,
        typer.Option(
            parser=locate,
            metavar="PLACE",
            help="Leave RUN unchanged, and write a copy without steps here: manifest and one row "
            "per replicate.",
        ),
    ] = None,
) -> None:
    """Merge the many small table files of RUN into few large ones; no row changes."""
    from sublim_causal.store.compact import compact as compact_run
    from sublim_causal.store.compact import summarise
    from sublim_causal.store.lock import locked
    from sublim_causal.store.manifest import is_own, read_manifest, renew_version

    started = time.monotonic()
    own = is_own(read_manifest(run))
    if summary is not None:
        written = summarise(run, summary)
        out.print(f"Summary: {summary}: {written.files:,} files, {written.bytes / 1e6:,.1f} MB")
        return
    with locked(run), progress_bar("Compacting") as progress:
        renew_version(run)
        done = compact_run(run, lambda count, total: progress(count, total, ""))
    out.print(
        f"Compacted in {duration(time.monotonic() - started)}: "
        f"{done.before.files:,} files, {done.before.bytes / 1e6:,.1f} MB -> "
        f"{done.after.files:,} files, {done.after.bytes / 1e6:,.1f} MB"
    )
    warn_of_damage(done.damaged)
    if done.failed:
        again = "write them again" if own else "run the study again"
        err.print(f"{done.failed} blocks with failed replicates were not merged; {again}.")
    raise typer.Exit(INCOMPLETE if done.damaged else DONE)
