"""The README's tables of the study `paper`, as Markdown: ``python docs/data/tables.py RUN``.

RUN is a run of that study, or its summary, as ``sublim-causal compact RUN --summary PLACE`` writes
it. The README shows those of ``docs/data/paper``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sublim_causal import analyse
from sublim_causal.analysis.estimates.types import Estimate
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.errors import SublimError

ARMS = {
    "baseline": ("baseline", "55.28 %"),
    "projection": ("projection: the aligned component removed", "10.14 %"),
    "liminal": ("liminal: held near the initialisation for one epoch", "48.97 %"),
    "shuffled": ("shuffled: a meaningless direction removed instead", "not run"),
}
"""What an arm does, and the paper's accuracy."""


def main(run: Path) -> str:
    """Return both tables."""
    results = analyse(run, "paper")
    return "\n".join([*accuracies(results), "", *alignment(results)])


def accuracies(results: Results) -> Iterator[str]:
    """Yield the rows of the table of arms."""
    seeds = estimate(results, "accuracy_baseline").n_seeds
    here = f"here, {seeds} seeds: final test accuracy"
    yield f"| arm | paper (one run) | {here} | minus baseline, paired |"
    yield "|---|---|---|---|"
    for arm, (what, published) in ARMS.items():
        difference = ""
        if arm != "baseline":
            difference = interval(estimate(results, f"final_accuracy_{arm}"), "", "+") + " points"
        accuracy = interval(estimate(results, f"accuracy_{arm}"), " %")
        yield f"| {what} | {published} | {accuracy} | {difference} |"


def alignment(results: Results) -> Iterator[str]:
    """Yield the rows of the table of the baseline's alignment."""
    cosine, update = (
        f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"
        for one in (
            estimate(results, "mean_cosine_mean"),
            estimate(results, "update_cosine_baseline"),
        )
    )
    share = interval(estimate(results, "share_positive_mean"), " %")
    yield "| alignment under baseline | paper | here |"
    yield "|---|---|---|"
    yield f"| mean cosine of distillation and trait gradient | 0.0075 | {cosine} |"
    yield f"| steps in which it is positive | 78.1 % | {share} |"
    yield f"| mean cosine of Adam's update with the trait gradient | not measured | {update} |"


def estimate(results: Results, name: str) -> Estimate:
    """Return a result that could be estimated."""
    if name not in {one.estimand.name for one in results.results}:
        raise SystemExit(f"error: run {results.run} has no {name}: not a run of the study `paper`")
    found = results[name]
    if not isinstance(found, Estimate):
        raise SystemExit(f"error: {name}: {found.reason}")
    return found


def interval(one: Estimate, unit: str, sign: str = "") -> str:
    r"""Return value and interval in per cent; ``\*`` marks the hull of t and bootstrap-t."""
    mark = r"\*" if one.method.startswith("hull") else ""
    value = f"{100 * one.value:{sign}.1f}"
    return f"{value}{unit} [{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]{mark}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python docs/data/tables.py RUN")
    try:
        print(main(Path(sys.argv[1])))
    except SublimError as error:
        raise SystemExit(f"error: {error}") from None
