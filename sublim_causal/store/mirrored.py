"""The MLflow runs that mirror a run: find, write, nest and delete them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sublim_causal.errors import escaped
from sublim_causal.location import is_remote
from sublim_causal.store.connection import PatientClient, database_file
from sublim_causal.store.curves import Point, metric_name, parameters

STUDY = ("study", "", "")

METRICS, PARAMS = 900, 100
"""Points and parameters of one call: MLflow takes 1,000 values, 100 parameters among them."""

Key = tuple[str, str, str]
"""Kind (study, arm or replicate), arm and seed of a mirrored run."""


@dataclass(frozen=True)
class Mirrored:
    """An MLflow run that this package wrote, as the store holds it."""

    run_id: str
    digest: str
    """Digest of the rows it shows; empty while it is being written."""
    status: str
    parent: str = ""
    artifacts: str = ""
    """Digest of the files stored with it."""


@dataclass(frozen=True)
class Description:
    """How MLflow's runs describe the run directory `run`, from its `manifest`."""

    run: Path
    manifest: Mapping[str, Any]

    @property
    def directory(self) -> str:
        """Name of the run directory."""
        return self.run.name if is_remote(self.run) else self.run.resolve().name

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in the study's order."""
        return list(self.manifest["study"]["arms"])

    @property
    def created(self) -> int:
        """When the run was created, ms."""
        return milliseconds(self.manifest["created"])

    def start(self, key: Key) -> int:
        """Return the start time of the MLflow run of `key`, ms: lists show the latest first."""
        kind, arm, seed = key
        arms = self.arms
        place = {"study": 0, "arm": 1 + (arms.index(arm) if arm in arms else len(arms))}
        return self.created - place.get(kind, int(seed or 0))

    def study_params(self) -> dict[str, str]:
        """Return the fields of the study but its arms, with device and precision."""
        study = {name: value for name, value in self.manifest["study"].items() if name != "arms"}
        names = ("device", "precision")
        return parameters(study) | {n: str(self.manifest[n]) for n in names if n in self.manifest}

    def all_params(self) -> dict[str, str]:
        """Return the fields of the study and of all arms."""
        arms = {arm: self._options(arm) for arm in self.arms}
        return self.study_params() | parameters(arms, "arms.")

    def arm_params(self, arm: str) -> dict[str, str]:
        """Return the fields of `arm` and of the study."""
        return {"arm": arm} | parameters(self._options(arm), "arm.") | self.study_params()

    def _options(self, arm: str) -> dict[str, Any]:
        """Return the study's table of `arm`, and the options of its intervention, with defaults.

        The manifest has those of the i-th part under ``i.<option>``; those of the first are named
        as in a study file.
        """
        resolved = self.manifest.get("arms", {}).get(arm, {})
        first = {name.removeprefix("0."): value for name, value in resolved.items()}
        return first | self.manifest["study"]["arms"].get(arm, {})


