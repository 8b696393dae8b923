"""Read back what `Results.write` wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sublim_causal.analysis.estimates.types import Estimand, Estimate, NotEstimable, Result
from sublim_causal.analysis.plan.claims.rules import Condition
from sublim_causal.analysis.plan.claims.verdicts import Alternative, ClaimVerdict, Finding
from sublim_causal.analysis.plan.results.results import SCHEMA, Results
from sublim_causal.errors import RunError

_AGAIN = "make it again with `sublim-causal report RUN`, or compare the run directories"


def read_results(path: Path) -> Results:
    """Read the results file `path`.

    Returns
    -------
    Results
        With the verdicts on claims; diagnostics are as JSON holds them.

    Raises
    ------
    RunError
        If the file holds no results, or those of another schema.
    """
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not a results file ({error})\nremedy: {_AGAIN}") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        found = f"results of schema {schema!r}" if schema else "no results"
        raise RunError(f"{path}: holds {found}; this version reads {SCHEMA!r}\nremedy: {_AGAIN}")
    try:
        return _results(document)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: damaged, {error!r}\nremedy: {_AGAIN}") from None


def _results(document: Mapping[str, Any]) -> Results:
    names = ("plan", "plan_digest", "level", "run", "run_id", "n_seeds", "statuses", "version")
    results = tuple(_result(row) for row in document["results"])
    by_name = {one.estimand.name: one for one in results}
    return Results(
        **{name: document[name] for name in names},
        arms=tuple(document["arms"]),
        results=results,
        verdicts=tuple(_verdict(row, by_name) for row in document["verdicts"]),
    )


def _verdict(row: Mapping[str, Any], by_name: Mapping[str, Result]) -> ClaimVerdict:
    findings = tuple(_finding(one, by_name) for one in row["conditions"])
    alternatives = tuple(_alternative(one) for one in row["alternatives"])
    return ClaimVerdict(row["name"], row["sentence"], row["verdict"], findings, alternatives)


def _alternative(row: Mapping[str, Any]) -> Alternative:
    numbers = (_number(row[name]) for name in ("estimate", "conf_low", "conf_high"))
    return Alternative(row["choice"], row["label"], row["verdict"], *numbers)


def _finding(row: Mapping[str, Any], by_name: Mapping[str, Result]) -> Finding:
    condition = Condition(**{name: row[name] for name in Condition.model_fields})
    found = by_name.get(condition.estimand)
    estimate = found if isinstance(found, Estimate) else None
    return Finding(condition, row["outcome"], estimate, row["reason"])


def _result(row: Mapping[str, Any]) -> Result:
    words = ("name", "sentence", "outcome", "contrast", "family", "role", "declared")
    about = ("arm", "reference", "part", "column", "unit")
    estimand = Estimand(
        **{name: row[name] for name in (*words, *about)}, assumptions=tuple(row["assumptions"])
    )
    if row["status"] != "estimated":
        return NotEstimable(estimand, row["note"])
    return Estimate(
        estimand=estimand,
        value=_number(row["estimate"]),
        se=_number(row["std_error"]),
        low=_number(row["conf_low"]),
        high=_number(row["conf_high"]),
        level=row["level"],
        df=row["df"],
        p_value=row["p_value"],
        method=row["method"],
        n_seeds=row["n_seeds"],
        n_dropped=row["n_dropped"],
        warnings=tuple(row["warnings"]),
        diagnostics=row["diagnostics"],
    )


def _number(value: float | str | None) -> float:
    """Return a number that JSON cannot hold: ``"inf"``, or null for NaN."""
    return math.nan if value is None else float(value)
