"""``sync``: rebuild the MLflow mirror of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from sublim_causal.study.commands.options import RunArgument, TrackingOption
from sublim_causal.study.console.output import out, progress_bar


def sync(
    run: RunArgument,
    tracking_uri: TrackingOption = None,
    mirror_replicates: Annotated[
        bool | None, typer.Option(help="Mirror every replicate; default: up to 500 of them.")
    ] = None,
) -> None:
    """Rebuild the MLflow mirror of RUN from its tables."""
    from sublim_causal.store.connection import default_tracking_uri
    from sublim_causal.study.running.mirroring import sync_in_time

    with progress_bar("Mirroring") as progress:
        result = sync_in_time(
            run,
            tracking_uri or default_tracking_uri(run),
            replicates=mirror_replicates,
            progress=lambda done, total: progress(done, total, ""),
        )
    out.print(
        f"Mirrored: {result.written} replicates written, {result.unchanged} were there, "
        f"{result.left_out} not shown one by one."
    )
