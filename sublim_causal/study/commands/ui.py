"""``ui``: MLflow's user interface over the runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sublim_causal.location import locate
from sublim_causal.study.commands.options import TrackingOption


def ui(
    runs: Annotated[list[Path] | None, typer.Argument(parser=locate, metavar="[RUN]...")] = None,
    tracking_uri: TrackingOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free port.")] = 5000,
) -> None:
    """Open MLflow's UI on 127.0.0.1 over the store of the runs (default: runs/mlflow.db)."""
    from sublim_causal.store.ui import serve_ui

    raise typer.Exit(serve_ui(runs or [], tracking_uri, port=port))
