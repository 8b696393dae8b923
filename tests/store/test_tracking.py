from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sublim_causal.errors import RunError
from sublim_causal.store import removal, tables
from sublim_causal.store.connection import (
    TrackingError,
    connect,
    database_file,
    default_tracking_uri,
    reaching,
)
from sublim_causal.store.curves import CURVES, MAX_POINTS, bin_sums, binned
from sublim_causal.store.manifest import read_manifest, write_manifest
from sublim_causal.store.tracking import open_mirror, sync

MakeRun = Callable[..., Path]

# MLflow's own use of SQLAlchemy.
pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a made sqlite store without experiments: making one takes MLflow a second."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    with reaching(""):
        connect(f"sqlite:///{file}")
    return file


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_store, tmp_path / "runs" / "mlflow.db")
    return default_tracking_uri(tmp_path / "runs" / "demo")


def client_of(uri: str) -> Any:
    with reaching(uri):
        return connect(uri)


def runs_of(uri: str, kind: str, name: str = "demo") -> dict[tuple[str, str], Any]:
    """Return the runs of a kind by arm and seed, and check that none is there twice."""
    client = client_of(uri)
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id], f"tags.`sublim.kind` = '{kind}'")
    keyed = {(run.data.tags["sublim.arm"], run.data.tags["sublim.seed"]): run for run in runs}
    assert len(keyed) == len(runs)
    return keyed


def everything(uri: str) -> list[object]:
    """Return all that the store knows of the runs, the points of every curve among it."""
    client = client_of(uri)
    experiment = client.get_experiment_by_name("demo")
    return [
        (
            run.to_dictionary(),
            [
                dict(point)
                for metric in sorted(run.data.metrics)
                for point in client.get_metric_history(run.info.run_id, metric)
            ],
        )
        for run in client.search_runs([experiment.experiment_id], run_view_type=3)
    ]


def test_a_run_for_the_study_each_arm_and_each_replicate(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=range(3))
    result = sync(run, uri)
    assert (result.written, result.unchanged, result.left_out) == (6, 0, 0)

    (study,) = runs_of(uri, "study").values()
    arms, replicates = runs_of(uri, "arm"), runs_of(uri, "replicate")
    assert study.info.run_id == result.study_run_id
    assert set(arms) == {("baseline", ""), ("projection", "")}
    assert set(replicates) == {(a, str(s)) for a in ("baseline", "projection") for s in range(3)}
    assert (study.info.run_name, arms["projection", ""].info.run_name) == (
        "demo",
        "projection (demo)",
    )
    for one in [study, *arms.values()]:  # charts show what is not folded away under another run
        assert "mlflow.parentRunId" not in one.data.tags
    for (arm, _), child in replicates.items():
        assert child.data.tags["mlflow.parentRunId"] == arms[arm, ""].info.run_id
    for one in [study, *arms.values(), *replicates.values()]:
        assert one.data.tags["sublim.run"] == read_manifest(run)["run_id"]
        assert one.data.tags["directory"] == "demo"
        assert one.info.status == "FINISHED"


def test_arms_and_seeds_are_listed_in_the_order_of_the_study(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=range(3))
    manifest = read_manifest(run)
    arms = dict(reversed(manifest["study"]["arms"].items()))
    write_manifest(run, {**manifest, "study": {**manifest["study"], "arms": arms}})
    experiment = sync(run, uri).experiment_id
    listed = client_of(uri).search_runs([experiment], order_by=["attributes.start_time DESC"])
    shown = [(one.data.tags["sublim.arm"], one.data.tags["sublim.seed"]) for one in listed]
    assert [arm for arm, seed in shown if not seed] == ["", "projection", "baseline"]
    assert [seed for arm, seed in shown if seed and arm == "baseline"] == ["0", "1", "2"]


def test_runs_are_found_by_arm_seed_and_status(make_run: MakeRun, uri: str) -> None:
    experiment = sync(make_run(seeds=range(3)), uri).experiment_id

    def found(text: str) -> int:
        return len(client_of(uri).search_runs([experiment], text))

    assert found("tags.arm = 'projection'") == 4
    assert found("tags.arm = 'projection' and tags.seed = '2'") == 1
    assert found("tags.status = 'complete'") == 6
    assert found("tags.directory = 'demo'") == 9


