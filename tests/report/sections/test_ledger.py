"""The ledger and its layers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sublim_causal.report.figures.style import settings
from sublim_causal.report.material import Material
from sublim_causal.report.sections import BODY
from sublim_causal.store.tables import read_table
from tests.report.conftest import ARMS, make_run, material_of, section_of


def test_layers_say_how_to_get_them(demo_material: Material) -> None:
    assert "measure.layers=true" in section_of(demo_material, "ledger")


def test_shares_of_layers_are_among_what_the_report_adds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", n_seeds=3)
    for arm in ARMS:
        steps = read_table(run, "steps", arms=[arm])
        layers = [
            steps[["seed", "arm", "step"]].assign(layer=name, drive=steps["drive"] / 2)
            for name in ("0", "2")
        ]
        folder = run / "layers" / f"arm={arm}"
        folder.mkdir(parents=True)
        pd.concat(layers).to_parquet(folder / "0000000-0000002.parquet", index=False)
    material = material_of(run)
    with settings():
        section = BODY["ledger"](material)
    (table,) = (one for one in section.blocks if getattr(one, "name", "") == "ledger_layers")
    expected = {f"share_drive_layer_{arm}_{layer}" for arm in ARMS for layer in ("0", "2")}
    assert set(table.frame["name"]) == expected  # type: ignore[union-attr]
    assert expected <= {one.estimand.name for one in material.analysis.added.results}
