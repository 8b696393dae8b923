"""An open mirror of a run: what is written to MLflow, and when."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from sublim_causal.errors import escaped
from sublim_causal.store import blocks, tables
from sublim_causal.store.connection import reaching
from sublim_causal.store.curves import (
    ArmCurves,
    BinSums,
    Point,
    arm_figures,
    bin_sums,
    block_curves,
    digest_of_files,
    digest_of_params,
    digest_of_rows,
    figures,
    mean_points,
    summary,
)
from sublim_causal.store.manifest import read_manifest
from sublim_causal.store.mirrored import STUDY, Key, Mirrored, MirroredRuns, milliseconds
from sublim_causal.store.schema import arrow_schema


@dataclass(frozen=True)
class SyncResult:
    """What a mirror holds after `Mirror.finish`."""

    experiment_id: str
    """MLflow experiment, named as the study."""
    study_run_id: str
    """MLflow run of the study."""
    written: int
    """Replicates written or replaced by this mirror."""
    unchanged: int
    """Replicates that the mirror held before."""
    left_out: int
    """Replicates in the tables that the mirror does not show individually."""


@dataclass(frozen=True)
class Mirror:
    """An open mirror of one run directory, made by `open_mirror`. Not for concurrent calls."""

    run: Path
    tracking_uri: str = field(repr=False)
    replicates: bool
    _runs: MirroredRuns
    _seen: set[tuple[str, str]] = field(default_factory=set, repr=False)
    _written: list[Key] = field(default_factory=list, repr=False)
    _sums: dict[str, tuple[str, BinSums]] = field(default_factory=dict, repr=False)
    """Digest of the rows of an arm, and the sums of their curves."""
    _shown: dict[str, dict[tuple[str, int], float]] = field(default_factory=dict, repr=False)
    """Points of the run of an arm that is still open."""

    def forgive_waiting(self) -> None:
        """Begin anew to count how long other processes let this one wait for the store."""
        self._runs.client.waited = 0.0

    def mirror_new(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Write the replicates of committed blocks that are not mirrored yet.

        Parameters
        ----------
        progress : callable, optional
            Called after each arm of a block with the number done and the number in all.

        Returns
        -------
        int
            Replicates written.

        Raises
        ------
        TrackingError
            If the store cannot be reached; call again, or `sync`, to continue.
        """
        if not self.replicates:
            return 0
        new = [pair for pair in blocks.committed(self.run) if pair not in self._seen]
        before = len(self._written)
        for done, (arm, block) in enumerate(new, start=1):
            self._mirror_block(arm, block)
            self._seen.add((arm, block))
            if progress:
                progress(done, len(new))
        return len(self._written) - before

    def update_arms(self, training: Collection[ArmCurves] = ()) -> None:
        """Write the arms as far as they have come; their runs stay open.

        Where all points stay as they are, new ones are added to the run of an arm; otherwise the
        run is replaced.

        Parameters
        ----------
        training : collection of ArmCurves
            Curves so far of the blocks that are being trained, one a block.

        Raises
        ------
        TrackingError
            If the store cannot be reached.
        """
        rows = self._replicate_rows()
        with reaching(self.tracking_uri):
            self._mirror_means(rows, training, status="RUNNING")
            self._runs.nest()

    def finish(self) -> SyncResult:
        """Write the arms and the study: mean curves, final figures, summary and report.

        The study's run is closed if the manifest says when it was finished; so call this after
        the manifest is final. May be called again.

        Raises
        ------
        TrackingError
            If the store cannot be reached.
        """
        rows = self._replicate_rows()
        with reaching(self.tracking_uri):
            self._delete_others(rows)
            if len(rows):
                self._mirror_means(rows)
                self._upload(rows)
            self._runs.nest()
            self._close()
        mirrored = sum(kind == "replicate" for kind, _, _ in self._runs.known)
        return SyncResult(
            experiment_id=self._runs.experiment_id,
            study_run_id=self.study_run().run_id,
            written=len(self._written),
            unchanged=mirrored - len(self._written),
            left_out=len(rows) - mirrored,
        )

    def _replicate_rows(self) -> pd.DataFrame:
        if any(blocks.committed(self.run)):
            return tables.read_table(self.run, "replicates")
        empty = arrow_schema("replicates", partitioned=False).empty_table()
        return empty.to_pandas()

    def _mirror_block(self, arm: str, block: str) -> None:
        rows = tables.read_table(self.run, "replicates", arms=[arm], blocks=[block])
        seeds = {seed: rows[rows["seed"] == seed] for seed in rows["seed"].tolist()}
        stale = {
            seed: row
            for seed, row in seeds.items()
            if not self._runs.holds(("replicate", arm, str(seed)), digest_of_rows(row))
        }
        if not stale:
            return
        curves = block_curves(self.run, arm, block)
        with reaching(self.tracking_uri):
            for seed, row in stale.items():
                self._mirror_replicate(arm, seed, row, curves.get(seed, []))

    def _mirror_replicate(
        self, arm: str, seed: int, row: pd.DataFrame, curves: list[Point]
    ) -> None:
        values = row.iloc[0]
        key = ("replicate", arm, str(seed))
        self._runs.write(
            key,
            digest_of_rows(row),
            name=f"{arm} seed {seed}",
            params={"seed": str(seed)} | self._runs.about.arm_params(arm),
            points=curves + figures(values),
            tags={
                "seed": str(seed),
                "status": values["status"],
                "sublim.status": values["status"],
                "sublim.reason": values["reason"],
            },
            status="FINISHED" if values["status"] == "complete" else "FAILED",
            seconds=0.0 if pd.isna(values["seconds"]) else values["seconds"],
        )
        self._written.append(key)

    def _mirror_means(
        self, rows: pd.DataFrame, training: Collection[ArmCurves] = (), status: str = "FINISHED"
    ) -> None:
        arms = {*rows["arm"], *(arm for curves in training for arm in curves)}
        for arm in _in_order(arms, self._runs.about.arms):
            of_arm = rows[rows["arm"] == arm]
            digest = digest_of_rows(of_arm)
            if self._runs.holds(("arm", arm, ""), digest):
                continue
            parts = [curves[arm] for curves in training if arm in curves]
            points = self._arm_points(arm, of_arm, digest, parts)
            if status == "RUNNING" and self._add_points(arm, points):
                continue
            seconds = of_arm["seconds"].sum()
            self._runs.write_arm(arm, digest, points=points, status=status, seconds=seconds)
            self._shown[arm] = _by_place(points)

    def _arm_points(
        self, arm: str, rows: pd.DataFrame, digest: str, training: Sequence[BinSums]
    ) -> list[Point]:
        if arm not in self._sums or self._sums[arm][0] != digest:
            complete = rows[rows["status"] == "complete"]
            self._sums[arm] = digest, bin_sums(self.run, arm, complete["seed"].tolist())
        return mean_points([self._sums[arm][1], *training]) + arm_figures(rows)

    def _add_points(self, arm: str, points: list[Point]) -> bool:
        """Add what is new to the open run of `arm`; False, where a point has another value now."""
        shown, now = self._shown.get(arm), _by_place(points)
        if shown is None or shown.items() - now.items():
            return False
        new = [(name, step, now[name, step]) for name, step in now.keys() - shown.keys()]
        self._runs.log(("arm", arm, ""), points=new)
        self._shown[arm] = now
        return True

    def study_run(self) -> Mirrored:
        """Return the study's run; it is written where none has the same parameters."""
        about, known = self._runs.about, self._runs.known
        params = about.all_params()
        digest = digest_of_params(params)
        if STUDY not in known or known[STUDY].digest != digest:
            note = {"mlflow.note.content": escaped(about.manifest.get("title", ""))}
            self._runs.write(
                STUDY, digest, name=about.directory, params=params, tags=note, status="RUNNING"
            )
        return known[STUDY]

    def _delete_others(self, rows: pd.DataFrame) -> None:
        """Delete the runs of arms and replicates that the tables no longer hold."""
        pairs = set(zip(rows["arm"], rows["seed"].astype(str), strict=True))
        present = {("replicate", *pair) for pair in pairs} | {("arm", arm, "") for arm, _ in pairs}
        self._runs.delete(self._runs.known.keys() - present - {STUDY})

    def _upload(self, rows: pd.DataFrame) -> None:
        """Store summary, replicates, manifest, study file and report with the study's run."""
        study = self.study_run()
        with tempfile.TemporaryDirectory() as directory:
            summary(rows).to_csv(Path(directory) / "summary.csv", index=False)
            rows.to_csv(Path(directory) / "replicates.csv", index=False)
            _copy_documents(self.run, Path(directory))
            files = _files(Path(directory))
            digest = digest_of_files(files)
            if digest == study.artifacts:
                return
            self._runs.client.log_artifacts(study.run_id, directory)
        self._runs.client.set_tag(study.run_id, "sublim.artifacts", digest)
        self._runs.known[STUDY] = replace(study, artifacts=digest)

    def _close(self) -> None:
        study, finished = self.study_run(), read_manifest(self.run).get("finished")
        if finished and study.status != "FINISHED":
            self._runs.close(STUDY, "FINISHED", milliseconds(finished))


def _by_place(points: Iterable[Point]) -> dict[tuple[str, int], float]:
    """Return the values of `points` by metric and step."""
    return {(name, step): value for name, step, value in points}


def _in_order(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """Return `names` in the order of `order`, and sorted those that it lacks."""
    place = {name: i for i, name in enumerate(order)}
    return sorted(names, key=lambda name: (place.get(name, len(place)), name))


def _copy_documents(run: Path, folder: Path) -> None:
    """Copy the files of a run that are not tables into `folder`."""
    for path in [run / "manifest.json", run / "study.toml", *(run / "report").rglob("*")]:
        if path.is_file():
            copy = folder / path.relative_to(run).as_posix()
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())


def _files(folder: Path) -> dict[str, Path]:
    """Return the files under `folder` by their path within it."""
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
