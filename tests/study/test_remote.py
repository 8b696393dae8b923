"""A study whose run lies in an object store: servers of S3 and Google's on this machine."""

from __future__ import annotations

import subprocess
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

from sublim_causal.analysis.simulation.tables import Truth, simulate, write_run
from sublim_causal.location import locate, put
from sublim_causal.store.blocks import committed
from sublim_causal.store.manifest import read_manifest
from tests.study.commands import PLAN, TINY, command, environment, same_tables, sublim

pytestmark = pytest.mark.end_to_end

OPTIONS = (*TINY, "--seeds", "3", "--workers", "1", "--arms", "baseline,projection,liminal")


def test_a_run_is_extended_and_equals_a_local_one(
    bucket: str, six_seeds: Path, tmp_path: Path
) -> None:
    place, options = f"{bucket}/some/run", (*TINY, "--out", f"{bucket}/some/run", "--seeds")
    run = locate(place)
    forkserver._forkserver._stop()  # the workers to come know the credentials
    first = sublim("run", *options, "1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "No MLflow mirror" in first.stderr
    put(run / "steps" / "arm=baseline" / "0000001-0000001.parquet", b"half")  # as by a kill
    more = sublim("run", *options, "2", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert "4 of 8 replicates are already done" in more.stderr
    assert not (run / ".lock").exists()
    assert "test-secret" not in str(read_manifest(run))
    assert not any(tmp_path.iterdir())
    same_tables(run, six_seeds, seeds=2)
    compacted = sublim("compact", place, cwd=tmp_path)
    assert compacted.returncode == 0, compacted.stderr
    assert ": 24 files, " in compacted.stdout
    assert "-> 12 files, " in compacted.stdout
    same_tables(run, six_seeds, seeds=2)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["bucket", "gs_bucket"])
def test_killed_in_the_middle_and_resumed_equals_a_local_run(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = f"{request.getfixturevalue(store)}/some/run"
    run = locate(place)
    with subprocess.Popen(
        command("run", *OPTIONS, "--out", place),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not any(committed(run)):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.kill()
    before = set(committed(run))
    # Workers that other tests have prepared in this process do not know the credentials.
    resumed = subprocess.run(
        command("run", *OPTIONS, "--out", place),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "No MLflow mirror" in resumed.stderr
    assert 0 < len(before) < len(set(committed(run))) == 9
    assert not (run / ".lock").exists()
    assert "test-secret" not in str(read_manifest(run))
    assert not any(tmp_path.iterdir())
    local = sublim("run", *OPTIONS, "--tracking-uri", "none", cwd=tmp_path)
    assert local.returncode == 0, local.stderr
    same_tables(run, tmp_path / "runs" / "quickstart")
    compacted = sublim("compact", place, cwd=tmp_path)
    assert compacted.returncode == 0, compacted.stderr
    assert ": 27 files, " in compacted.stdout
    assert "-> 9 files, " in compacted.stdout
    same_tables(run, tmp_path / "runs" / "quickstart")


def test_every_verb_reads_it(bucket: str, tmp_path: Path) -> None:
    place, other = f"{bucket}/first", f"{bucket}/second"
    for where, seeds in ((place, 12), (other, 13)):
        write_run(locate(where), simulate(Truth(n_seeds=seeds, n_steps=20)))
    (tmp_path / "plan.toml").write_text(PLAN)
    power = sublim("power", place, cwd=tmp_path)
    analysed = sublim("analyse", place, "--plan", "plan.toml", cwd=tmp_path)
    report = sublim("report", place, other, "--plan", "plan.toml", cwd=tmp_path)
    for done in (power, analysed, report):
        assert done.returncode == 0, done.stderr
    assert f"{place}/report/results-one.json" in analysed.stdout
    assert (locate(place) / "report" / "results-one.json").exists()
    assert (locate(place) / "report-against-second" / "index.html").exists()
    refused = sublim("sync", place, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--tracking-uri" in refused.stderr
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mirrored = sublim("sync", place, "--tracking-uri", store, cwd=tmp_path)
    assert mirrored.returncode == 0, mirrored.stderr
    assert any((tmp_path / "mlartifacts").rglob("results-one.json"))
