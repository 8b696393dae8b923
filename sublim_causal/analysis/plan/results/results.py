"""What an analysis found, as a frame, as JSON, and as a plain text table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import Estimate, Result, limits
from sublim_causal.analysis.plan.claims.verdicts import ClaimVerdict
from sublim_causal.analysis.plan.declaration import ROLES
from sublim_causal.location import write_atomically

SCHEMA = "sublim_causal.results/3"
_SMALLEST_P = 1e-16
_SIMULTANEOUS = "sim."
_NAMED = 6
"""Results that are named beside a note; the others are counted."""


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
                "role": one.estimand.role,
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
                "settled_by": one.settled_by,
                "conditions": [finding.tidy() for finding in one.findings],
                "alternatives": [other.tidy() for other in one.alternatives],
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
        rows = [_row(one, self.level) for one in self._shown()]
        shown = pd.DataFrame(rows, columns=list(self._header())).to_html(index=False, border=0)
        claims = [escape(one.summary()) for one in self.verdicts]
        return "".join(
            (f"<p>{escape(repr(self)[1:-1])}</p>", shown, *(f"<p>{c}</p>" for c in claims))
        )

    def _header(self) -> tuple[str, ...]:
        level = f"{100 * self.level:g} % interval"
        return ("estimand", "estimate", level, "p", "p adj.", "method", "seeds")

    def table(self, *, everything: bool = False, width: int | None = None) -> str:
        """Return the results as plain text: a row each, then the verdicts, then the notes.

        Parameters
        ----------
        everything : bool
            Whether exploratory results are shown too.
        width : int, optional
            Characters of a line of the table, above 0; methods and seeds follow in a second table
            where it is narrow. By default as many as it needs.
        """
        shown = self.results if everything else self._shown()
        state = ", ".join(f"{n} {status}" for status, n in self.statuses.items())
        return "\n".join(
            [
                f"run {self.run}: {self.n_seeds} seeds, replicates: {state}",
                f"plan {self.plan} ({self.plan_digest})",
                "",
                *self._rows(shown, width),
                *_legend(shown),
                *self._left_out(len(shown)),
                *self._claims(),
                *_notes(shown),
            ]
        )

    def _rows(self, shown: Sequence[Result], width: int | None) -> list[str]:
        """Return the lines of the table, by role where there are several."""
        from sublim_causal.analysis.plan.results.text_tables import TableColumns, plain_text

        header = self._header()
        parts = [(role, [one for one in shown if one.estimand.role == role]) for role in ROLES]
        titled = any(found and role != "secondary" for role, found in parts)
        rows: list[tuple[str, ...]] = []
        for role, found in parts:
            rows += [(role, *[""] * (len(header) - 1))] * bool(found and titled)
            rows += [_row(one, self.level) for one in found]
        columns = [
            TableColumns("", header[1:-2], "left", [row[1:-2] for row in rows]),
            TableColumns("", header[-2:], "left", [row[-2:] for row in rows]),
        ]
        return plain_text(header[0], [row[0] for row in rows], columns, width)

    def _shown(self) -> tuple[Result, ...]:
        """Return what is not exploratory; all where nothing else is."""
        chosen = tuple(one for one in self.results if one.estimand.role != "exploratory")
        return chosen or self.results

    def _left_out(self, n_shown: int) -> Iterator[str]:
        if n_shown < len(self.results):
            yield ""
            yield f"{len(self.results) - n_shown} exploratory results are not shown (--all)"

    def _claims(self) -> Iterator[str]:
        """The verdicts, each with what it rests on."""
        for one in self.verdicts:
            yield from ("", one.summary(), f"  {one.sentence}")
            yield from (f"  - {finding.summary()}" for finding in one.findings)
            yield from (f"  to settle it: {what}" for what in one.settled_by)
            if one.alternatives:
                yield f"  holds under {one.stability()}"
            for other in one.departures():
                yield f"  - {other.verdict} {other.label} ({other.choice})"


def _legend(shown: Sequence[Result]) -> Iterator[str]:
    """Explain the mark of simultaneous intervals, where there are any."""
    found = [one.simultaneous for one in shown if isinstance(one, Estimate)]
    methods = dict.fromkeys(one["method"] for one in found if one)
    if methods:
        yield ""
        yield f"{_SIMULTANEOUS}: simultaneous over its family ({', '.join(methods)})"


def _notes(shown: Sequence[Result]) -> Iterator[str]:
    """Each distinct note once, with the results that carry it."""
    carriers: dict[str, list[str]] = {}
    for one in shown:
        for note in one.warnings if isinstance(one, Estimate) else (one.reason,):
            carriers.setdefault(note, []).append(one.estimand.name)
    if carriers:
        yield ""
        yield "notes"
    for note, names in carriers.items():
        more = len(names) - _NAMED
        listed = ", ".join(names[:_NAMED]) + f" and {more} more" * (more > 0)
        where = "all" if len(names) == len(shown) > 1 else listed
        if "\n" not in note:
            yield f"- {note}: {where}"
        else:
            yield f"- {where}:"
            yield from (f"    {line}" for line in note.splitlines())


def _row(one: Result, level: float) -> tuple[str, ...]:
    if not isinstance(one, Estimate):
        return (one.estimand.name, "not estimable", "", "", "", "", "")
    marked = f" {_SIMULTANEOUS}" * (one.simultaneous is not None)
    one = one.beside_adjusted()
    bounds = f"{limits(one.low, one.high)}{marked}"
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