def test_a_replicate_shows_parameters_figures_and_binned_curves(
    make_run: MakeRun, uri: str
) -> None:
    run = make_run(seeds=[4], steps=120)
    sync(run, uri)
    mirrored = runs_of(uri, "replicate")["projection", "4"]
    assert mirrored.info.run_name == "projection seed 4"
    assert mirrored.data.params["seed"] == "4"
    assert mirrored.data.params["arm"] == "projection"
    assert mirrored.data.params["arm.strength"] == "1.0"
    assert mirrored.data.params["distillation.lr"] == "0.0003"
    assert mirrored.data.params["precision"] == "float32"
    row = tables.read_table(run, "replicates", arms=["projection"]).iloc[0]
    assert mirrored.data.metrics["final_accuracy"] == row["final_accuracy"]
    assert mirrored.info.end_time - mirrored.info.start_time == 2500

    history = client_of(uri).get_metric_history(mirrored.info.run_id, "cos_gradient")
    steps = tables.read_table(run, "steps", arms=["projection"]).set_index("step")
    assert len(history) == MAX_POINTS
    expected = steps["cos_gradient"].groupby(binned(steps.index.to_numpy())).mean()
    assert {point.step: point.value for point in history} == pytest.approx(dict(expected))


def test_the_arms_show_mean_curves_under_the_same_names(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=range(3))
    result = sync(run, uri)
    (study,) = runs_of(uri, "study").values()
    arms = runs_of(uri, "arm")
    for arm in arms.values():
        for metrics in CURVES.values():
            assert set(metrics) <= set(arm.data.metrics)
    rows = tables.read_table(run, "steps", arms=["baseline"])
    shown = binned(np.arange(120))[-1]
    last = rows[rows["step"] > 120 - 120 / MAX_POINTS]
    history = client_of(uri).get_metric_history(arms["baseline", ""].info.run_id, "cos_gradient")
    assert history[-1].step == shown
    assert history[-1].value == pytest.approx(last["cos_gradient"].mean(), rel=1e-12)
    assert arms["baseline", ""].data.metrics["replicates_complete"] == 3
    assert study.data.metrics == {}
    assert study.data.params["arms.projection.strength"] == "1.0"
    assert study.info.status == "FINISHED"
    assert result.experiment_id == study.info.experiment_id


def test_summary_tables_and_report_are_stored_with_the_study(make_run: MakeRun, uri: str) -> None:
    run = make_run()
    (run / "study.toml").write_text('name = "demo"\n')
    (run / "report" / "figures").mkdir(parents=True)
    (run / "report" / "index.html").write_text("<p>first</p>")
    (run / "report" / "figures" / "forest.svg").write_text("<svg/>")
    study = sync(run, uri).study_run_id
    client = client_of(uri)
    names = {file.path for file in client.list_artifacts(study)}
    assert names == {"manifest.json", "study.toml", "summary.csv", "replicates.csv", "report"}
    (stored,) = (run.parent / "mlartifacts").rglob("forest.svg")
    assert stored.parent.name == "figures"

    (run / "report" / "index.html").write_text("<p>second</p>")
    assert sync(run, uri).study_run_id == study
    (index,) = (run.parent / "mlartifacts").rglob("index.html")
    assert index.read_text() == "<p>second</p>"


def test_syncing_twice_changes_nothing(make_run: MakeRun, uri: str) -> None:
    run = make_run()
    sync(run, uri)
    before, content = everything(uri), database_file(uri).read_bytes()
    result = sync(run, uri)
    assert (result.written, result.unchanged) == (0, 4)
    assert everything(uri) == before
    assert database_file(uri).read_bytes() == content


