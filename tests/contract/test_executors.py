"""What every executor must do, by its row in `EXECUTORS`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sublim_causal.errors import RequestError
from sublim_causal.store.tables import read_table
from sublim_causal.study.executors import EXECUTORS, open_executor
from tests.study.commands import TINY, same_tables, start, sublim

OPTIONS = (*TINY, "--tracking-uri", "none")
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "ray" else []) for name in EXECUTORS
]
pytestmark = pytest.mark.parametrize("executor", NAMES)

STUDY = """
name = "deadly"
seeds = 4
[data]
name = "digits"
[distillation]
examples = 256
epochs = 2
batch_size = 128
[teacher]
epochs = 1
[probe]
size = 64
[arms.baseline]
intervention = "baseline"
[arms.deadly]
intervention = "deadly:Deadly"
"""
DEADLY = '''
import os
import pathlib

from sublim_causal.experiment.data.streams import stream_seed


class Deadly:
    """Kills its process on seed 1 (once, if there is a file "once"); raises an error on seed 2."""

    space = "gradient"
    uses_trait = False

    def init(self, context):
        return [one.initial_seed() for one in context.generators]

    def apply(self, vector, g_trait, state, context):
        once = pathlib.Path(__file__).with_name("once")
        if context.step == 2:  # after the steps that are tried before anything is trained
            if stream_seed("deadly", 1, "intervention") in state:
                if not once.exists():
                    os._exit(7)
                if once.read_text() == "":
                    once.write_text("dead")
                    os._exit(7)
            elif stream_seed("deadly", 2, "intervention") in state and not once.exists():
                raise ArithmeticError("two")
        return vector, state
'''


@pytest.fixture
def deadly(tmp_path: Path) -> Path:
    """A study file whose intervention kills its worker."""
    (tmp_path / "deadly.py").write_text(DEADLY)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def statuses(run: Path) -> list[str]:
    """Status of the seeds of the deadly arm."""
    rows = read_table(run, "replicates").set_index(["arm", "seed"]).sort_index()
    return list(rows.loc["deadly", "status"])


def test_tables_do_not_depend_on_where_blocks_run(
    executor: str, six_seeds: Path, tmp_path: Path
) -> None:
    done = sublim("run", *OPTIONS, "--seeds", "6", "--executor", executor, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same_tables(tmp_path / "runs" / "quickstart", six_seeds)


def test_a_worker_that_dies_once_is_replaced(executor: str, deadly: Path) -> None:
    deadly.with_name("once").write_text("")
    done = sublim("run", deadly, *OPTIONS[-3:], "--executor", executor, cwd=deadly.parent)
    assert done.returncode == 0, done.stderr
    assert "A worker was lost (" in done.stderr
    assert statuses(deadly.parent / "runs" / "deadly") == ["complete"] * 4


def test_what_breaks_a_block_is_recorded_and_the_others_complete(
    executor: str, deadly: Path
) -> None:
    done = sublim("run", deadly, *OPTIONS[-3:], "--executor", executor, cwd=deadly.parent)
    assert done.returncode == 1, done.stderr
    run = deadly.parent / "runs" / "deadly"
    assert statuses(run) == ["complete", "failed", "failed", "complete"]
    rows = read_table(run, "replicates").set_index(["arm", "seed"])
    assert "its worker was lost 3 times (last: " in rows.loc[("deadly", 1), "reason"]
    failed = "deadly:Deadly at step 2 failed with ArithmeticError: two"
    assert rows.loc[("deadly", 2), "reason"] == failed
    (log,) = (run / "errors").iterdir()
    assert "raise ArithmeticError" in log.read_text()


@pytest.mark.end_to_end
def test_ctrl_c_keeps_finished_blocks_and_the_rerun_completes(
    executor: str, six_seeds: Path, tmp_path: Path
) -> None:
    options = (*OPTIONS, "--seeds", "6", "--workers", "1", "--executor", executor)
    process = start(tmp_path, *options)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "same command resumes" in errors
    assert "Traceback" not in errors
    assert "final test accuracy" in output
    again = sublim("run", *OPTIONS, "--seeds", "6", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "replicates are already done" in again.stderr
    same_tables(tmp_path / "runs" / "quickstart", six_seeds)


def test_resources_are_of_the_device_that_is_asked_for(executor: str) -> None:
    with open_executor(executor, None) as opened:
        found = opened.resources("cpu")
        assert (found.device, found.gpu_memory) == ("cpu", 0)
        assert found.slots >= 1
        assert found.memory > 2**20
        with pytest.raises(RequestError, match="auto, cpu or cuda"):
            opened.resources("tpu")
