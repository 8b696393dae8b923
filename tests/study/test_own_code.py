"""Code that a study file names: announced, imported, tried, and ended arm by arm; never a run's."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sublim_causal.errors import RequestError
from sublim_causal.experiment.data.streams import stream_seed
from sublim_causal.store.manifest import read_manifest, write_manifest
from sublim_causal.store.tables import read_table
from sublim_causal.study.spec.reading import load_study, read_study
from tests.experiment import faulty, faulty_networks
from tests.study.commands import PLAN, TINY, sublim

pytestmark = pytest.mark.end_to_end

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


def test_code_is_announced_before_it_is_imported(study: Path) -> None:
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
    said = f"The study runs its own code: oc_same:Same in {study.parent / 'oc_same.py'}"
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
    assert "its own code" not in done.stderr
    assert not (study.parent / "imported").exists()


def test_the_folder_is_put_at_the_end_and_only_for_code(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = sys.path.copy(), []

    def end(*_: object) -> None:
        seen.append(sys.path.copy())
        raise RequestError("", None, "")

    monkeypatch.setattr("sublim_causal.study.console.output.err.print", lambda *_, **__: None)
    monkeypatch.setattr("sublim_causal.study.running.runner.run_study", end)
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
    (plan := cwd / "plan.toml").write_text(PLAN)
    for verb in (
        ("run", *TINY, "--seeds", "2", "--out", run, *OPTIONS),
        ("run", *TINY, "--seeds", "2", "--out", run, "--dry-run", *OPTIONS),
        ("status", run),
        ("analyse", run),
        ("report", run, "--plan", plan),
        ("compact", run),
        ("sync", run, "--tracking-uri", f"sqlite:///{cwd / 'x.db'}"),
    ):
        done = sublim(*verb, cwd=cwd)
        assert "Traceback" not in done.stderr
        assert "its own code" not in done.stderr
    assert "foreign" in read_manifest(run)["arms"]
    assert not (cwd / "imported").exists()
    assert "oc_same" not in sys.modules


def copy_of_faults(study: Path) -> None:
    """Put the classes that break their contracts beside the study."""
    for module, name in ((faulty, "oc_faulty"), (faulty_networks, "oc_networks")):
        shutil.copy(module.__file__, study.parent / f"{name}.py")
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "table",
    [
        'intervention = "oc_faulty:OneColumn"',
        'intervention = "baseline"\nchannel = { name = "oc_faulty:RawLogits" }',
        'intervention = "baseline"\n[model]\nclass = "oc_networks:Counter"',
    ],
)
@pytest.mark.parametrize("option", ["--no-report", "--dry-run"])
def test_a_class_that_breaks_its_contract_is_refused_before_anything_is_written(
    study: Path, table: str, option: str
) -> None:
    copy_of_faults(study)
    study.write_text(STUDY + table)
    refused = sublim("run", study, option, cwd=study.parent)
    assert refused.returncode == 2, refused.stderr
    assert "Traceback" not in refused.stderr
    assert "allowed: " in refused.stderr
    assert not (study.parent / "runs").exists()


def test_a_fault_at_a_later_step_ends_its_arm_alone(study: Path) -> None:
    copy_of_faults(study)
    text = STUDY.replace("epochs = 1\n[probe]", "epochs = 2\nbatch_size = 64\n[probe]")
    text = text.replace("seeds = 1", "seeds = 2")
    follower = '[arms.follows]\nintervention = "clamp"\ntarget = "own"\n'
    late = '[arms.late]\nintervention = "oc_faulty:LateShape"\n'
    study.write_text(text + f'intervention = "oc_faulty:Boom"\n{follower}{late}')
    options = ("--block-size", "2", *OPTIONS)
    done = sublim("run", study, *options, cwd=study.parent)
    assert done.returncode == 1, done.stderr
    run = study.parent / "runs" / "own"
    rows = read_table(run, "replicates").set_index(["arm", "seed"])
    reasons = {
        "own": "oc_faulty:Boom at step 5 failed with ZeroDivisionError: mine, at step 5",
        "follows": "Clamp at step 5: arm 'own', which it follows, failed",
        "late": "oc_faulty:LateShape at step 3: expected: apply returns as its vector",
    }
    for seed in (0, 1):
        assert rows.loc[("baseline", seed), "status"] == "complete"
        for arm, reason in reasons.items():
            assert rows.loc[(arm, seed), "status"] == "failed"
            assert rows.loc[(arm, seed), "reason"].startswith(reason)
            assert f"{arm}, seed {seed}: failed ({reason}" in done.stderr
    for log in "0000000-0000000.log", "0000001-0000001.log":  # each seed was tried alone
        assert (run / "errors" / log).read_text().count("ZeroDivisionError: mine, at step 5") == 1
    alone = ("--arms", "baseline", "--out", "alone")
    assert sublim("run", study, *alone, *options, cwd=study.parent).returncode == 0
    assert read_table(run, "steps").equals(read_table(study.parent / "alone", "steps"))
    again = sublim("run", study, *options, cwd=study.parent)
    assert "2 of 8 replicates are already done" in again.stderr


def test_a_channel_that_fails_for_some_seeds_ends_its_arms_there(study: Path) -> None:
    copy_of_faults(study)
    (study.parent / "oc_some.py").write_text(
        "from oc_faulty import Softmax\n"
        "class Some(Softmax):\n"
        "    def answers(self, logits, generators):\n"
        "        if logits.shape[1] > 100 and generators[0].initial_seed() % 2 == {odd}:\n"
        "            return logits\n"
        "        return logits.softmax(2)\n".format(odd=stream_seed("own", 1, "channel") % 2)
    )
    sys.modules.pop("oc_some", None)
    text = STUDY.replace("seeds = 1", "seeds = 2")
    study.write_text(text + 'intervention = "baseline"\nchannel = { name = "oc_some:Some" }\n')
    done = sublim("run", study, *OPTIONS, cwd=study.parent)
    assert done.returncode == 1, done.stderr
    rows = read_table(study.parent / "runs" / "own", "replicates").set_index(["arm", "seed"])
    assert rows.loc[("own", 1), "status"] == "failed"
    assert "its channel: expected: answers returns distributions" in rows.loc[("own", 1), "reason"]
    assert set(rows.loc["baseline", "status"]) == {"complete"}


OPTIONAL = """
class Damped:
    space = "gradient"
    uses_trait = False

    def __init__(self, factor=0.5, layers=(), why=print):
        self.factor = factor

    def init(self, context):
        return None

    def apply(self, vector, g_trait, state, context):
        return self.factor * vector, state
