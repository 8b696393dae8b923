from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest

from sublim_causal.analysis.plan.file import load_plan
from sublim_causal.analysis.simulation.tables import ArmTruth, Truth, simulate, write_run
from sublim_causal.report import write_report
from sublim_causal.report.answer.sentences import answer
from sublim_causal.report.elements import Picture
from sublim_causal.report.figures.style import settings
from sublim_causal.report.html import render
from sublim_causal.report.material import Material, read_material
from sublim_causal.report.sections import BODY
from sublim_causal.report.wording import unmarked
from sublim_causal.store.manifest import CHECKSUM, checksum, read_manifest
from sublim_causal.study.spec.identity import arm_definition
from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.spec.study import Study
from tests.conftest import MadeOnce

Tables = Mapping[str, pd.DataFrame]
EVIL = "<script>document.title = 'run'</script>"
HIDING = "wiped\u202egpj"
ARMS = {
    "baseline": ArmTruth(),
    "projection": ArmTruth(alignment=-0.12, gain=-0.01, accuracy=-0.35),
    "shuffled": ArmTruth(),
}


def make_run(
    folder: Path,
    *,
    n_seeds: int = 8,
    n_steps: int = 30,
    spoil: Callable[[Tables], None] = lambda tables: None,
    **truth: object,
) -> Path:
    """Write a simulated run whose projection arm truly stops the transfer.

    `spoil` changes the tables in place before they are written.
    """
    chosen = {"arms": ARMS, "accuracy_sd": 0.01, **truth}
    simulated = Truth(n_seeds=n_seeds, n_steps=n_steps, steps_per_epoch=10, **chosen)  # type: ignore[arg-type]
    drawn = simulate(simulated, rng=1)
    spoil(drawn.tables)
    return write_run(folder, drawn)


def change_manifest(
    run: Path, *, study: Mapping[str, object] | None = None, **fields: object
) -> None:
    """Overwrite fields of the manifest of `run`, and of the study in it."""
    path = run / "manifest.json"
    old = json.loads(path.read_text())
    new = {**old, **fields, "study": {**old["study"], **(study or {})}}
    path.write_text(json.dumps({**new, CHECKSUM: checksum(new)}))


def declare(run: Path, study: Study) -> None:
    """Make `study` the one that the manifest of `run` says was run, with the seeds of `run`."""
    arms = {arm: arm_definition(study, arm) for arm in study.arms}
    recorded = study.model_dump(mode="json", by_alias=True)
    recorded["seeds"] = read_manifest(run)["study"]["seeds"]
    change_manifest(run, study=recorded, arms=arms)


QUICK = load_plan("primary").model_copy(update={"n_boot": 199})
"""The default plan with few bootstrap replicates."""


def material_of(run: Path) -> Material:
    """Return what the sections of `run` read."""
    return read_material(run, QUICK)


def text_of(page: Path, anchor: str) -> str:
    """Return the text of a section, without pictures and tags."""
    found = re.search(rf'<section id="{anchor}".*?</section>', page.read_text(), re.DOTALL)
    assert found
    text = re.sub('<code class="name">(.*?)</code>', r"\1", found.group())
    return re.sub(r"<svg.*?</svg>|<[^>]*>", " ", text, flags=re.DOTALL)


def section_of(material: Material, anchor: str) -> str:
    """Return the page with one section, without files, drawings, and what sets arms apart."""
    with settings():
        section = BODY[anchor](material)
    drawings = {block.name: "" for block in section.blocks if isinstance(block, Picture)}
    return re.sub(
        '<code class="name">(.*?)</code>', r"\1", render([section], drawings, title="demo")
    )


def answer_of(material: Material) -> str:
    """Return the sentences of the answer, without what sets arms apart."""
    return unmarked(" ".join(one.text for one in answer(material)))


@pytest.fixture(scope="session")
def demo(made_once: MadeOnce) -> Path:
    """Return a run of eight seeds and three arms, at one place: a page tells its path."""
    return made_once("runs", lambda folder: make_run(folder / "demo")) / "demo"


@pytest.fixture(scope="session")
def demo_material(demo: Path) -> Material:
    """Return what the sections of `demo` read."""
    return material_of(demo)


@pytest.fixture(scope="session")
def causal_material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Return what the sections read of a run of the study ``causal`` and an arm ``slow``."""
    slow = "arms.slow={intervention='projection', student={learning_rate=1e-5}}"
    study = load_study("causal", settings=[slow])
    arms = {
        arm: ArmTruth(accuracy=-0.3 if arm in ("null", "projection", "reverse") else 0.0)
        for arm in study.arms
    }
    run = make_run(tmp_path_factory.mktemp("causal") / "run", n_seeds=6, arms=arms)
    declare(run, study)
    return material_of(run)


@pytest.fixture(scope="session")
def page(demo: Path, made_once: MadeOnce) -> Path:
    """Return the page of `demo`'s report."""
    return made_once("page", lambda folder: write_report(demo, QUICK, out=folder)) / "index.html"


@pytest.fixture(scope="session")
def evil_page(made_once: MadeOnce) -> Path:
    """Return the page of a study whose names are markup and hide characters."""
    odd = (f"../a & {EVIL} $x^2$", HIDING)
    arms = {"baseline": ArmTruth(), "projection": ArmTruth()} | dict.fromkeys(odd, ArmTruth())

    def write(folder: Path) -> None:
        run = make_run(folder / "run", n_seeds=3, arms=arms)
        change_manifest(run, name=EVIL, title=f"{EVIL} & more")
        write_report(run, QUICK)

    return made_once("evil", write) / "run" / "report" / "index.html"


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    """Return a run of one seed and two arms, of which a report is soon written."""
    arms = {"baseline": ArmTruth(), "projection": ArmTruth()}
    return make_run(tmp_path / "runs" / "small", n_seeds=1, n_steps=10, arms=arms)
