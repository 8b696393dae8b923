"""The README's own examples run."""

from __future__ import annotations

import re
from pathlib import Path

from sublim_causal.store.tables import read_table
from tests.study.commands import TINY, sublim

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_the_study_the_classes_and_the_plan_of_the_readme_run(tmp_path: Path) -> None:
    study, intervention, channel = (b for b in blocks("toml") if "[arms." in b)
    (plan,) = (b for b in blocks("toml") if "[[estimand]]" in b)
    (tmp_path / "half-dose.toml").write_text(f"{study}\n{intervention}\n{channel}")
    for code in blocks("python")[:2]:
        (tmp_path / code.split()[1]).write_text(code)
    done = sublim(
        "run", "half-dose.toml", *TINY, "--seeds", "3", "--tracking-uri", "none", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert all(f"your own code: {name}" in done.stderr for name in ("cap:Cap", "topk:TopK"))
    steps = read_table(tmp_path / "runs" / "half-dose", "steps")
    assert set(steps["arm"]) == {"baseline", "before", "after", "capped", "top2"}
    capped = steps.loc[steps["arm"] == "capped", "cos_applied"]
    assert capped.max() < 0.002 + 1e-6
    assert steps.loc[steps["arm"] == "baseline", "cos_applied"].max() > 0.002
    first = steps[steps["step"] == 0].pivot(index="seed", columns="arm", values="distill_loss")
    assert (first["top2"] > first["baseline"]).all()
    (tmp_path / "mine.toml").write_text(plan)
    analysed = sublim("analyse", "runs/half-dose", "--plan", "mine.toml", cwd=tmp_path)
    assert analysed.returncode == 0, analysed.stderr
    for name in ("half_dose", "slope", "half_stops_it"):
        assert name in analysed.stdout
    assert "not estimable" not in analysed.stdout