"""


def test_options_of_own_classes_are_recorded_with_their_defaults(study: Path) -> None:
    (study.parent / "oc_damped.py").write_text(OPTIONAL)
    sys.modules.pop("oc_damped", None)
    study.write_text(STUDY + 'intervention = "oc_damped:Damped"\n')
    assert sublim("run", study, *OPTIONS, cwd=study.parent).returncode == 0
    run = study.parent / "runs" / "own"
    manifest = read_manifest(run)
    assert manifest["study"]["arms"]["own"]["factor"] == 0.5
    assert "why" not in manifest["study"]["arms"]["own"]
    recorded = (run / "study.toml").read_text()
    assert "factor = 0.5" in recorded
    shutil.copy(study.parent / "oc_damped.py", run)
    for file in (run / "study.toml", study):
        again = sublim("run", file, "--out", run, *OPTIONS, cwd=study.parent)
        assert again.returncode == 0, again.stderr
        assert "2 of 2 replicates are already done" in again.stderr
    assert read_manifest(run) == manifest
    study.write_text(STUDY + 'intervention = "oc_damped:Damped"\nfactor = 0.25\n')
    refused = sublim("run", study, *OPTIONS, cwd=study.parent)
    assert refused.returncode == 2
    assert "arms.own.0.factor: 0.5 -> 0.25" in refused.stderr


def test_other_code_of_own_classes_is_noticed_and_another_default_refused(study: Path) -> None:
    code = study.parent / "oc_damped.py"
    study.write_text(STUDY + 'intervention = "oc_damped:Damped"\n')

    def run_with(text: str, seeds: int) -> subprocess.CompletedProcess[str]:
        code.write_text(text)
        sys.modules.pop("oc_damped", None)
        importlib.invalidate_caches()
        return sublim("run", study, "--seeds", str(seeds), *OPTIONS, cwd=study.parent)

    assert run_with(OPTIONAL, 1).returncode == 0
    commented = run_with(f"# mine\n{OPTIONAL}", 2)
    assert "has changed" not in commented.stderr, commented.stderr
    changed = run_with(OPTIONAL.replace("* vector", "* vector * 0.5"), 3)
    assert "The code of oc_damped:Damped has changed since" in changed.stderr
    recorded = read_manifest(study.parent / "runs" / "own")["code"]["oc_damped:Damped"]
    assert len(recorded.split(", ")) == 2
    refused = run_with(OPTIONAL.replace("factor=0.5", "factor=0.25"), 4)
    assert refused.returncode == 2
    assert "arms.own.0.factor: 0.5 -> 0.25" in refused.stderr
