"""Under DDP and FSDP2 the columns are those of one process that does all the work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.monitor import processes
from tests.monitor.truth import Truth, assert_same


def one_process() -> Truth:
    model = processes.network().eval()
    x, probe_x, probe_y = processes.data()
    truth = Truth(list(model.parameters()), lambda: processes.trait_loss(model, probe_x, probe_y))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(processes.STEPS):
        optimizer.zero_grad()
        processes.distill_loss(model, x).backward()
        truth.around(optimizer.step)
    return truth


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_measure_what_one_would(kind: str, tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.monitor.processes", kind, str(rank),
             str(tmp_path / "store"), str(tmp_path)],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    tables = [pd.read_json(tmp_path / f"{rank}.json") for rank in (0, 1)]
    for table in tables:
        assert_same(table, one_process(), 1e-9)
    sent = [(tmp_path / f"sent-{rank}").read_text() for rank in (0, 1)]
    assert sent == [str(processes.STEPS), "0"]
    layers = pd.read_json(tmp_path / "layers-0.json", dtype={"layer": str})
    assert set(layers["layer"].astype(str)) == {"0", "1", "4"}
    drive = layers.groupby("step")["drive"].sum()
    assert drive.to_numpy() == pytest.approx(tables[0]["drive"].to_numpy(), abs=1e-12)
