"""Under DDP and FSDP2 the columns are those of one process that does all the work."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pandas as pd
import pytest
import torch

from sublim_causal.study.executors.local import LocalExecutor
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


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what two processes, forked from one that knows torch, measured."""
    folder = tmp_path_factory.mktemp("processes")
    for kind in processes.KINDS:
        (folder / kind).mkdir()
    LocalExecutor().warm_up()
    context = multiprocessing.get_context("forkserver")
    running = [context.Process(target=processes.main, args=(rank, folder)) for rank in (0, 1)]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=120)
    assert [process.exitcode for process in running] == [0, 0]
    return folder


@pytest.mark.parametrize("kind", processes.KINDS)
def test_two_processes_measure_what_one_would(kind: str, measured: Path) -> None:
    out = measured / kind
    tables = [pd.read_json(out / f"{rank}.json") for rank in (0, 1)]
    for table in tables:
        assert_same(table, one_process(), 1e-9)
    sent = [(out / f"sent-{rank}").read_text() for rank in (0, 1)]
    assert sent == [str(processes.STEPS), "0"]
    layers = pd.read_json(out / "layers-0.json", dtype={"layer": str})
    assert set(layers["layer"].astype(str)) == {"0", "1", "4"}
    drive = layers.groupby("step")["drive"].sum()
    assert drive.to_numpy() == pytest.approx(tables[0]["drive"].to_numpy(), abs=1e-12)
