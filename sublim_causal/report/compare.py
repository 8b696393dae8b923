"""Two runs side by side: what was run, what each arm reached, and what each estimate became."""

from __future__ import annotations

from pathlib import Path

from sublim_causal.analysis.plan.file import Plan, load_plan
from sublim_causal.analysis.plan.results.stored import read_results
from sublim_causal.analysis.plan.run import Progress
from sublim_causal.errors import RequestError, RunError
from sublim_causal.location import locate
from sublim_causal.report.build import write_files
from sublim_causal.report.comparison.sections import agreement, arms, curves, estimates, studies
from sublim_causal.report.comparison.sentences import sentences
from sublim_causal.report.comparison.sides import Sides, apart
from sublim_causal.report.elements import Paragraph, Section
from sublim_causal.report.figures.style import settings
from sublim_causal.report.files import check_folder
from sublim_causal.report.material import Material, read_material
from sublim_causal.store.manifest import is_own, read_manifest


def compare_reports(
    first: str | Path,
    second: str | Path,
    plan: Plan | str | Path = "primary",
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a page that puts two runs side by side.

    Parameters
    ----------
    first, second : str or Path
        Run directories; or two results files, of which the estimates are put side by side.
    plan : Plan, str or Path
        A plan, its path, or the name of a built-in one, applied to both runs.
    out : Path, optional
        Where to write; default: ``report-against-SECOND`` in the first run's directory.
    progress : callable, optional
        As for `write_report`.

    Returns
    -------
    Path
        ``index.html``, with ``tables`` and ``figures`` beside it.

    Raises
    ------
    RequestError
        If the plan is wrong, both runs are one, one is a file and the other is not, or `out` is
        a file.
    RunError
        If one is not a run directory, is damaged, or has nothing complete yet; or if a results file
        is of another schema.
    """
    first, second = locate(first), locate(second)
    if first.resolve() == second.resolve():
        raise RequestError("OTHER", str(second), "another run than the first")
    if out:
        check_folder(out)
    if first.is_file() or second.is_file():
        return _compare_results(first, second, out)
    for run in (first, second):
        if is_own(read_manifest(run)):
            raise RunError(
                f"{run}: a run of your own, and two runs are compared by their studies\n"
                "remedy: report each, or write both into one run, in arms of their own"
            )
    plan = plan if isinstance(plan, Plan) else load_plan(plan)
    out = out or first / f"report-against-{second.resolve().name}"
    report_progress = progress or (lambda done, total, name: None)
    read: list[Material] = []
    for done, run in enumerate((first, second)):
        report_progress(done, 4, run.name)
        read.append(read_material(run, plan, in_full=False))
    report_progress(2, 4, "comparison")
    sides = Sides(*read)
    with settings():
        sections = [
            Section("answer", "What differs", [*sentences(sides)]),
            studies(sides),
            *([agreement(sides)] if sides.agreements else []),
            arms(sides),
            curves(sides),
            estimates({n: side.results for n, side in zip(sides.names, sides.both, strict=True)}),
        ]
        report_progress(3, 4, "files")
        page = write_files(
            out,
            sections,
            title=" against ".join(sides.names),
            subtitle=(
                f"Plan {plan.name} ({plan.digest}), applied to both runs, and compared by the plan "
                f"{sides.plan.name} ({sides.plan.digest})."
            ),
            footer=f"Made by sublim-causal {sides.results.version}.",
        )
    report_progress(4, 4, "")
    return page


def _compare_results(first: Path, second: Path, out: Path | None) -> Path:
    """Write a page with the estimates of two results files side by side."""
    for name, path, beside in (("RUN", first, second), ("OTHER", second, first)):
        if not path.is_file():
            raise RequestError(name, str(path), f"a results file, as {beside} is one")
    found = [read_results(path) for path in (first, second)]
    one, other = found
    names = apart(one.run, other.run)
    text = Paragraph(
        f"{names[0]}: plan {one.plan} ({one.plan_digest}), {one.n_seeds} seeds. "
        f"{names[1]}: plan {other.plan} ({other.plan_digest}), {other.n_seeds} seeds. These are "
        "results files, which hold no single seeds: differences between the runs and their curves "
        "need the run directories."
    )
    with settings():
        return write_files(
            out or first.parent / f"report-against-{other.run}",
            [
                Section("study", "The two results", [text]),
                estimates(dict(zip(names, found, strict=True))),
            ],
            title=" against ".join(names),
            subtitle="Estimates of two results files.",
            footer=f"Made by sublim-causal {one.version} and {other.version}.",
        )
