"""Make a report: read, estimate, draw, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sublim_causal.analysis.plan.file import Plan
from sublim_causal.analysis.plan.record import columns_of_run
from sublim_causal.analysis.plan.run import Progress
from sublim_causal.location import locate, validate_files
from sublim_causal.report.elements import Paragraph, Picture, Section, Table
from sublim_causal.report.files import PAGE, check_folder, write
from sublim_causal.report.html import render
from sublim_causal.report.material import Material, read_material
from sublim_causal.report.tables import latex
from sublim_causal.report.wording import counted, plain

FOLDER = "report"
RESULTS = "results.json"
SUPPLEMENT = "supplement.json"


def write_report(
    run: str | Path,
    plan: Plan | str | Path = "primary",
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the report of the run directory `run` by `plan`.

    Parameters
    ----------
    run : str or Path
        Run directory.
    plan : Plan, str or Path
        A plan, its path, or the name of a built-in one.
    out : Path, optional
        Where to write; default: ``report`` in the run directory.
    progress : callable, optional
        Called before each part and once at the end.

    Returns
    -------
    Path
        ``index.html``. Beside it: ``results.json`` (what the plan declares),
        ``supplement.json`` (what the report's own plan adds), ``tables`` (CSV, LaTeX),
        ``figures`` (SVG, PDF), and ``files.txt``, by which the next report knows them. The same
        tables and plan give the same bytes.

    Raises
    ------
    RequestError
        If the plan is wrong, or `out` is a file.
    RunError
        If `run` is not a run directory, is damaged, holds symbolic links, or has nothing complete.
    """
    from sublim_causal.report.figures.style import settings
    from sublim_causal.report.sections import BODY

    run = locate(run)
    validate_files(run)
    out = out or run / FOLDER
    check_folder(out)
    report_progress, total = progress or (lambda done, total, name: None), len(BODY) + 3
    report_progress(0, total, "estimates")
    sections: dict[str, Section] = {}
    with columns_of_run(run), settings():
        material = read_material(run, plan)
        for anchor, make in BODY.items():
            report_progress(len(sections) + 1, total, anchor)
            sections[anchor] = make(material)
        report_progress(total - 2, total, "answer")
        ordered = [_answer(material), *sections.values()]
        report_progress(total - 1, total, "files")
        page = write_files(
            out,
            ordered,
            title=str(material.manifest.get("title") or material.manifest["name"]),
            subtitle=_subtitle(material),
            footer=_footer(material),
        )
    material.results.write(out / RESULTS)
    material.analysis.added.write(out / SUPPLEMENT)
    report_progress(total, total, "")
    return page


def _answer(material: Material) -> Section:
    from sublim_causal.report.answer.brief import brief
    from sublim_causal.report.answer.sentences import answer

    return Section(
        "answer", "The answer", [Paragraph(brief(material), lead=True), *answer(material)]
    )


def _subtitle(material: Material) -> str:
    manifest = material.manifest
    day = str(manifest.get("finished") or manifest["created"])[:10]
    seeds = counted(material.n_seeds, "seed", "seeds")
    arms = counted(len(material.shown_arms), "arm", "arms")
    steps = f", {material.n_steps:,} steps" if material.n_steps else ""
    return (
        f"{'Run' if material.is_own else 'Study'} {manifest['name']}: {seeds}, {arms}{steps}; plan "
        f"{material.plan.name} ({material.plan.digest}), beside it what the report adds "
        f"({material.analysis.added_plan.digest}); run of {day}."
    )


def _footer(material: Material) -> str:
    return (
        f"Made by sublim-causal {material.results.version} from the tables of run "
        f"{material.manifest['run_id']}. Results in results.json, tables as CSV and LaTeX in "
        "tables/, figures as SVG and PDF in figures/."
    )


def write_files(
    out: Path, sections: Sequence[Section], *, title: str, subtitle: str, footer: str
) -> Path:
    """Write page, tables and figures to the folder `out`; return the page's path."""
    from sublim_causal.report.figures.drawing import drawings

    blocks = [block for section in sections for block in section.blocks]
    drawn = drawings([block for block in blocks if isinstance(block, Picture)])
    files: dict[str, str | bytes] = {}
    for name, drawing in drawn.items():
        files[f"figures/{name}.svg"] = drawing.svg
        files[f"figures/{name}.pdf"] = drawing.pdf
    for block in blocks:
        if isinstance(block, Table):
            files[f"tables/{block.name}.csv"] = plain(block.frame.to_csv(index=False))
            files[f"tables/{block.name}.tex"] = latex(block)
    shown = {name: drawing.svg for name, drawing in drawn.items()}
    files[PAGE] = render(sections, shown, title=title, subtitle=subtitle, footer=footer)
    write(out, files)
    return out / PAGE