@dataclass(frozen=True)
class MirroredRuns:
    """The MLflow runs of one run directory, by key.

    Attributes
    ----------
    about : Description
    known : dict of Key to Mirrored
        What the store holds.
    answered : callable
        Called after every write that the store has accepted.
    """

    about: Description
    known: dict[Key, Mirrored] = field(repr=False)
    experiment_id: str
    client: PatientClient = field(repr=False)
    answered: Callable[[], None] = field(repr=False)

    def holds(self, key: Key, digest: str) -> bool:
        """Return whether the run of `key` is complete and shows what has this `digest`."""
        known = self.known.get(key)
        return known is not None and known.digest == digest and known.status != "RUNNING"

    def write(
        self,
        key: Key,
        digest: str,
        *,
        name: str,
        params: Mapping[str, str],
        points: Iterable[Point] = (),
        tags: Mapping[str, str] | None = None,
        status: str = "FINISHED",
        seconds: float = 0.0,
    ) -> None:
        """Write a whole run in place of what the store has under `key`; its status goes last."""
        self.delete([key])  # MLflow cannot delete points
        parent, start = self.parent(key), self.about.start(key)
        run = self.client.create_run(
            self.experiment_id,
            start_time=start,
            run_name=escaped(name),
            tags={
                "sublim.run": self.about.manifest["run_id"],
                **dict(zip(("sublim.kind", "sublim.arm", "sublim.seed"), key, strict=True)),
                "sublim.digest": digest,
                "directory": escaped(self.about.directory),
                **({"arm": escaped(key[1])} if key[1] else {}),
                "mlflow.source.name": "sublim_causal",
                "mlflow.source.git.commit": str(self.about.manifest.get("git_revision") or ""),
                **({"mlflow.parentRunId": parent} if parent else {}),
                **{name: escaped(value) for name, value in (tags or {}).items()},
            },
        )
        self.known[key] = Mirrored(run.info.run_id, digest, "RUNNING", parent)
        self.log(key, params=params, points=points)
        if status != "RUNNING":
            self.close(key, status, start + round(1000 * seconds))

    def write_arm(
        self,
        arm: str,
        digest: str,
        *,
        points: Iterable[Point] = (),
        status: str = "FINISHED",
        seconds: float = 0.0,
    ) -> None:
        """Write the run of an arm."""
        self.write(
            ("arm", arm, ""),
            digest,
            name=f"{arm} ({self.about.directory})",
            params=self.about.arm_params(arm),
            points=points,
            status=status,
            seconds=seconds,
        )

    def log(
        self, key: Key, *, points: Iterable[Point], params: Mapping[str, str] | None = None
    ) -> None:
        """Add parameters and points to the run of `key`."""
        from mlflow.entities import Metric, Param

        # One time for all points: a point that is sent again after an error replaces itself.
        time = self.about.created
        metrics = [Metric(name, value, time, step) for name, step, value in points]
        shown = {metric_name(n)[:250]: escaped(v)[:6000] for n, v in (params or {}).items()}
        texts = [Param(name, value) for name, value in shown.items()]
        while texts or metrics:
            self.client.log_batch(
                self.known[key].run_id, metrics=metrics[:METRICS], params=texts[:PARAMS]
            )
            self.answered()
            metrics, texts = metrics[METRICS:], texts[PARAMS:]

    def close(self, key: Key, status: str, end: int) -> None:
        """Give the run of `key` its last status, at the time `end` in ms."""
        self.client.set_terminated(self.known[key].run_id, status=status, end_time=end)
        self.known[key] = replace(self.known[key], status=status)

    def parent(self, key: Key) -> str:
        """Return the parent of the run of `key`: replicates are nested under their arm.

        Arms have no parent: charts overlay the runs that are not folded away.
        """
        kind, arm, _ = key
        if kind != "replicate":
            return ""
        above = ("arm", arm, "")
        if above not in self.known:
            self.write(above, "", name=arm, params={}, status="RUNNING")  # until its means are
        return self.known[above].run_id

    def nest(self) -> None:
        """Nest every run under its parent, which may have been replaced."""
        for key in list(self.known):
            parent = self.parent(key)
            if self.known[key].parent != parent:
                self.client.set_tag(self.known[key].run_id, "mlflow.parentRunId", parent)
                self.known[key] = replace(self.known[key], parent=parent)

    def delete(self, keys: Iterable[Key]) -> None:
        """Delete the runs of `keys` that the store holds."""
        for key in keys:
            if key in self.known:
                self.client.delete_run(self.known.pop(key).run_id)


def find_experiment(client: PatientClient, tracking_uri: str, name: str) -> str:
    """Return the id of the experiment `name`, which is created or restored where it is missing."""
    found = client.get_experiment_by_name(name)
    if found is None:
        local = tracking_uri.startswith("sqlite")
        artifacts = database_file(tracking_uri).resolve().parent / "mlartifacts"
        return client.create_experiment(
            name,
            artifact_location=artifacts.as_uri() if local else None,
            tags={"mlflow.experimentKind": "custom_model_development"},
        )
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def find_runs(client: PatientClient, experiment_id: str, run_id: str) -> dict[Key, Mirrored]:
    """Return the MLflow runs that mirror the run `run_id`.

    Of several with one key, which two mirrors at once can leave, all but one are deleted.
    """
    known: dict[Key, Mirrored] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=f"tags.`sublim.run` = '{run_id}'",
            max_results=1000,
            page_token=token,
        )
        for run in page:
            tags = run.data.tags
            key = (tags["sublim.kind"], tags["sublim.arm"], tags["sublim.seed"])
            if key in known:
                client.delete_run(run.info.run_id)
                continue
            known[key] = Mirrored(
                run_id=run.info.run_id,
                digest=tags["sublim.digest"],
                status=run.info.status,
                parent=tags.get("mlflow.parentRunId", ""),
                artifacts=tags.get("sublim.artifacts", ""),
            )
        token = page.token
        if not token:
            return known


def milliseconds(moment: str) -> int:
    """Return an ISO 8601 time in ms since 1970."""
    return round(1000 * datetime.fromisoformat(moment).timestamp())
