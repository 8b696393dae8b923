"""The commands that list what there is, and `init`."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import sublim_causal
from sublim_causal.experiment.interventions import INTERVENTIONS
from sublim_causal.experiment.teaching.channels import CHANNELS
from sublim_causal.study.spec.reading import built_in_studies, load_study
from tests.studies import every_study
from tests.study.commands import environment, sublim


def test_the_version_is_reported(tmp_path: Path) -> None:
    version = metadata.version("sublim-causal")
    assert sublim_causal.__version__ == version
    assert sublim("--version", cwd=tmp_path).stdout == f"sublim-causal {version}\n"


def test_the_studies_are_listed_and_shown(tmp_path: Path) -> None:
    listed = sublim("studies", cwd=tmp_path).stdout
    assert all(name in listed for name in built_in_studies())
    copy = tmp_path / "copy.toml"
    copy.write_text(sublim("studies", "show", "paper", cwd=tmp_path).stdout)
    assert load_study(str(copy)) == load_study("paper")
    wrong = sublim("studies", "show", "papre", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "did you mean 'paper'" in wrong.stderr


@pytest.mark.parametrize("name", every_study())
def test_a_new_study_file_is_the_study_it_begins_with(name: str, tmp_path: Path) -> None:
    done = sublim("init", "my study.toml", "--like", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "run 'my study.toml' --dry-run" in done.stdout
    made = load_study(str(tmp_path / "my study.toml"))
    assert made == load_study(name, settings=["name=my study"])


def test_a_new_study_file_shows_every_default(tmp_path: Path) -> None:
    sublim("init", cwd=tmp_path)
    lines = (tmp_path / "study.toml").read_text().splitlines()
    assert max(map(len, lines)) <= 100
    assert {
        "# Passes over the examples. [a whole number that is at least 1]",
        '# optimizer = "adam"',
        '# evaluations = "epoch"',
        "# [attack]",
        "# epsilon = 0.2",
        "# [arms.NAME.targets]",
    } <= set(lines)


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("mine")
    for file, told in (
        ("study.toml", "a file that does not exist yet"),
        ("no/x.toml", "an existing folder"),
    ):
        refused = sublim("init", file, cwd=tmp_path)
        assert refused.returncode == 2
        assert told in refused.stderr
    assert (tmp_path / "study.toml").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_interventions_and_channels_are_listed_with_their_options(tmp_path: Path) -> None:
    listed = sublim("interventions", cwd=tmp_path).stdout
    for name, model in {**INTERVENTIONS, **CHANNELS}.items():
        part = listed[listed.index(f"\n{name}\n") :]
        assert all(f"\n  {option}" in part for option in model.model_fields)
    assert "strength = 1.0   (a number from 0 to 10)" in listed
    assert "cosine: required   (a number that is above -1 and below 1)" in listed
    assert ":math:" not in listed
    one = sublim("interventions", "set_cosine", cwd=tmp_path).stdout
    assert "cosine" in one
    assert "strength" not in one
    wrong = sublim("interventions", "set_cosin", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "did you mean 'set_cosine'" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("sublim-causal sta", "status"),
        ("sublim-causal run quick", "quickstart"),
        ("sublim-causal analyse runs/x --plan prim", "primary"),
        ("sublim-causal interventions proj", "projection"),
    ],
)
def test_shells_complete_verbs_and_names(words: str, completed: str) -> None:
    asked = {
        "_SUBLIM_CAUSAL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    script = Path(sys.executable).with_name("sublim-causal")
    done = subprocess.run([script], env={**environment(), **asked}, capture_output=True, text=True)
    assert done.stdout.split() == [completed], done.stderr