def test_block_by_block_ends_as_a_single_sync_does(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[0], finished=None)
    mirror = open_mirror(run, uri)
    assert mirror.mirror_new() == 2
    assert mirror.mirror_new() == 0
    assert runs_of(uri, "study")["", ""].info.status == "RUNNING"
    make_run(seeds=[1])
    calls: list[tuple[int, int]] = []
    assert mirror.mirror_new(lambda done, total: calls.append((done, total))) == 2
    assert calls == [(1, 2), (2, 2)]
    assert mirror.finish().written == 4
    assert runs_of(uri, "study")["", ""].info.status == "FINISHED"
    before = everything(uri)
    assert sync(run, uri).written == 0
    assert everything(uri) == before


def test_arms_are_shown_while_their_first_block_trains(make_run: MakeRun, uri: str) -> None:
    run, done = make_run(seeds=[], finished=None), make_run(seeds=[0], name="other")
    sums = bin_sums(done, "baseline", [0]).loc[["cos_update"]]
    places = list(sums.index.get_level_values(1))
    mirror = open_mirror(run, uri)
    shown = set()
    for bins in (3, 5):
        mirror.update_arms([{"baseline": sums.iloc[:bins]}])
        (arm,) = runs_of(uri, "arm").values()
        assert arm.info.status == "RUNNING"
        history = client_of(uri).get_metric_history(arm.info.run_id, "cos_update")
        assert sorted(point.step for point in history) == places[:bins]
        shown.add(arm.info.run_id)
    assert len(shown) == 1
    other = sums.iloc[:5] * [2.0, 1]  # the mean of another block differs
    mirror.update_arms([{"baseline": sums.iloc[:5]}, {"baseline": other}])
    (arm,) = runs_of(uri, "arm").values()
    history = client_of(uri).get_metric_history(arm.info.run_id, "cos_update")
    expected = 1.5 * sums["sum"] / sums["count"]
    assert [point.value for point in history] == pytest.approx(list(expected)[:5], rel=1e-12)


def test_arms_are_shown_while_the_study_runs(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[0], finished=None)
    mirror = open_mirror(run, uri)
    mirror.update_arms()
    mirror.mirror_new()
    make_run(seeds=[1])
    mirror.mirror_new()
    mirror.update_arms()
    for arm in runs_of(uri, "arm").values():
        assert arm.info.status == "RUNNING"
        assert arm.data.metrics["replicates_complete"] == 2
        assert "cos_update" in arm.data.metrics
    mirror.finish()
    arms = runs_of(uri, "arm")
    assert {arm.info.status for arm in arms.values()} == {"FINISHED"}
    for (arm, _), one in runs_of(uri, "replicate").items():
        assert one.data.tags["mlflow.parentRunId"] == arms[arm, ""].info.run_id


def test_options_that_no_file_gives_are_parameters_too(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[0])
    arms = {"projection": {"0.strength": 0.5, "0.when": "positive", "intervention": "projection"}}
    write_manifest(run, {**read_manifest(run), "arms": arms})
    experiment = sync(run, uri).experiment_id
    params = runs_of(uri, "arm")["projection", ""].data.params
    assert params["arm.when"] == "positive"
    assert params["arm.strength"] == "1.0"  # what the study file says goes first
    text = "params.`arms.projection.when` = 'positive'"
    assert len(client_of(uri).search_runs([experiment], text)) == 1


def test_more_seeds_replace_the_means_and_keep_the_replicates(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[0])
    first = sync(run, uri)
    kept = {key: one.info.run_id for key, one in runs_of(uri, "replicate").items()}
    make_run(seeds=[0, 1])
    second = sync(run, uri)
    assert (second.written, second.unchanged) == (2, 2)
    replicates = runs_of(uri, "replicate")
    assert {key: replicates[key].info.run_id for key in kept} == kept
    assert second.study_run_id == first.study_run_id
    arms = runs_of(uri, "arm")
    for (arm, _), one in replicates.items():
        assert one.data.tags["mlflow.parentRunId"] == arms[arm, ""].info.run_id
    history = client_of(uri).get_metric_history(arms["baseline", ""].info.run_id, "cos_gradient")
    assert len({point.step for point in history}) == len(history) == MAX_POINTS


