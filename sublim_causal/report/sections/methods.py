"""Methods and provenance: the plan, the formulas, and how to get the same numbers again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pandas as pd

from sublim_causal.analysis.plan.declaration import column_unit
from sublim_causal.analysis.plan.file import Plan
from sublim_causal.report.answer.rules import DEFAULT_MARGIN, RULES
from sublim_causal.report.commands import report_command, run_command
from sublim_causal.report.elements import Code, Element, Paragraph, Section, Table
from sublim_causal.report.formulas import FORMULAS, SHARED, SYMBOLS
from sublim_causal.report.material import Material
from sublim_causal.report.sections.stability import stability
from sublim_causal.report.tables import estimates_table
from sublim_causal.report.wording import named
from sublim_causal.store.outcome import ACCURACY

TITLE = "Methods and provenance"


def methods(material: Material) -> Section:
    """Return the section ``methods``."""
    return Section("methods", TITLE, [*_blocks(material)])


def _blocks(material: Material) -> Iterator[Element]:
    plan, added = material.plan, material.analysis.added_plan
    yield Paragraph(
        f"Plan {plan.name} (digest {plan.digest}): {plan.sentence} Level {100 * plan.level:g} %; "
        f"{plan.n_boot:,} bootstrap replicates, with the same draws for all estimates over equally "
        "many seeds. What this report shows in addition is declared by a plan that it generated "
        f"(digest {added.digest}) and ran on the same record; the results of that plan are in "
        "supplement.json."
    )
    yield _plan_table(plan, "plan", "The declared estimands.")
    yield _plan_table(added, "plan_added", "The estimands that the report adds.")
    yield estimates_table(
        "results",
        "Every declared estimate (also in results.json)",
        material.results.results,
        folded=True,
    )
    yield estimates_table(
        "results_added",
        "Every estimate that the report adds (also in supplement.json)",
        material.analysis.added.results,
        folded=True,
    )
    if material.results.verdicts:
        yield _rules(material)
        yield from stability(material)
    used = {SHARED.get(one.method, one.method) for one in (*plan.estimands, *added.estimands)}
    text = "\n\n".join(f"{name}\n{formula}" for name, formula in FORMULAS.items() if name in used)
    yield Code(f"{SYMBOLS}\n\n{text}", "Formulas.")
    yield Paragraph(f"How the answer is worded: {_rules_of(material)}")
    yield _provenance(material)
    yield Code("\n".join(_commands(material)), "How to reproduce this report.")


_ARMS = ("arm", "contrast", "reference", "target", "undosed", "yoked", "reverse")
"""Fields of declarations whose values name arms."""


def _plan_table(plan: Plan, name: str, caption: str) -> Table:
    rows = []
    for one in plan.estimands:
        fields = one.model_dump(mode="json")
        common = ("name", "sentence", "method", "assumptions", "family")
        rest = {
            field: value
            for field, value in fields.items()
            if field not in common and value is not None
        }
        rows.append(
            {
                "name": one.name,
                "sentence": one.sentence,
                "method": one.method,
                "declared": ", ".join(
                    f"{field} {named(str(value)) if field in _ARMS else value}"
                    for field, value in rest.items()
                ),
                "assumes": "; ".join(one.assumptions),
                "family": one.family,
            }
        )
    frame = pd.DataFrame(rows)
    shown = frame.assign(name=frame["name"].map(named))
    families = "; ".join(f"{family}: {how}" for family, how in plan.families.items())
    note = f" Families: {families}." if families else ""
    return Table(name, f"{caption}{note}", shown, frame, folded=True)


def _rules(material: Material) -> Table:
    rows = [
        {
            "claim": named(claim.name),
            "verdict": claim.verdict,
            "estimate": named(one.condition.estimand),
            "holds if": one.condition.holds,
            "fails if": one.condition.fails,
            "essential": "yes" if one.condition.essential else "",
            "outcome": one.outcome,
            "why open": one.reason,
        }
        for claim in material.results.verdicts
        for one in claim.findings
    ]
    return Table(
        "claims",
        "The declared claims: their conditions and verdicts.",
        pd.DataFrame(rows),
        material.results.tidy_verdicts(),
    )


def _rules_of(material: Material) -> str:
    """Return the rules by which the answer is worded, with the outcome of the run."""
    if material.outcome == ACCURACY:
        return RULES
    outcome = material.outcome
    unit = column_unit("replicates", outcome.name)
    size = "" if outcome.margin is None else f" ({outcome.margin:g} {unit} where it declares none)"
    rules = RULES.replace(DEFAULT_MARGIN, size)
    return rules.replace("final accuracy", outcome.label).replace("accuracy", outcome.label)


def _provenance(material: Material) -> Table:
    manifest = material.manifest
    packages = manifest.get("packages", {})
    facts: dict[str, Any] = {
        "run": manifest["run_id"],
        f"digest of the {'declarations' if material.is_own else 'study'}": manifest.get("digest"),
        "schema version of the tables": manifest["schema_version"],
        "device": manifest.get("device"),
        "precision": manifest.get("precision"),
        "matrix products by": manifest.get("product_engine"),
        "code revision": manifest.get("git_revision"),
        "python": manifest.get("python"),
        "platform": manifest.get("platform"),
        "packages": ", ".join(f"{name} {number}" for name, number in packages.items()),
        "code of its own": ", ".join(f"{k} {v}" for k, v in manifest.get("code", {}).items()),
        "analysed with": f"sublim-causal {material.results.version}",
        "started": manifest["created"],
        "finished": manifest.get("finished"),
        "training time of all students": _hours(material),
    }
    rows = [(label, str(value)) for label, value in facts.items() if value]
    frame = pd.DataFrame(rows, columns=["", "value"])
    return Table("provenance", "Where the numbers come from.", frame, frame)


def _hours(material: Material) -> str:
    seconds, each = material.total("training"), material.total("median_training")
    return f"{seconds / 3600:.2f} h in total, median {each:.1f} s per student" if seconds else ""


def _commands(material: Material) -> Iterator[str]:
    made = material.manifest.get("command")
    if made:
        yield f"{shlex.join(map(str, made))}    # as it was run"
    if not material.is_own:
        yield run_command(material.run)
    if material.asked:
        yield report_command(material.run, material.asked)
    else:
        yield "# the report: write_report in Python, with the same plan"
