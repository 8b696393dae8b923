"""Options of ``run``: what is run, how many seeds, and on what machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sublim_causal.location import locate
from sublim_causal.study.commands.names import complete_plan

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        parser=locate,
        metavar="PLACE",
        help="Run directory, or an address such as s3://bucket/prefix; default: runs/NAME.",
    ),
]
Seeds = Annotated[int | None, typer.Option(help="Replicates: seeds 0 to N-1.")]
SeedRange = Annotated[
    str | None,
    typer.Option(metavar="FIRST-LAST", help="Run these seeds only, beside processes with others."),
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="K/N", help="Run the part K of N of the seeds only, from 1/N to N/N."),
]
Until = Annotated[
    str | None,
    typer.Option(
        metavar="GOAL",
        help="Add seeds until this is seen: 'width(ARM - REFERENCE) < 0.04', "
        "'ARM - REFERENCE excludes 0' or 'ARM - REFERENCE equivalent 0.05'.",
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,...", help="Look with these numbers of seeds; default: 8,12,16,20,30."
    ),
]
MaxSeeds = Annotated[
    int | None, typer.Option(help="Seeds of the last look; default: the last one of --at.")
]
Boundary = Annotated[
    str | None, typer.Option(help="Interval of the looks: obrien-fleming (the default) or anytime.")
]
Plan = Annotated[
    str | None,
    typer.Option(
        help="Plan by which the run is reported; its table [stopping] adds seeds. "
        "Default: primary.",
        autocompletion=complete_plan,
    ),
]
Arms = Annotated[str | None, typer.Option(help="Arms to run, separated by commas.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the study file."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[str, typer.Option(help="Matrix products: fp64, fp32, tf32 or bf16.")]
Executor = Annotated[str, typer.Option(help="Where it runs: local or ray.")]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster, HOST:PORT; default: one started here.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Workers; default: one a core, or one a GPU.")
]
BlockSize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Seeds trained together; default: few on a CPU (a small network), all on a GPU."
    ),
]
Memory = Annotated[
    str | None, typer.Option(help="Memory of all workers; default: a quarter of the machine.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        parser=locate, metavar="FOLDER", help="Data sets in torchvision's layout; else SUBLIM_DATA."
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch missing data.")]
Mirror = Annotated[
    str | None,
    typer.Option(help="MLflow store or server, or none; default: mlflow.db beside the run."),
]
Replicates = Annotated[
    bool | None, typer.Option(help="Mirror every replicate in MLflow; default: up to 500 of them.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Leave out the report.")]
