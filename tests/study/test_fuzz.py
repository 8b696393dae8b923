"""Random requests: never a traceback, never exit code 1 for a wrong request, nothing written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sublim_causal.study.cli import DONE, WRONG, run_command_line

pytestmark = pytest.mark.end_to_end

WORDS = st.sampled_from(
    ["run", "studies", "status", "analyse", "report", "sync", "power", "--dry-run", "--seeds",
     "--arms", "--set", "--memory", "--device", "--precision", "--plan", "baseline", "quickstart",
     "paper", "distillation.epochs=2", "model.class=cnn", "arms.x.intervention=clamp", "-1", "9",
     "", "=", "a=b=c", "runs/none", "study.toml", "fp64", "bf16", "cpu", "1e400", "\x00", "é"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("mnist")
)
KEYS = st.sampled_from(
    ["name", "title", "seeds", "data", "model", "class", "auxiliary", "options", "hidden",
     "teacher", "epochs", "batch_size", "learning_rate", "distillation", "examples", "probe",
     "size", "measure", "arms", "baseline", "projection", "intervention", "strength", "space",
     "target", "x"]
)  # fmt: skip
TABLES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)


FIELDS = st.sampled_from(
    ["seeds", "distillation.epochs", "distillation.examples", "teacher.learning_rate",
     "probe.size", "model.auxiliary", "model.options.hidden", "arms.projection.strength",
     "arms.projection.space", "data.train", "data.name", "name"]
)  # fmt: skip
VALUES = st.one_of(SCALARS, st.lists(st.integers(-5, 300), max_size=3))


def outcome(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of the command line, run in this process."""
    monkeypatch.setattr(sys, "argv", ["sublim-causal", *arguments])
    return run_command_line()


def without_training(arguments: list[str]) -> list[str]:
    """The same request, but a run is only planned."""
    return [*arguments, "--dry-run"] if "run" in arguments[:1] else arguments


fuzz = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@fuzz
@given(arguments=st.lists(WORDS, min_size=1, max_size=6))
def test_random_command_lines(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = outcome(without_training(arguments), monkeypatch)
    assert code in (DONE, WRONG)
    assert "Traceback" not in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@fuzz
@given(table=st.dictionaries(KEYS, TABLES, max_size=8))
def test_random_study_files(
    table: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.toml"
    try:
        path.write_text(tomli_w.dumps(table))
    except (TypeError, UnicodeEncodeError):  # TOML has no null and no lone surrogates
        return
    code = outcome(["run", "study.toml", "--dry-run"], monkeypatch)
    assert code in (DONE, WRONG)
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


@fuzz
@given(field=FIELDS, value=VALUES)
def test_random_settings(
    field: str,
    value: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = outcome(["run", "--dry-run", "--set", f"{field}={value}"], monkeypatch)
    assert code in (DONE, WRONG)
    assert "Traceback" not in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