def test_a_study_that_grew_replaces_its_run(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[0])
    first = sync(run, uri)
    manifest = read_manifest(run)
    write_manifest(run, {**manifest, "study": {**manifest["study"], "seeds": 99}})
    second = sync(run, uri)
    (study,) = runs_of(uri, "study").values()
    assert study.info.run_id == second.study_run_id != first.study_run_id
    assert study.data.params["seeds"] == "99"


class Killed(BaseException):
    """Stands for the end of the process in the middle of a write."""


CALLS = 13
"""What the mirror of one replicate asks of MLflow's client."""


def killed_after(survived: int, patch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let the client end the process after so many calls; the next number counts them."""
    from mlflow import MlflowClient

    calls = iter(range(100))

    def killed_in_time(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if next(calls) >= survived:
                raise Killed
            return method(*args, **options)

        return call

    for name in ("create_run", "log_batch", "set_terminated", "set_tag", "log_artifacts"):
        patch.setattr(MlflowClient, name, killed_in_time(getattr(MlflowClient, name)))
    return calls


def test_a_mirror_is_killed_at_each_of_its_calls_below(
    make_run: MakeRun, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(seeds=[0], arms=["baseline"])
    calls = killed_after(100, monkeypatch)
    sync(run, uri)
    assert next(calls) == CALLS


@pytest.mark.parametrize(
    "survived", [pytest.param(n, marks=[pytest.mark.slow] if n % 3 else []) for n in range(CALLS)]
)
def test_a_mirror_killed_at_any_call_is_completed(
    make_run: MakeRun, uri: str, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    run = make_run(seeds=[0], arms=["baseline"])
    with monkeypatch.context() as patch:
        killed_after(survived, patch)
        with pytest.raises(Killed):
            sync(run, uri)
    sync(run, uri)
    for kind, count in {"study": 1, "arm": 1, "replicate": 1}.items():
        runs = runs_of(uri, kind)
        assert len(runs) == count
        for one in runs.values():
            assert one.info.status == "FINISHED"
            if kind == "study":
                continue
            history = client_of(uri).get_metric_history(one.info.run_id, "cos_gradient")
            assert len({point.step for point in history}) == len(history) == MAX_POINTS
    before = everything(uri)
    sync(run, uri)
    assert everything(uri) == before


def test_a_redone_replicate_replaces_the_old_one(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[0, 1], arms=["baseline"])
    sync(run, uri)
    rows = tables.read_table(run, "replicates", blocks=["0000001-0000001"])
    diverged = rows.assign(status="diverged", reason="loss is NaN at step 7", final_accuracy=None)
    tables.write_block(run, "0000001-0000001", "baseline", {"replicates": diverged})
    result = sync(run, uri)
    assert (result.written, result.unchanged) == (1, 1)
    mirrored = runs_of(uri, "replicate")["baseline", "1"]
    assert mirrored.info.status == "FAILED"
    assert mirrored.data.tags["sublim.reason"] == "loss is NaN at step 7"
    assert "final_accuracy" not in mirrored.data.metrics
    arm = runs_of(uri, "arm")["baseline", ""].data.metrics
    assert (arm["replicates_complete"], arm["replicates_diverged"]) == (1, 1)
    only = tables.read_table(run, "replicates", blocks=["0000000-0000000"])["final_accuracy"].item()
    assert arm["final_accuracy"] == only


def test_a_replicate_gone_from_the_tables_is_gone_from_the_mirror(
    make_run: MakeRun, uri: str
) -> None:
    run = make_run(seeds=[0, 1])
    sync(run, uri)
    removal.remove_block(run, "projection", "0000001-0000001")
    sync(run, uri)
    assert ("projection", "1") not in runs_of(uri, "replicate")
    assert len(runs_of(uri, "replicate")) == 3


def test_two_runs_written_at_once_are_reduced_to_one(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[0])
    first, second = open_mirror(run, uri), open_mirror(run, uri)
    first.mirror_new()
    second.mirror_new()
    sync(run, uri)
    assert len(runs_of(uri, "replicate")) == 2


def test_without_replicates_only_study_and_arms_are_written(
    make_run: MakeRun, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sublim_causal.store.tracking.REPLICATE_LIMIT", 3)
    run = make_run(seeds=[0, 1])
    result = sync(run, uri)
    assert (result.written, result.left_out) == (0, 4)
    assert (len(runs_of(uri, "arm")), len(runs_of(uri, "replicate"))) == (2, 0)
    assert sync(run, uri, replicates=True).written == 4


def test_two_studies_share_a_store(make_run: MakeRun, uri: str) -> None:
    sync(make_run(seeds=[0], name="demo"), uri)
    sync(make_run(seeds=[0, 1], name="other"), uri)
    assert len(runs_of(uri, "replicate", "demo")) == 2
    assert len(runs_of(uri, "replicate", "other")) == 4


def test_a_deleted_experiment_is_restored(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[0])
    client_of(uri).delete_experiment(sync(run, uri).experiment_id)
    sync(run, uri)
    assert len(runs_of(uri, "replicate")) == 2


def test_odd_arm_names_and_long_values_are_mirrored(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[0], arms=["a/b=ü %"])
    manifest = read_manifest(run)
    write_manifest(
        run,
        manifest
        | {
            "study": {"note": "x" * 9000, "arms": {}, **{str(i): i for i in range(149)}, "seeds": 1}
        },
    )
    sync(run, uri)
    assert runs_of(uri, "replicate")["a/b=ü %", "0"].data.params["note"] == "x" * 6000
    (study,) = runs_of(uri, "study").values()
    assert runs_of(uri, "arm")["a/b=ü %", ""].info.run_name == "a/b=ü % (demo)"
    assert len(study.data.params) == 153


def test_a_run_without_finished_blocks_has_an_open_study(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[], finished=None)
    result = open_mirror(run, uri).finish()
    assert (result.written, result.unchanged, result.left_out) == (0, 0, 0)
    assert runs_of(uri, "study")["", ""].info.status == "RUNNING"
    with pytest.raises(RunError, match="run the study first"):
        sync(run, uri)


def test_the_global_state_of_mlflow_is_unchanged(make_run: MakeRun, uri: str) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    sync(make_run(seeds=[0]), uri)
    assert mlflow.active_run() is None
    assert mlflow.get_tracking_uri() == before


def test_the_mirror_is_silent(
    make_run: MakeRun, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sync(make_run(seeds=[0]), f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}")
    assert capfd.readouterr() == ("", "")


def test_the_module_needs_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys, sublim_causal.store.tracking, sublim_causal.store.ui;"
        "print(sorted({'torch', 'mlflow', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_store_that_fails_on_the_way_is_repaired_by_sync(
    make_run: MakeRun, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def fail(*args: object, **kwargs: object) -> None:
        raise MlflowException("connection to http://me:s3cret@host lost")

    run = make_run(seeds=[0, 1])
    mirror = open_mirror(run, uri)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        with pytest.raises(TrackingError, match=re.escape("http://***@host lost")):
            mirror.mirror_new()
    assert mirror.mirror_new() == 4
    assert mirror.finish().unchanged == 0
    assert len(runs_of(uri, "replicate")) == 4
    assert sync(run, uri).written == 0


def test_options_that_a_study_leaves_out_are_parameters_too(make_run: MakeRun, uri: str) -> None:
    run = make_run(seeds=[0])
    resolved = {"0.space": "gradient", "0.strength": 1.0, "1.layers": []}
    write_manifest(run, {**read_manifest(run), "arms": {"projection": resolved}})
    sync(run, uri)
    (study,) = runs_of(uri, "study").values()
    for prefix, found in (
        ("arms.projection", study.data.params),
        ("arm", runs_of(uri, "arm")["projection", ""].data.params),
    ):
        assert found[f"{prefix}.space"] == "gradient"
        assert found[f"{prefix}.strength"] == "1.0"
        assert found[f"{prefix}.1.layers"] == "[]"
