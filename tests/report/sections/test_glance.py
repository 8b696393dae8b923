"""The study at a glance."""

from __future__ import annotations

from pathlib import Path

from tests.report.conftest import answer_of, change_manifest, make_run, material_of, section_of


def test_lost_runs_and_steps_are_counted(tmp_path: Path) -> None:
    material = material_of(
        make_run(tmp_path / "run", n_seeds=12, diverged_runs=0.2, missing_steps=0.1)
    )
    assert "the loss became infinite" in section_of(material, "study")
    assert "replicates are not complete and are left out" in answer_of(material)


def test_the_paper_stands_beside_its_replication(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert "55.28" not in section_of(material_of(run), "study")
    change_manifest(run, name="paper")
    text = section_of(material_of(run), "study")
    assert all(figure in text for figure in ("55.28", "10.14", "0.0075", "78.10"))
