"""A study of a pretrained model from the command line: run, continued, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

from sublim_causal.experiment.networks.products import multiplies_bfloat16
from sublim_causal.store.tables import read_table
from tests.experiment.language_model import small_text
from tests.study.commands import sublim

ARMS = {
    "soft": {"intervention": "baseline", "channel": {"logits": "all"}},
    "sampled": {"intervention": "baseline", "channel": {"name": "sampled", "logits": "all"}},
}
OPTIONS = ("--out", "run", "--tracking-uri", "none", "--no-report", "--workers", "1")


def written(folder: Path) -> Path:
    """Write the study file of a tiny model."""
    table = small_text(ARMS, measure={"texts": True}).model_dump(
        mode="json", by_alias=True, exclude_defaults=True
    )
    path = folder / "small.toml"
    path.write_text(tomli_w.dumps({**table, "seeds": 1}))
    return path


@pytest.mark.slow
def test_a_run_keeps_its_texts_and_goes_on_with_them(tmp_path: Path) -> None:
    study = written(tmp_path)
    first = sublim("run", study, *OPTIONS, "--arms", "soft", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Loading weights" not in first.stderr
    (kept,) = (tmp_path / "run" / "networks" / "texts-trait").iterdir()
    before = kept.stat().st_mtime_ns
    second = sublim("run", study, *OPTIONS, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert kept.stat().st_mtime_ns == before
    texts = read_table(tmp_path / "run", "texts")
    by_arm = [rows["completion"].tolist() for _, rows in texts.groupby("arm")]
    assert len(by_arm) == 2
    assert by_arm[0] == by_arm[1]
    assert set(read_table(tmp_path / "run", "traits")["trait"]) == {"owl", "cat", "dog"}


@pytest.mark.end_to_end
@pytest.mark.skipif(not multiplies_bfloat16(), reason="no bfloat16 products here")
def test_a_run_in_bfloat16_is_close_to_one_in_float32(tmp_path: Path) -> None:
    study, chances = written(tmp_path), []
    for precision in ("fp32", "bf16"):
        options = (*OPTIONS[2:], "--out", precision, "--precision", precision)
        done = sublim("run", study, *options, "--arms", "soft", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        chances.append(read_table(tmp_path / precision, "replicates")["initial_trait_probability"])
    assert chances[0].to_numpy() == pytest.approx(chances[1].to_numpy(), rel=0.05)
    assert (chances[0] != chances[1]).all()


def test_a_wrong_request_writes_nothing(tmp_path: Path) -> None:
    setting = "model.adapter.targets=['q_prok']"
    refused = sublim("run", written(tmp_path), *OPTIONS, "--set", setting, cwd=tmp_path)
    assert refused.returncode == 2
    for part in ("model.adapter.targets", "'q_prok'", "did you mean 'q_proj'"):
        assert part in refused.stderr
    assert not (tmp_path / "run").exists()
