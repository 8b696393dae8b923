"""Names of arms and estimands are set apart in pages, LaTeX tables and figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from sublim_causal.analysis.plan.file import Plan, load_plan
from sublim_causal.analysis.simulation.tables import ArmTruth, Truth, simulate, write_run
from sublim_causal.declared import list_declared, read_toml
from sublim_causal.report.answer.sentences import answer
from sublim_causal.report.elements import Picture, Section, Table
from sublim_causal.report.figures.style import MONOSPACE, settings
from sublim_causal.report.html import render
from sublim_causal.report.material import Material, read_material
from sublim_causal.report.sections import BODY
from sublim_causal.report.tables import latex
from sublim_causal.report.wording import names_apart
from tests.report.conftest import change_manifest

FIELDS = ("arm", "reference", "yoked", "reverse", "undosed", "target")
KEPT = ("each", "reference", "")
"""Values of `FIELDS` that are no names of arms."""


def marked(arm: str) -> str:
    """Return the name of an arm that no other word of a report begins with."""
    return f"Qq{arm}"


def renamed_study() -> dict[str, Any]:
    """Return the arms of the study ``causal`` under names that occur in no sentence."""
    arms = read_toml(list_declared("studies")["causal"], "studies")["arms"]
    for options in arms.values():
        if "target" in options:
            options["target"] = marked(options["target"])
    return {marked(arm): options for arm, options in arms.items()}


def renamed_plan(name: str) -> Plan:
    """Return a built-in plan of the renamed arms."""
    plan = load_plan(name)
    estimands = []
    for one in plan.estimands:
        table = one.model_dump(mode="json")
        for field in FIELDS:
            if table.get(field, "") not in KEPT:
                table[field] = marked(table[field])
        if contrast := table.get("contrast", "") if one.method != "mixed_model" else "":
            sides = [side if side in KEPT else marked(side) for side in contrast.split(" - ")]
            table["contrast"] = " - ".join(sides)
        estimands.append(type(one).model_validate(table))
    return plan.model_copy(update={"estimands": tuple(estimands), "n_boot": 99})


CHAIN, YOKED = "projection null", "yoked drive"


@pytest.fixture(scope="module")
def material_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Material]:
    """Return what a report reads of a run with the arms that a built-in plan names."""

    @cache
    def read(name: str) -> Material:
        plan, study = renamed_plan(name), renamed_study()
        words = str([one.model_dump(mode="json") for one in plan.estimands])
        always = [marked(arm) for arm in ("baseline", "projection", CHAIN, YOKED)]
        arms = {arm: how for arm, how in study.items() if arm in words or arm in always}
        truth = Truth(n_seeds=3, n_steps=8, steps_per_epoch=4, arms=dict.fromkeys(arms, ArmTruth()))
        run = write_run(tmp_path_factory.mktemp(name) / "run", simulate(truth, rng=1))
        change_manifest(run, study={"arms": arms, "reference": marked("baseline")})
        return read_material(run, plan)

    return read


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name != "primary" else [])
        for name in sorted(list_declared("analysis"))
    ],
)
def test_no_name_stands_in_a_sentence_as_if_it_were_a_word(
    name: str, material_by: Callable[[str], Material]
) -> None:
    material = material_by(name)
    with settings():
        sections = [Section("answer", "The answer", [*answer(material)])]
        sections += [make(material) for make in BODY.values()]
    blocks = [block for section in sections for block in section.blocks]
    drawings = {block.name: "" for block in blocks if isinstance(block, Picture)}
    page = render(sections, drawings, title="names")
    shown = re.sub(r"(?s)<(style|code|pre)\b.*?</\1>|<[^>]*>", "", page)
    assert '<code class="name">Qq' in page
    assert re.findall(r".{30}(?:Qq|[A-Za-z0-9]_[A-Za-z0-9]).{30}", shown) == []
    for block in blocks:
        if isinstance(block, Table):
            text = re.sub(r"\\texttt\{(?:[^{}]|\{[^{}]*\})*\}|\\label\{.*?\}", "", latex(block))
            assert "Qq" not in text
            assert r"\_" not in text
        elif isinstance(block, Picture):
            texts = block.figure.findobj(match=lambda one: hasattr(one, "get_fontfamily"))
            named = [one for one in texts if one.get_visible() and "Qq" in one.get_text()]
            assert all(one.get_fontfamily() == [MONOSPACE] for one in named), block.name


def test_a_chain_is_written_member_by_member(material_by: Callable[[str], Material]) -> None:
    page = render([BODY["study"](material_by("primary"))], {}, title="study")
    text = re.sub("<[^>]*>", "", page)
    assert "chain: projection; then set_cosine, cosine 0.0" in text
    assert "yoked, target Qqbaseline, match drive, procedure.intervention projection" in text
    assert "{'" not in text


def test_only_names_are_set_apart() -> None:
    text = "the seeds' values under 'a b' move cos_update; x86 linux-x86_64 and a.b_c stay"
    names = [piece for piece, is_name in names_apart(text) if is_name]
    assert names == ["a b", "cos_update"]
    assert "".join(piece for piece, _ in names_apart(text)) == text.replace("'a b'", "a b")
