"""Runs made of tables that other programs wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sublim_causal.errors import DataError, RequestError
from sublim_causal.own.importing import Asked, check_table
from sublim_causal.own.sources import read_source
from sublim_causal.store.manifest import read_manifest
from sublim_causal.store.tables import read_table
from tests.study.commands import sublim

ASKED = Asked("run", "condition", "eval/owl rate", None, {})
OPTIONS = ("--seed", "run", "--arm", "condition", "--outcome", "eval/owl rate")


def table(seeds: int = 5) -> pd.DataFrame:
    """Return one row per run, as other programs write them: with text, dates and odd names."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "run": seed,
            "condition": arm,
            "eval/owl rate": rng.uniform(0.3, 0.5),
            "lr": "1e-4",
            "note": "fine",
            "started": pd.Timestamp("2026-01-01"),
        }
        for seed in range(seeds)
        for arm in ("baseline", "filtered")
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_table_becomes_a_run(tmp_path: Path, ending: str) -> None:
    file, run = tmp_path / f"results.{ending}", tmp_path / "run"
    rows = table()
    write = {
        "csv": lambda: rows.to_csv(file, index=False),
        "parquet": lambda: rows.to_parquet(file),
        "jsonl": lambda: rows.to_json(file, orient="records", lines=True, date_format="iso"),
    }
    write[ending]()
    done = sublim(
        "import",
        run,
        "--from",
        file,
        *OPTIONS,
        "--unit",
        "fraction",
        "--chance",
        "0.1",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = read_table(run, "replicates").sort_values(["seed", "arm"], ignore_index=True)
    assert found["eval_owl_rate"].tolist() == pytest.approx(rows["eval/owl rate"].tolist())
    assert found["lr"].eq(1e-4).all()
    assert found["note"].eq("fine").all()
    assert found["started"].str.startswith("2026-01-01").all()
    manifest = read_manifest(run)
    assert manifest["finished"] is not None
    assert manifest["outcome"]["chance"] == 0.1
    assert "'eval/owl rate' is called 'eval_owl_rate'" in done.stdout


def test_steps_become_curves(tmp_path: Path) -> None:
    rows = table(2).loc[lambda one: one.index.repeat(4)].reset_index(drop=True)
    rows["t"] = rows.index % 4
    rows["alignment"] = 0.1 * rows["t"]
    rows.loc[rows["t"] % 2 == 1, "eval/owl rate"] = np.nan
    rows.to_csv(tmp_path / "steps.csv", index=False)
    done = sublim(
        "import", tmp_path / "run", "--from", tmp_path / "steps.csv", *OPTIONS, "--step", "t",
        "--map", "cos_update=alignment", "--map", "owl_rate=eval/owl rate",
        "--outcome", "owl_rate", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_table(tmp_path / "run", "steps")["cos_update"].max() == pytest.approx(0.3)
    assert len(read_table(tmp_path / "run", "evaluations")) == 8
    replicates = read_table(tmp_path / "run", "replicates")
    assert replicates["mean_cos_update"].tolist() == pytest.approx([0.15] * 4)
    assert replicates["owl_rate"].notna().all()


def test_checks_name_what_is_wrong_with_counts() -> None:
    rows = table()
    with pytest.raises(DataError, match=r"4 rows are duplicates of 2, by arm, seed: arm baseline"):
        check_table(pd.concat([rows, rows[:2]]), ASKED)
    with pytest.raises(DataError, match=r"2 of 10 rows have no seed .*: rows 1, 2"):
        check_table(rows.assign(run=[None, "x", *rows["run"][2:]]), ASKED)
    with pytest.raises(DataError, match=r"1 of 10 rows have no arm: row 1"):
        check_table(rows.assign(condition=[None, *rows["condition"][1:]]), ASKED)
    with pytest.raises(RequestError, match="did you mean 'condition'"):
        check_table(rows, Asked("run", "conditon", "eval/owl rate", None, {}))
    with pytest.raises(RequestError, match="a column of numbers"):
        check_table(rows, Asked("run", "condition", "note", None, {}))
    some = rows.drop(index=[0, 2]).replace({"eval/owl rate": {rows["eval/owl rate"][5]: np.inf}})
    remarks = check_table(some, ASKED).remarks
    assert "baseline: 2 of 5 seeds have no row: 0, 1" in remarks
    assert "1 of 8 replicates have no finite eval_owl_rate: they are not complete" in remarks
    apart = rows.assign(run=rows.index)
    assert any("Welch" in remark for remark in check_table(apart, ASKED).remarks)


def test_a_refused_table_leaves_nothing(tmp_path: Path) -> None:
    table().assign(run=0).to_csv(tmp_path / "twice.csv", index=False)
    done = sublim(
        "import", tmp_path / "run", "--from", tmp_path / "twice.csv", *OPTIONS, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "duplicates" in done.stderr
    assert not (tmp_path / "run").exists()


def test_runs_of_wandb_keep_their_state(tmp_path: Path) -> None:
    rows = table(2).assign(Name="x", State=["finished", "crashed"] * 2, Runtime=[60] * 4)
    rows.to_csv(tmp_path / "wandb-export.csv", index=False)
    checked = check_table(read_source(str(tmp_path / "wandb-export.csv")), ASKED)
    assert checked.frame.groupby("arm")["status"].first().to_dict() == {
        "baseline": "complete",
        "filtered": "failed",
    }
    assert checked.frame["seconds"].eq(60).all()


def test_runs_of_mlflow_are_read(tmp_path: Path) -> None:
    import mlflow

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("owls", artifact_location=str(tmp_path))
    for seed in range(2):
        for arm in ("baseline", "filtered"):
            run = client.create_run(experiment).info.run_id
            client.log_param(run, "run", seed)
            client.log_param(run, "condition", arm)
            for step in range(3):
                client.log_metric(run, "owl_rate", 0.1 * step + seed, step=step)
            client.set_terminated(run, "FINISHED" if seed else "KILLED")
    asked = Asked("run", "condition", "owl_rate", None, {})
    checked = check_table(read_source("mlflow:owls", uri), asked)
    assert checked.frame["owl_rate"].tolist() == pytest.approx([0.2, 1.2, 0.2, 1.2])
    assert checked.frame["status"].tolist() == ["failed", "complete"] * 2
    steps = read_source("mlflow:owls", uri, steps=True)
    assert len(check_table(steps, Asked("run", "condition", "owl_rate", "step", {})).frame) == 12
    with pytest.raises(DataError, match="no experiment of this name"):
        read_source("mlflow:geese", uri)


def test_other_sources_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_source(str(tmp_path / "broken.jsonl"))
    with pytest.raises(RequestError, match="mlflow:EXPERIMENT"):
        read_source(str(tmp_path / "results.xlsx"))
