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
Seeds = Annotated[int | None, typer.Option(help="Number of seeds: 0 to N-1.")]
SeedRange = Annotated[
    str | None,
    typer.Option(metavar="FIRST-LAST", help="Run only these seeds; other processes run the rest."),
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="K/N", help="Run only part K of N of the seeds, from 1/N to N/N."),
]
Until = Annotated[
    str | None,
    typer.Option(
        metavar="GOAL",
        help="Add seeds until this holds: 'width(ARM - REFERENCE) < 0.04', "
        "'ARM - REFERENCE excludes 0' or 'ARM - REFERENCE equivalent 0.05'.",
    ),
]
At = Annotated[
    str | None,
    typer.Option(metavar="N,N,...", help="Numbers of seeds at the looks; default: 8,12,16,20,30."),
]
MaxSeeds = Annotated[
    int | None, typer.Option(help="Seeds at the last look; default: the last of --at.")
]
Boundary = Annotated[
    str | None, typer.Option(help="Interval of the looks: obrien-fleming (the default) or anytime.")
]
Plan = Annotated[
    str | None,
    typer.Option(
        help="Analysis plan of the report; its stopping rule, if any, adds seeds. "
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
Executor = Annotated[str, typer.Option(help="Where the study runs: local or ray.")]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster, HOST:PORT; default: start one here.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Workers; default: one per core, or one per GPU.")
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
        parser=locate,
        metavar="FOLDER",
        help="Data sets in torchvision's layout; default: SUBLIM_DATA.",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Download missing data.")]
Mirror = Annotated[
    str | None,
    typer.Option(help="MLflow store or server, or none; default: mlflow.db beside the run."),
]
Replicates = Annotated[
    bool | None, typer.Option(help="Mirror every replicate in MLflow; default: up to 500 of them.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Do not write the report.")]
