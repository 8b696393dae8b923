"""``import``: make a run of a table that another program wrote."""

from __future__ import annotations

from typing import Annotated

import typer

from sublim_causal.errors import RequestError
from sublim_causal.study.commands.options import RunArgument
from sublim_causal.study.console.output import out


def import_(
    run: RunArgument,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TABLE",
            help="A .csv, .parquet or .jsonl file, W&B's export of runs as CSV, or "
            "mlflow:EXPERIMENT.",
        ),
    ],
    seed: Annotated[str, typer.Option(help="Column of the seeds.")],
    arm: Annotated[str, typer.Option(help="Column of the arms.")],
    outcome: Annotated[str, typer.Option(help="Column of the outcome.")],
    step: Annotated[
        str | None, typer.Option(help="Column of the steps, if each row is a step.")
    ] = None,
    renamed: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OURS=THEIRS", help="Read the column THEIRS as OURS."),
    ] = None,
    unit: Annotated[str, typer.Option(help="Unit of the outcome.")] = "unitless",
    chance: Annotated[
        float | None, typer.Option(help="The outcome of a network without the trait.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Difference in the outcome that is too small to matter.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Reference arm; default: baseline.")] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="The same seed means different draws in each arm.")
    ] = False,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "",
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store to read from; default: MLflow's own.")
    ] = None,
) -> None:
    """Check a table that another program wrote, and write RUN from it."""
    from sublim_causal.own.importing import Asked, check_table, write_import
    from sublim_causal.own.sources import read_source
    from sublim_causal.study.console import status as state

    names = dict(_pair(text) for text in renamed or ())
    frame = read_source(source, tracking_uri, steps=step is not None)
    checked = check_table(frame, Asked(seed, arm, outcome, step, names))
    for remark in checked.remarks:
        out.print(f"Note: {remark}", soft_wrap=True)
    write_import(
        run,
        checked,
        source,
        unit=unit,
        chance=chance,
        margin=margin,
        reference=reference,
        paired=not unpaired,
        title=title,
    )
    out.print(state.status_table(state.read_status(run)))
    out.print(f"Imported: {len(frame)} rows into {run}", soft_wrap=True)


def _pair(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise RequestError("--map", text, "OURS=THEIRS, such as cos_update=alignment")
    return ours, theirs
