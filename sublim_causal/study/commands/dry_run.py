"""``run --dry-run``: what a run would do, and what it needs."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sublim_causal.experiment.data.sources import data_directory
from sublim_causal.experiment.tasks import build_task
from sublim_causal.experiment.tasks.base import Detailed
from sublim_causal.store.connection import validate_reachable
from sublim_causal.study.console.output import duration, out
from sublim_causal.study.executors import open_executor
from sublim_causal.study.planning.estimate import estimate_seconds
from sublim_causal.study.planning.options import RunOptions
from sublim_causal.study.planning.plan import plan_run
from sublim_causal.study.planning.trial import try_study
from sublim_causal.study.running.completion import finished
from sublim_causal.study.running.manifest import describe, validate_run
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.trainer import make_network


def show_plan(spec: Study, options: RunOptions) -> None:
    """Print what a run would do: blocks, steps, time and memory.

    Raises
    ------
    SublimError
        If the study, its data, the device or the MLflow store cannot be used.
    """
    with open_executor(options.executor, options.address) as executor:
        resources = executor.resources(options.device)
        described = describe(spec, resources.device, options.precision, "", options.stopping)
        validate_run(options.run, described)
        done = finished(options.run, spec.arms, options.seed_range)
        network = make_network(spec)
        plan = plan_run(spec, network, options, resources, done)
        try_study(spec, network, options.precision, plan.block_size)
    seconds = estimate_seconds(spec, network, plan, options.precision)
    part = f" of {spec.seeds}" if options.seed_range is not None else ""
    limit = "" if spec.distillation.until_loss is None else "at most "
    seeds = f"{plan.total // len(spec.arms)}{part}"
    table = Table(
        title=f"Plan of {spec.name!r}", box=SIMPLE_HEAD, pad_edge=False, show_header=False
    )
    rows = (
        ("run directory", str(options.run)),
        ("arms", ", ".join(spec.arms)),
        ("replicates", f"{plan.total} ({seeds} seeds x {len(spec.arms)} arms)"),
        ("already done", str(plan.done)),
        ("blocks to run", f"{len(plan.blocks)} of at most {plan.block_size} seeds ({plan.why})"),
        ("optimizer steps", f"{limit}{plan.work.optimizer_steps:,}"),
        *((("tokens to write", f"at most {written:,}"),) if (written := plan.work.tokens) else ()),
        ("device", f"{plan.device}, {plan.workers} workers, {options.precision}"),
        ("memory", f"about {plan.workers * plan.worker_bytes / 2**30:.1f} GB, plus the libraries"),
        (
            "time",
            f"{limit}about {duration(seconds)}" if seconds is not None else "not measured on a GPU",
        ),
    )
    task = build_task(spec)
    details = task.details() if isinstance(task, Detailed) else {}
    for row in (*rows, *details.items()):
        table.add_row(*map(Text, row))
    out.print(table)
    if not options.download:
        task.load(data_directory(options.data_dir), download=False)
    if options.tracking_uri is not None:
        validate_reachable(options.tracking_uri)
