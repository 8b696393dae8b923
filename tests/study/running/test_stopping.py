"""Seeds added by a stopping rule, as a user runs it: recorded, resumed, refused, analysed."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest

from sublim_causal.analysis.arms import looks
from sublim_causal.analysis.arms.stopping import Stopping
from sublim_causal.analysis.plan.file import load_plan
from sublim_causal.experiment.tasks import build_task
from sublim_causal.store.manifest import read_manifest
from sublim_causal.study.running import stopping
from sublim_causal.study.spec.reading import load_study
from tests.study.commands import PLAN, TINY, same_tables, sublim

pytestmark = pytest.mark.end_to_end

ARMS = ("--arms", "baseline,projection", "--tracking-uri", "none")
NEVER = ("--until", "width(projection - baseline) < 1e-9", "--at", "3,4,5")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reached its last look."""
    cwd = tmp_path_factory.mktemp("runs")
    done = sublim("run", *TINY, *ARMS, *NEVER, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "Look 1 of 3, 3 seeds" in done.stderr
    assert "Not reached at the last look: width(projection - baseline) < 1e-09." in done.stderr
    return cwd / "runs" / "quickstart"


def test_a_stopped_run_equals_one_of_as_many_seeds(finished: Path, tmp_path: Path) -> None:
    done = sublim("run", *TINY, *ARMS, "--seeds", "5", cwd=tmp_path)
    assert done.returncode == 0
    same_tables(finished, tmp_path / "runs" / "quickstart")
    one, other = (read_manifest(run) for run in (finished, tmp_path / "runs" / "quickstart"))
    assert one["digest"] == other["digest"]
    assert one["study"] == other["study"]


def test_every_look_is_recorded(finished: Path) -> None:
    record = read_manifest(finished)["stopping"]
    assert [look["seeds"] for look in record["looks"]] == [3, 4, 5]
    assert [look["stop"] for look in record["looks"]] == [False, False, True]
    assert record["rule"]["looks"] == [3, 4, 5]


def test_the_rule_is_recorded_before_anything_is_run(tmp_path: Path) -> None:
    with mock.patch.object(looks, "take_look", side_effect=KeyboardInterrupt):
        sublim("run", *TINY, *ARMS, *NEVER, cwd=tmp_path)
    record = read_manifest(tmp_path / "runs" / "quickstart")["stopping"]
    assert record["looks"] == []
    assert record["rule"]["looks"] == [3, 4, 5]


def test_a_run_stopped_at_a_look_goes_on_by_the_recorded_rule(
    finished: Path, tmp_path: Path
) -> None:
    take_look = looks.take_look

    def second_fails(rule, replicates, place):  # type: ignore[no-untyped-def]
        if place == 1:
            raise KeyboardInterrupt
        return take_look(rule, replicates, place)

    with mock.patch.object(looks, "take_look", second_fails):
        sublim("run", *TINY, *ARMS, *NEVER, cwd=tmp_path)
    run = tmp_path / "runs" / "quickstart"
    assert len(read_manifest(run)["stopping"]["looks"]) == 1
    done = sublim("run", *TINY, *ARMS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same_tables(finished, run)
    assert read_manifest(run)["stopping"] == read_manifest(finished)["stopping"]


def test_a_goal_that_is_reached_ends_the_run(tmp_path: Path) -> None:
    goal = ("--until", "projection - baseline equivalent 0.9", "--at", "3,4", "--max-seeds", "9")
    done = sublim("run", *TINY, *ARMS, *goal, "--boundary", "anytime", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "runs" / "quickstart")
    last = manifest["stopping"]["looks"][-1]
    assert last["reached"]
    assert manifest["study"]["seeds"] == last["seeds"] < 9
    again = sublim("run", *TINY, *ARMS, cwd=tmp_path)
    assert again.returncode == 0
    assert read_manifest(tmp_path / "runs" / "quickstart") == manifest


@pytest.mark.parametrize("name", ["quickstart", "numbers"])
def test_the_outcome_of_the_task_is_compared_unless_another_is_named(name: str) -> None:
    study = load_study(name)
    until = "width(projection - baseline) < 1"
    rule = stopping.asked_rule(study, {"until": until})
    assert rule is not None
    assert rule.outcome == build_task(study).outcome.name
    named = study.model_copy(update={"stopping": Stopping(until=until, outcome="sum_gain")})
    rule = stopping.asked_rule(named, {})
    assert rule is not None
    assert rule.outcome == "sum_gain"


def test_a_study_file_may_hold_the_rule(tmp_path: Path) -> None:
    rule = ("--set", "stopping.until=projection - baseline excludes 9", "--set", "stopping.at=[3]")
    done = sublim("run", *TINY, *ARMS, *rule, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Reached: projection - baseline excludes 9." in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--until", "excludes 0", "--at", "3,4,6"), "looks: [3, 4, 5] -> [3, 4, 6]"),
        (("--boundary", "anytime", *NEVER), "boundary: 'obrien-fleming' -> 'anytime'"),
        (("--seeds", "9"), "--seeds: 9 is not allowed"),
        (("--shard", "1/2"), "--shard: '1/2' is not allowed"),
    ],
)
def test_a_changed_rule_is_refused(finished: Path, options: tuple[str, ...], told: str) -> None:
    before = read_manifest(finished)
    done = sublim("run", *TINY, *ARMS, *options, cwd=finished.parents[1])
    assert done.returncode == 2
    assert told in done.stderr
    assert read_manifest(finished) == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--at", "3,4"), "--at: (3, 4) is not allowed\nallowed: nothing, without a goal"),
        (("--until", "p < 0.05"), "--until: 'p < 0.05' is not allowed"),
        (("--until", "excludes 0", "--at", "3,x"), "--at: '3,x' is not allowed"),
        (("--until", "excludes 0", "--at", "9,4"), "--at: '9, 4' is not allowed"),
        (("--until", "excludes 0", "--max-seeds", "9"), "--max-seeds: 9 is not allowed"),
        (("--until", "excludes 0", "--boundary", "pocock"), "--boundary: 'pocock' is not allowed"),
        (("--until", "liminal - baseline excludes 0"), "arms of the study: baseline, projection"),
    ],
)
def test_a_wrong_rule_is_refused(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    done = sublim("run", *TINY, *ARMS, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_run_without_a_rule_takes_none_later_and_counts_its_looks(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    for seeds in ("3", "4"):
        sublim("run", *TINY, *ARMS, "--seeds", seeds, cwd=tmp_path)
    refused = sublim("run", *TINY, *ARMS, *NEVER, cwd=tmp_path)
    assert refused.returncode == 2
    assert "was started without a stopping rule" in refused.stderr
    run = tmp_path / "runs" / "quickstart"
    assert read_manifest(run)["seed_counts"] == [3, 4]
    done = sublim("analyse", run, "--plan", "plan.toml", cwd=tmp_path)
    assert "analysed with 3 and 4 seeds and no stopping rule" in done.stdout


def test_an_analysis_of_an_incomplete_run_is_a_look(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    sublim("run", *TINY, *ARMS, "--seeds", "4", "--seed-range", "0-2", cwd=tmp_path)
    run = tmp_path / "runs" / "quickstart"
    sublim("analyse", run, "--plan", "plan.toml", cwd=tmp_path)
    assert read_manifest(run)["seed_counts"] == [3]
    sublim("run", *TINY, *ARMS, "--seeds", "4", cwd=tmp_path)
    assert read_manifest(run)["seed_counts"] == [3, 4]


def test_analyse_knows_the_rule(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    out = tmp_path / "results.json"
    done = sublim("analyse", finished, "--plan", "plan.toml", "--out", out, cwd=tmp_path)
    assert "O'Brien-Fleming look 3 of 3" in done.stdout
    (row,) = json.loads(out.read_text())["results"]
    last = read_manifest(finished)["stopping"]["looks"][-1]
    assert (row["conf_low"], row["conf_high"]) == pytest.approx((last["low"], last["high"]))


RULE = '\n[stopping]\nuntil = "projection - reference excludes 9"\nat = [3]\n'


def test_a_plan_may_hold_the_rule_and_an_analysis_keeps_to_it(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN + RULE)
    double = ("--plan", "plan.toml", "--until", "excludes 0")
    assert (
        "--until: 'excludes 0' is not allowed"
        in sublim("run", *TINY, *ARMS, *double, cwd=tmp_path).stderr
    )
    own = ("--plan", "plan.toml", "--set", "stopping.until=excludes 0")
    assert "one rule; the plan has one" in sublim("run", *TINY, *ARMS, *own, cwd=tmp_path).stderr
    done = sublim("run", *TINY, *ARMS, "--plan", "plan.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "quickstart"
    record = read_manifest(run)["stopping"]
    assert record["rule"]["plan"] == load_plan(plan).digest
    assert sublim("analyse", run, "--plan", "plan.toml", cwd=tmp_path).returncode == 0
    plan.write_text(PLAN + RULE.replace("[3]", "[3, 9]"))
    changed = sublim("analyse", run, "--plan", "plan.toml", cwd=tmp_path)
    assert changed.returncode == 2
    assert f"follows the rule of another or older plan, digest {record['rule']['plan']}" in (
        changed.stderr
    )


def test_an_analysis_by_a_rule_that_no_run_followed_is_refused(
    finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN + RULE)
    done = sublim("analyse", finished, "--plan", "plan.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "follows another rule: width(projection - baseline) < 1e-09" in done.stderr
