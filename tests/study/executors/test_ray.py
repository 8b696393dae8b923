"""Blocks on a Ray cluster of two nodes of one core each, both on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sublim_causal.errors import RunError
from sublim_causal.experiment.data.sources import ImageData
from sublim_causal.location import locate
from sublim_causal.study.executors.ray import SETTINGS, Origin, validate_node, versions
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.trainer import Job
from tests.study.commands import TINY, TINY_TEXTS, command, environment, same_tables, start, sublim
from tests.study.test_language_model import written

pytestmark = pytest.mark.end_to_end

pytest.importorskip("ray")
OPTIONS = (*TINY, "--tracking-uri", "none")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster that is there already; the second node may be killed and replaced."""
    os.environ.update(SETTINGS)
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def on(cluster: Any) -> tuple[str, ...]:
    """Options that run a study there."""
    return ("--executor", "ray", "--address", cluster.address)


def test_a_run_begun_here_and_completed_on_a_cluster_has_the_same_tables(
    cluster: Any, six_seeds: Path, tmp_path: Path
) -> None:
    begun = sublim("run", *OPTIONS, "--seeds", "1", cwd=tmp_path)
    assert begun.returncode == 0, begun.stderr
    done = sublim("run", *OPTIONS, "--seeds", "6", *on(cluster), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, *others = done.stderr.splitlines()
    assert first == "4 of 24 replicates are already done."
    assert all(" s left, " in line or line.startswith("Waiting for") for line in others)
    assert done.stdout.startswith(" " * 20)
    same_tables(tmp_path / "runs" / "quickstart", six_seeds)
    again = sublim("run", *OPTIONS, "--seeds", "6", cwd=tmp_path)
    assert "24 of 24 replicates are already done." in again.stderr


@pytest.mark.slow
def test_texts_are_the_same_on_a_cluster(cluster: Any, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for out, executor in ((here, ()), (there, on(cluster))):
        done = sublim("run", "numbers", *TINY_TEXTS, *executor, "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    same_tables(there, here)
    kept = [sorted(path.name for path in run.glob("networks/*/*")) for run in (here, there)]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 6


def test_a_language_model_is_the_same_on_a_cluster(cluster: Any, tmp_path: Path) -> None:
    study, here, there = written(tmp_path), tmp_path / "here", tmp_path / "there"
    options = ("--workers", "1", "--tracking-uri", "none", "--no-report")
    for out, executor in ((here, ()), (there, on(cluster))):
        done = sublim("run", study, *options, *executor, "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    same_tables(there, here)


@pytest.mark.slow
def test_a_killed_node_loses_nothing(cluster: Any, six_seeds: Path, tmp_path: Path) -> None:
    doomed = cluster.add_node(num_cpus=1)
    process = start(tmp_path, *OPTIONS, "--seeds", "6", "--workers", "3", *on(cluster))
    cluster.remove_node(doomed, allow_graceful=False)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    same_tables(tmp_path / "runs" / "quickstart", six_seeds)


@pytest.mark.slow
def test_workers_write_into_an_object_store(bucket: str, six_seeds: Path, tmp_path: Path) -> None:
    place = f"{bucket}/run"
    done = subprocess.run(
        command("run", *OPTIONS, "--seeds", "6", "--executor", "ray", "--out", place),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    same_tables(locate(place), six_seeds)


def job_at(run: Path) -> Job:
    nothing = (np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, np.int64))
    images = ImageData(nothing, nothing, nothing, 1.0)
    return Job(Study.model_construct(), run, images, "cpu", "fp32", ())


def test_a_node_without_the_run_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"{}")
    here = Origin(b"{}", versions())
    validate_node(job_at(tmp_path), here)
    with pytest.raises(RunError, match="does not see this run directory"):
        validate_node(job_at(tmp_path / "elsewhere"), here)
    (tmp_path / "manifest.json").write_bytes(b'{"run_id": "of another run"}')
    with pytest.raises(RunError, match="does not see this run directory"):
        validate_node(job_at(tmp_path), here)


def test_a_node_with_other_packages_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"{}")
    other = replace(Origin(b"{}", versions()), versions={**versions(), "torch": "1.0"})
    with pytest.raises(RunError, match=r"has torch .*, this machine 1\.0"):
        validate_node(job_at(tmp_path), other)
