"""The command line: fast help, and clear refusals that write nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sublim_causal.analysis.simulation.tables import ArmTruth, Truth, simulate, write_run
from sublim_causal.store.tracking import is_mirrored
from sublim_causal.study.cli import guarded
from tests.study.commands import PLAN, TINY, environment, same_tables, sublim

pytestmark = pytest.mark.end_to_end

HEAVY = ("torch", "torchvision", "mlflow", "statsmodels", "pandas", "sklearn")
NOT_TO_PLAN = (
    "torch._dynamo",
    "torchvision",
    "mlflow",
    "scipy",
    "statsmodels",
    "sklearn",
    "pandas",
    "pyarrow",
    "matplotlib",
)


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], HEAVY),
        (["--version"], HEAVY),
        (["run", "--help"], HEAVY),
        (["studies"], HEAVY),
        (["interventions"], HEAVY),
        (["init", "-h"], HEAVY),
        (["run", "--dry-run"], NOT_TO_PLAN),
        (["run", "numbers", "--dry-run"], NOT_TO_PLAN),
    ],
)
def test_commands_import_nothing_heavy_without_need(
    arguments: list[str], heavy: tuple[str, ...]
) -> None:
    code = (
        "import atexit, sys\n"
        f"sys.argv = ['sublim-causal', *{arguments!r}]\n"
        f"imported = lambda: [name for name in {heavy!r} if name in sys.modules]\n"
        "atexit.register(lambda: print(imported(), file=sys.stderr))\n"
        "from sublim_causal.study.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert done.stdout


def test_training_does_not_import_the_compiler_of_torch() -> None:
    code = (
        "import sys\n"
        "from tests.experiment.small import run_small, small_experiment\n"
        "run_small(small_experiment(), [0])\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "False", done.stderr


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, sublim_causal; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quikstart"], "did you mean 'quickstart'"),
        (["run", "--set", "distillation.epoch=2"], "did you mean 'epochs'"),
        (["run", "--arms", "baseline,projektion"], "did you mean 'projection'"),
        (["run", "--seeds", "0"], "seeds"),
        (["run", "--seeds", "two"], "--seeds"),
        (["run", "--precision", "fp8"], "fp64, fp32, tf32, bf16"),
        (["run", "--device", "tpu"], "auto, cpu or cuda"),
        (["run", "--memory", "1K"], "--memory"),
        (["run", "--memory", "lots"], "6G"),
        (["run", "--set", "model.class=resnet"], "mlp, cnn"),
        (["run", "paper", "--data-dir", "nowhere"], "SUBLIM_DATA"),
        (["run", "--colour"], "--colour"),
        (["status", "nothing-here"], "not a run directory"),
        (["sync", "nothing-here"], "not a run directory"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_a_wrong_request_is_reported_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    refused = sublim(*arguments, cwd=tmp_path)
    assert refused.returncode == 2, refused.stderr
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_power_computes_seeds_from_a_pilot(tmp_path: Path) -> None:
    truth = simulate(Truth(n_seeds=6, n_steps=5), rng=0)
    write_run(tmp_path / "pilot", truth)
    done = sublim("power", "pilot", "--wanted", "0.01", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "projection - baseline" in done.stdout
    assert "power 0.8" in done.stdout
    assert "upper 80 % confidence limit" in done.stdout
    assert "power 0.8: to detect 0.05;" in done.stdout  # the margin of the primary plan
    asked = sublim("power", "pilot", "--difference", "0.3", "--at", "8,12", cwd=tmp_path)
    assert "power 0.8: to detect 0.3;" in asked.stdout
    assert "power to detect 0.3 by each look" in " ".join(asked.stdout.split())
    planned = ("--boundary", "anytime", "--slope", "0.05")
    looked = sublim("power", "pilot", *planned, cwd=tmp_path)
    told = " ".join(looked.stdout.split())
    assert "power to detect 0.05 by each look (anytime)" in told
    assert "gain on cos_gradient: power to detect a slope of 0.05, by each look (anytime)" in told
    pocock = sublim("power", "pilot", "--boundary", "pocock", cwd=tmp_path)
    assert "--boundary: 'pocock' is not allowed" in pocock.stderr
    control = sublim("power", "pilot", "--margin", "0.05", cwd=tmp_path)
    assert "equal ±0.05" in control.stdout
    missing = sublim("power", "pilot", "--outcome", "sum_gain", cwd=tmp_path)
    assert missing.returncode == 2
    assert "--difference: missing" in missing.stderr
    wrong = sublim("power", "pilot", "--outcome", "final_acuracy", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "final_accuracy" in wrong.stderr


def test_a_directory_that_is_not_a_run_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    refused = sublim("run", *TINY, "--out", tmp_path, cwd=tmp_path)
    assert refused.returncode == 2
    assert "not a run directory" in refused.stderr
    assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == ["precious.txt"]


def test_a_dry_run_shows_the_cost_and_what_is_missing_and_writes_nothing(tmp_path: Path) -> None:
    done = sublim("run", "paper", "--dry-run", "--data-dir", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "data set 'mnist' is not in" in done.stderr
    for part in ("120 (30 seeds x 4 arms)", "36,750", "memory", "time"):
        assert part in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_mirror_does_not_stop_the_study(tmp_path: Path) -> None:
    done = sublim(
        "run", *TINY, "--seeds", "1", "--tracking-uri", "http://127.0.0.1:9", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "sublim-causal sync" in done.stderr
    repaired = sublim("sync", "runs/quickstart", cwd=tmp_path)
    assert "4 replicates written, 0 were there" in repaired.stdout, repaired.stderr
    again = sublim("sync", "runs/quickstart", cwd=tmp_path)
    assert "0 replicates written, 4 were there" in again.stdout


MY_INTERVENTION = '''
class Damped:
    """Halve the gradient."""

    space = "gradient"
    uses_trait = False

    def __init__(self, factor=0.5):
        self.factor = factor

    def init(self, context):
        return None

    def apply(self, vector, g_trait, state, context):
        return self.factor * vector, state
'''


def test_a_users_own_intervention_runs_and_may_diverge(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MY_INTERVENTION)
    (tmp_path / "study.toml").write_text(
        'name = "mine"\nseeds = 1\n[data]\nname = "digits"\n[distillation]\nexamples = 256\n'
        "epochs = 1\nbatch_size = 128\n[teacher]\nepochs = 1\n[probe]\nsize = 64\n"
        '[arms.baseline]\nintervention = "baseline"\n'
        '[arms.damped]\nintervention = "mine:Damped"\nfactor = 0.25\n'
    )
    study = (tmp_path / "study.toml", "--no-report", "--tracking-uri", "none")
    done = sublim("run", *study, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "its own code: mine:Damped in" in done.stderr
    endless = ("--set", "arms.damped.factor=inf", "--out", "diverged")
    done = sublim("run", *study, *endless, cwd=tmp_path)
    assert done.returncode == 1
    assert "damped, seed 0: diverged (loss or update became non-finite at step 1)" in done.stderr
    wrong = sublim("run", *study, "--set", "arms.damped.size=1", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "size" in wrong.stderr


BRACKETS = """
class Broken:
    space = "gradient"
    uses_trait = False

    def init(self, context):
        return None

    def apply(self, vector, g_trait, state, context):
        if context.step == 3:
            raise ValueError("bad shape [/x] of [red]")
        return vector, state
