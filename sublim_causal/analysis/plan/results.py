"""What an analysis found, as a frame, as JSON, and as a plain text table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import Estimate, Result, limits
from sublim_causal.analysis.plan.verdicts import ClaimVerdict
from sublim_causal.location import write_atomically

SCHEMA = "sublim_causal.results/2"
_SMALLEST_P = 1e-16


@dataclass(frozen=True, repr=False)
class Results:
    """Results of a plan on a run.

    Attributes
    ----------
    plan, plan_digest : str
        Name of the plan, and hash of everything it declares.
    level : float
        Confidence level.
    run, run_id : str
        Name and identity of the run.
    arms : tuple of str
        Arms of the run.
    n_seeds : int
        Seeds with at least one replicate.
    statuses : mapping of str to int
        Replicates by status and reason.
    version : str
        Version of this package.
    results : tuple of Estimate or NotEstimable
        In the plan's order.
    verdicts : tuple of ClaimVerdict
        On the plan's claims, in its order.
    """

    plan: str
    plan_digest: str
    level: float
    run: str
    run_id: str
    arms: tuple[str, ...]
    n_seeds: int
    statuses: Mapping[str, int]
    version: str
    results: tuple[Result, ...]
    verdicts: tuple[ClaimVerdict, ...] = ()

    def __getitem__(self, name: str) -> Result:
        """Return the result called `name`.

        Raises
        ------
        KeyError
            If there is none.
        """
        for one in self.results:
            if one.estimand.name == name:
                return one
        raise KeyError(f"{name}; results: {', '.join(r.estimand.name for r in self.results)}")

    @property
    def frame(self) -> pd.DataFrame:
        """One row a result: the columns of `Estimate.tidy`, and ``plan_digest``."""
        rows = [{**one.tidy(), "plan_digest": self.plan_digest} for one in self.results]
        return pd.DataFrame(rows)

    def tidy_verdicts(self) -> pd.DataFrame:
        """Return one row a claim and condition, with the verdict and the numbers behind it."""
        return pd.DataFrame([row for one in self.verdicts for row in one.tidy()])

    def to_json(self) -> str:
        """Return deterministic JSON; infinite limits are ``"inf"`` and ``"-inf"``, NaN is null."""
        rows = ("results", "verdicts")
        head = {key: value for key, value in vars(self).items() if key not in rows}
        body = [
            {
                **one.tidy(),
                "declared": one.estimand.declared,
                "sentence": one.estimand.sentence,
                "assumptions": one.estimand.assumptions,
                "family": one.estimand.family,
                "plan_digest": self.plan_digest,
                "warnings": one.warnings if isinstance(one, Estimate) else (),
                "diagnostics": one.diagnostics if isinstance(one, Estimate) else {},
            }
            for one in self.results
        ]
        claims = [
            {
                "name": one.name,
                "sentence": one.sentence,
                "verdict": one.verdict,
                "conditions": [finding.tidy() for finding in one.findings],
            }
            for one in self.verdicts
        ]
        document = {"schema": SCHEMA, **head, "results": body, "verdicts": claims}
        return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, path: Path) -> Path:
        """Write `to_json` to `path`, the old file or the new one, and return it."""
        write_atomically(path, self.to_json().encode())
        return path

    def __repr__(self) -> str:
        estimated = sum(isinstance(one, Estimate) for one in self.results)
        claims = f", {len(self.verdicts)} claims judged" if self.verdicts else ""
        return (
            f"<Results of plan {self.plan} on run {self.run}: {self.n_seeds} seeds, "
            f"{estimated} of {len(self.results)} results estimated{claims}>"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a line, a row for each result, and the verdicts."""
        rows = [_row(one, self.level) for one in self.results]
        shown = pd.DataFrame(rows, columns=list(self._header())).to_html(index=False, border=0)
        claims = [escape(one.summary()) for one in self.verdicts]
        return "".join(
            (f"<p>{escape(repr(self)[1:-1])}</p>", shown, *(f"<p>{c}</p>" for c in claims))
        )

    def _header(self) -> tuple[str, ...]:
        level = f"{100 * self.level:g} % interval"
        return ("estimand", "estimate", level, "p", "p adj.", "method", "seeds")

    def table(self) -> str:
        """Return the results as plain text: a row each, then the verdicts, then the notes."""
        header = self._header()
        rows = [_row(one, self.level) for one in self.results]
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (header, tuple("-" * width for width in widths), *rows)
        ]
        state = ", ".join(f"{n} {status}" for status, n in self.statuses.items())
        title = f"run {self.run}: {self.n_seeds} seeds, replicates: {state}"
        return "\n".join(
            [
                title,
                f"plan {self.plan} ({self.plan_digest})",
                "",
                *lines,
                *self._claims(),
                *self._notes(),
            ]
        )

    def _claims(self) -> Iterator[str]:
        """The verdicts, each with what it rests on."""
        for one in self.verdicts:
            yield from ("", one.summary(), f"  {one.sentence}")
            yield from (f"  - {finding.summary()}" for finding in one.findings)

    def _notes(self) -> Iterator[str]:
        """Each distinct note once, with the results that carry it."""
        carriers: dict[str, list[str]] = {}
        for one in self.results:
            for note in one.warnings if isinstance(one, Estimate) else (one.reason,):
                carriers.setdefault(note, []).append(one.estimand.name)
        if carriers:
            yield ""
            yield "notes"
        for note, names in carriers.items():
            yield f"- {note}: {', '.join(names)}"


def _row(one: Result, level: float) -> tuple[str, ...]:
    if not isinstance(one, Estimate):
        return (one.estimand.name, "not estimable", "", "", "", "", "")
    bounds = limits(one.low, one.high)
    if not math.isclose(one.level, level):
        bounds += f" ({100 * one.level:g} %)"
    return (
        one.estimand.name,
        f"{one.value:.4g}",
        bounds,
        _p(one.p_value),
        _p(one.diagnostics.get("p_adjusted")),
        one.method,
        f"{one.n_seeds}" + (f" (-{one.n_dropped})" if one.n_dropped else ""),
    )


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2g}" if value >= _SMALLEST_P else f"<{_SMALLEST_P:g}"


def _plain(value: Any) -> Any:
    """Return `value` as what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
