"""Code that a study file names: announced first, imported only then, and never a run's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from sublim_causal.errors import RequestError
from sublim_causal.store.manifest import read_manifest, write_manifest
from sublim_causal.study.spec import load_study, read_study
from tests.study.commands import TINY, sublim

CLASS = """
from pathlib import Path

Path({mark!r}).touch()


class Same:
    space = "gradient"
    uses_trait = False

    def init(self, context):
        return None

    def apply(self, vector, g_trait, state, context):
        return vector, state
"""
STUDY = """
name = "own"
seeds = 1
[data]
name = "digits"
[teacher]
epochs = 1
[distillation]
examples = 256
epochs = 1
[probe]
size = 64
[arms.baseline]
intervention = "baseline"
[arms.own]
"""
OPTIONS = ("--tracking-uri", "none", "--no-report")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with a module that leaves a file `imported` where it is imported."""
    (tmp_path / "oc_same.py").write_text(CLASS.format(mark=str(tmp_path / "imported")))
    sys.modules.pop("oc_same", None)
    file = tmp_path / "study.toml"
    file.write_text(STUDY + 'intervention = "oc_same:Same"\n')
    return file


def test_it_is_announced_before_it_is_imported(study: Path) -> None:
    seen = []

    def before_import(loaded: object) -> None:
        seen.append((study.parent / "imported").exists())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_study(str(study), before_import=before_import)
    assert seen == [False]


@pytest.mark.parametrize(
    "table",
    [
        'intervention = "oc_same:Same"',
        'intervention = "chain"\nmembers = [{ intervention = "oc_same:Same" }]',
        'intervention = "yoked"\nprocedure = { intervention = "oc_same:Same" }',
        'intervention = "baseline"\nchannel = { name = "oc_same:Same" }',
    ],
)
def test_every_place_that_can_name_code_is_announced(study: Path, table: str) -> None:
    study.write_text(STUDY + table)
    done = sublim("run", study, "--dry-run", *OPTIONS, cwd=study.parent)
    said = f"The study runs code of its own: oc_same:Same in {study.parent / 'oc_same.py'}"
    assert said in done.stderr
    assert done.returncode == (2 if "channel" in table else 0), done.stderr
    assert (study.parent / "imported").exists() == ("channel" not in table)


def test_no_file_beside_a_study_takes_the_place_of_a_library(study: Path) -> None:
    for name in ("torchvision", "sklearn", "oc_missing", "antigravity"):
        (study.parent / f"{name}.py").write_text("raise SystemExit('taken')\n")
    before = sys.path.copy()
    done = sublim("run", study, *OPTIONS, cwd=study.parent)
    assert done.returncode == 0, done.stderr
    assert sys.path == before
    study.write_text(STUDY + 'intervention = "baseline"\n')
    (study.parent / "imported").unlink()
    done = sublim("run", study, "--out", "plain", *OPTIONS, cwd=study.parent)
    assert done.returncode == 0, done.stderr
    assert "code of its own" not in done.stderr
    assert not (study.parent / "imported").exists()


def test_the_folder_is_put_at_the_end_and_only_for_code(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = sys.path.copy(), []

    def end(*_: object) -> None:
        seen.append(sys.path.copy())
        raise RequestError("", None, "")

    monkeypatch.setattr("sublim_causal.study.console.err.print", lambda *_, **__: None)
    monkeypatch.setattr("sublim_causal.study.runner.run_study", end)
    sublim("run", study, *OPTIONS, cwd=study.parent)
    study.write_text(STUDY + 'intervention = "baseline"\n')
    sublim("run", study, *OPTIONS, cwd=study.parent)
    assert seen == [[*before, str(study.parent)], before]


def test_init_and_reading_import_nothing(study: Path) -> None:
    assert sublim("init", "mine.toml", "--like", study, cwd=study.parent).returncode == 0
    assert read_study(str(study)).named_classes() == ["oc_same:Same"]
    assert not (study.parent / "imported").exists()


def test_nothing_that_a_run_names_is_imported(study: Path) -> None:
    cwd = study.parent
    done = sublim("run", *TINY, "--seeds", "1", *OPTIONS, cwd=cwd)
    assert done.returncode == 0, done.stderr
    run = cwd / "runs" / "quickstart"
    manifest = read_manifest(run)
    arm = {**manifest["study"]["arms"]["baseline"], "intervention": "oc_same:Same"}
    arms = {**manifest["study"]["arms"], "foreign": arm}
    defined = {**manifest["arms"], "foreign": {"intervention": "oc_same:Same"}}
    foreign = {**manifest, "study": {**manifest["study"], "arms": arms}, "arms": defined}
    write_manifest(run, foreign)
    shutil.copy(cwd / "oc_same.py", run / "oc_same.py")
    for verb in (
        ("run", *TINY, "--seeds", "2", "--out", run, *OPTIONS),
        ("run", *TINY, "--seeds", "2", "--out", run, "--dry-run", *OPTIONS),
        ("status", run),
        ("analyse", run),
        ("report", run),
        ("compact", run),
        ("sync", run, "--tracking-uri", f"sqlite:///{cwd / 'x.db'}"),
    ):
        done = sublim(*verb, cwd=cwd)
        assert "Traceback" not in done.stderr
        assert "code of its own" not in done.stderr
    assert "foreign" in read_manifest(run)["arms"]
    assert not (cwd / "imported").exists()
    assert "oc_same" not in sys.modules
