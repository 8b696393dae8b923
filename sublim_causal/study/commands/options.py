"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sublim_causal.location import locate
from sublim_causal.study.commands.names import complete_plan, complete_study

StudyArgument = Annotated[
    str, typer.Argument(help="Study: a name or a TOML file.", autocompletion=complete_study)
]
RunArgument = Annotated[
    Path, typer.Argument(parser=locate, metavar="RUN", help="Run directory, or its s3:// address.")
]
PlanOption = Annotated[
    str, typer.Option(help="Analysis plan: a name or a TOML file.", autocompletion=complete_plan)
]
TrackingOption = Annotated[
    str | None,
    typer.Option(help="MLflow store or server; default: mlflow.db beside the run directory."),
]