"""


def test_brackets_in_names_paths_and_errors_are_shown_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BRACKETS)
    (tmp_path / "study.toml").write_text(
        'name = "b"\nseeds = 1\n[data]\nname = "digits"\n[distillation]\nexamples = 256\n'
        "epochs = 2\nbatch_size = 128\n[teacher]\nepochs = 1\n[probe]\nsize = 64\n"
        '[arms."[red]"]\nintervention = "baseline"\n'
        '[arms.broken]\nintervention = "broken:Broken"\n'
    )
    place = "runs [v2]/p[/b]q"
    options = ("--tracking-uri", "none", "--no-report", "--out", place)
    done = sublim("run", tmp_path / "study.toml", *options, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    reason = "broken:Broken at step 3 failed with ValueError: bad shape [/x] of [red]"
    assert f"broken, seed 0: failed ({reason})" in done.stderr
    assert f"Tables: {place}\n" in done.stdout
    assert f"sublim-causal ui '{place}'" in done.stdout
    shown = sublim("status", place, cwd=tmp_path)
    assert " [red] " in done.stdout
    assert " [red] " in shown.stdout


def test_ctrl_c_outside_of_training_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()

    @app.command()
    def wait() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["sublim-causal"])
    with pytest.raises(SystemExit) as end:
        guarded(app)
    assert end.value.code == 130
    assert "Stopped at once" in capsys.readouterr().err


def test_a_report_makes_no_mirror_that_was_declined(tmp_path: Path) -> None:
    truth = simulate(Truth(n_seeds=1, n_steps=10, arms={"baseline": ArmTruth()}), rng=0)
    for name in ("mirrored", "declined"):
        write_run(tmp_path / "runs" / name, truth)
    assert sublim("sync", "runs/mirrored", cwd=tmp_path).returncode == 0
    (tmp_path / "plan.toml").write_text(PLAN)
    report = sublim("report", "runs/declined", "--plan", "plan.toml", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    store = f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    assert not is_mirrored(tmp_path / "runs" / "declined", store)
    assert is_mirrored(tmp_path / "runs" / "mirrored", store)


def test_what_nobody_would_read_is_shown_in_part(tmp_path: Path) -> None:
    for words in (["status", "x" * 5000], ["run", "x" * 5000 + ".toml", "--dry-run"]):
        refused = sublim(*words, cwd=tmp_path)
        assert refused.returncode == 2
        assert "File name too long" in refused.stderr
        assert len(refused.stderr) < 600


def test_a_study_of_too_many_arms_is_refused_at_once(tmp_path: Path) -> None:
    arms = "".join(f"[arms.a{n}]\nintervention = 'baseline'\n" for n in range(1001))
    (tmp_path / "many.toml").write_text(f"name = 'many'\ndata.name = 'digits'\n{arms}")
    refused = sublim("run", "many.toml", "--dry-run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "many.toml: arms: " in refused.stderr
    assert "at most 1,000 entries" in refused.stderr


def test_a_layer_that_the_network_lacks_is_refused_with_the_file(tmp_path: Path) -> None:
    for field in ("student.layers.9=other", "channel={name='representation',layer='9'}"):
        wrong = ("--set", f"arms.liminal.{field}", "--tracking-uri", "none")
        refused = sublim("run", *TINY, *wrong, cwd=tmp_path)
        assert refused.returncode == 2
        assert "quickstart.toml with --set: arms.liminal." in refused.stderr
        assert "'9' is not allowed\nallowed: " in refused.stderr
        assert "\nremedy: " in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_may_lie_anywhere(six_seeds: Path, tmp_path: Path) -> None:
    run = tmp_path / "a b'c\"d\n$(x);*?[x]#%41=\\é\N{GRINNING FACE}"
    shutil.copytree(six_seeds, run)
    for verb in ("status", "compact", "status"):
        done = sublim(verb, run, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    same_tables(run, six_seeds)
