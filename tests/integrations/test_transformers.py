"""`AlignmentCallback` in a real `Trainer`: LoRA, accumulation, clipping, bf16."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch

TRAINER = Path(__file__).parents[2] / "examples" / "trainer.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_trainer", TRAINER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.end_to_end
def test_the_example_measures_the_adapter_and_logs(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, float]] = []
    log = example.Distillation.log

    def kept(self: object, logs: dict[str, float], *args: object) -> None:
        log(self, logs, *args)
        logged.append(self.state.log_history[-1])

    monkeypatch.setattr(example.Distillation, "log", kept)
    state = torch.get_rng_state()
    callback = example.main(tmp_path, guarded=False)
    torch.set_rng_state(state)
    table = callback.monitor.table()
    assert table["step"].tolist() == [0, 1, 2, 3, 4]  # 20 batches, 4 accumulated
    assert not table["skipped"].any()
    assert (table["norm_applied"] <= 0.01 + 1e-6).all()  # clipped
    saved = pd.read_csv(tmp_path / "alignment.csv")
    pd.testing.assert_frame_equal(saved, table)
    layers = pd.read_csv(tmp_path / "alignment_layers.csv")
    assert layers["layer"].str.contains("lora").all()
    assert layers.groupby("step")["drive"].sum().to_numpy() == pytest.approx(
        table["drive"].to_numpy(), abs=1e-9
    )
    steps = [one for one in logged if "loss" in one]
    assert [one["alignment/drive"] for one in steps] == pytest.approx(table["drive"].tolist())

    guarded = example.main(tmp_path, guarded=True).monitor.table()
    torch.set_rng_state(state)
    assert guarded["cos_update"].abs().max() < 1e-4 < table["cos_update"].abs().max()
    assert guarded["norm_distill"][0] == pytest.approx(table["norm_distill"][0])
