"""Known-truth simulations of estimators, claims and slopes, written to ``docs/validity.md``.

``python -m sublim_causal.analysis.simulation.validity`` makes the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sublim_causal.analysis.simulation import claims, slopes
from sublim_causal.analysis.simulation.claims import Rates, claims_section
from sublim_causal.analysis.simulation.doses import (
    DOSES,
    EFFECT,
    N_SEEDS,
    WORLDS,
    EstimatorRow,
    bias_matrix,
    caveats_section,
    study_world,
    worlds_section,
)


def page(
    rows: Sequence[EstimatorRow], rates: Sequence[Rates], per_step: Sequence[slopes.SlopeRow]
) -> str:
    """Return the Markdown page of the simulations of estimators, claims and per-step slopes."""
    head = [*_head(rows[0].n_sim), *bias_matrix(rows), "", *caveats_section(rows), ""]
    steps = [*slopes.slopes_section(per_step), ""]
    parts = [*head, *steps, *claims_section(rates), *worlds_section(rows)]
    return "\n".join(parts).rstrip() + "\n"


def _head(n_sim: int) -> Iterator[str]:
    error = 100 * np.sqrt(0.95 * 0.05 / n_sim)
    yield "# Which estimator is biased where"
    yield ""
    yield "Made by `python -m sublim_causal.analysis.simulation.validity`; do not edit."
    yield ""
    yield (
        f"{n_sim} simulated studies a scenario, {N_SEEDS} seeds each under "
        f"{len(DOSES)} doses ({', '.join(f'{dose:g}' for dose in DOSES.values())}) and one yoked "
        f"arm; one unit of mean alignment truly moves the outcome by {EFFECT:g}. Nominal level "
        f"95 %; Monte Carlo error of a coverage near 95 %: {error:.1f} points. Bias is that of "
        "the median estimate, because ratios with a weak dose have no mean."
    )
    yield ""


def with_claims(text: str, rates: Sequence[Rates]) -> str:
    """Return the page `text` with its section on claims made anew."""
    new = "\n".join(claims_section(rates))
    start = text.index(f"{new.splitlines()[0]}\n")
    end = text.index("\n## ", start) + 1
    return f"{text[:start]}{new}\n{text[end:]}"


def main(arguments: Sequence[str] | None = None, *, say: Callable[[str], object] = print) -> None:
    """Run the simulations and write the page; about 40 minutes of a processor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("docs/validity.md"))
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--claim-simulations", type=int, default=100)
    parser.add_argument(
        "--claims", action="store_true", help="keep the other sections of the page as they are"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rates = [
        one
        for world in claims.WORLDS
        for n_seeds in claims.SIZES
        for one in claims.study_world(world, n_seeds, options.claim_simulations, options.seed)
    ]
    if options.claims:
        options.out.write_text(
            with_claims(options.out.read_text(encoding="utf-8"), rates), encoding="utf-8"
        )
        say(str(options.out))
        return
    rows = [
        row for world in WORLDS for row in study_world(world, options.simulations, options.seed)
    ]
    per_step = [
        row
        for world in slopes.SLOPE_WORLDS
        for row in slopes.study_slopes(world, options.simulations, options.seed)
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(rows, rates, per_step), encoding="utf-8")
    say(str(options.out))


if __name__ == "__main__":
    main()
