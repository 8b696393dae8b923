"""``claims``: one picture of the claims of several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sublim_causal.errors import RequestError
from sublim_causal.location import locate
from sublim_causal.study.console.output import out


def claims(
    results: Annotated[
        list[Path],
        typer.Argument(
            parser=locate, metavar="RUN...", help="Runs that were analysed, or results files."
        ),
    ],
    out_file: Annotated[
        Path, typer.Option("--out", parser=locate, metavar="FILE", help="An .svg or .pdf file.")
    ] = Path("claims.svg"),
) -> None:
    """Draw the claims of RUN...: one row each, with estimate and interval, coloured by verdict."""
    from sublim_causal.analysis.plan.results.stored import read_results
    from sublim_causal.report.figures.claims import claims_figure, claims_text
    from sublim_causal.report.figures.drawing import pdf, svg
    from sublim_causal.report.figures.style import settings

    if out_file.suffix not in (".svg", ".pdf"):
        raise RequestError(
            "--out", str(out_file), "a file that ends in .svg or .pdf", "--out claims.svg"
        )
    found = [read_results(file) for place in results for file in results_files(place)]
    text = claims_text(found)
    with settings():
        figure = claims_figure(found)
        if out_file.suffix == ".pdf":
            out_file.write_bytes(pdf(figure))
        else:
            out_file.write_text(described(svg(figure, "claims"), text), encoding="utf-8")
    out.print(text, soft_wrap=True)
    out.print(f"Figure: {out_file}", soft_wrap=True)


def results_files(place: Path) -> list[Path]:
    """Return the results files of a run that `analyse` wrote, or `place` if it is a file.

    Raises
    ------
    RequestError
        If there are none.
    """
    if place.is_file():
        return [place]
    found = sorted((place / "report").glob("results-*.json"))
    if not found:
        allowed = "a results file, or a run directory with report/results-PLAN.json"
        remedy = f"sublim-causal analyse {place} --plan PLAN"
        raise RequestError("RUN", str(place), allowed, remedy)
    return found


def described(picture: str, text: str) -> str:
    """Return the SVG element `picture` with the alternative `text` for those who do not see it."""
    from xml.sax.saxutils import escape

    head, tail = picture.split(">", 1)
    return f'{head} role="img"><desc>{escape(text)}</desc>{tail}'
