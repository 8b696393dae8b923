"""Planning finds out what a run would do, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.study.commands import TINY, sublim


@pytest.fixture
def two_threads() -> None:
    """Settings of torch that no worker would choose."""
    torch.set_num_threads(2)


def settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.usefixtures("two_threads")
def test_a_dry_run_changes_no_setting_of_torch(model: str, tmp_path: Path) -> None:
    before = settings()
    planned = sublim("run", "--dry-run", "--set", f"model.class={model}", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert settings() == before


def test_a_dry_run_deletes_no_file(tmp_path: Path) -> None:
    options = (*TINY, "--seeds", "2", "--tracking-uri", "none")
    assert sublim("run", *options, "--seeds", "1", cwd=tmp_path).returncode == 0
    run = tmp_path / "runs" / "quickstart"
    (run / "steps" / "arm=baseline" / "0000009-0000009.parquet").write_bytes(b"not committed")
    (run / "steps" / "arm=baseline" / "0000000-0000000.parquet").write_bytes(b"damaged")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    planned = sublim("run", *options, "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
