"""Mirror a run in MLflow, for browsing: a run of the study, and of each arm, its replicates below.

The tables are the record; the mirror is made from them alone and may be thrown away. Its runs are
found again by the tags ``sublim.run``, ``sublim.kind``, ``sublim.arm`` and ``sublim.seed``, and
carry a digest of what they mirror, so that a run is written once and replaced when its rows
change. MLflow is imported on first use only, and none of its global state is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sublim_causal.errors import escaped
from sublim_causal.location import validate_files
from sublim_causal.store import tables
from sublim_causal.store.connection import connect, reaching
from sublim_causal.store.lock import mirroring
from sublim_causal.store.manifest import read_manifest
from sublim_causal.store.mirror import Mirror, SyncResult
from sublim_causal.store.mirrored import Description, MirroredRuns, find_experiment, find_runs

REPLICATE_LIMIT = 500
"""Above this number of replicates only the study and its arms are mirrored, unless asked."""


def open_mirror(
    run: Path,
    tracking_uri: str,
    *,
    replicates: bool = True,
    answered: Callable[[], None] = lambda: None,
) -> Mirror:
    """Open the mirror of a run directory, and make the store, experiment and study's run.

    Parameters
    ----------
    run : Path
        Run directory; its manifest must be there, blocks need not.
    tracking_uri : str
        MLflow tracking store: ``sqlite:///...``, another database, or a server's address.
    replicates : bool
        Whether to write a run for each replicate, or for the study and its arms only.
    answered : callable, optional
        Called after every write that the store has accepted.

    Raises
    ------
    RequestError
        If `tracking_uri` is not an address.
    RunError
        If `run` is not a run directory, or there is a symbolic link in it.
    TrackingError
        If the store cannot be reached, within about 15 seconds.
    """
    validate_files(run)
    manifest = read_manifest(run)
    with reaching(tracking_uri):
        client = connect(tracking_uri)
        experiment_id = find_experiment(client, tracking_uri, escaped(manifest["name"]))
        known = find_runs(client, experiment_id, manifest["run_id"])
        runs = MirroredRuns(Description(run, manifest), known, experiment_id, client, answered)
        mirror = Mirror(run, tracking_uri, replicates, runs)
        mirror.study_run()
    return mirror


def is_mirrored(run: Path, tracking_uri: str) -> bool:
    """Return whether the store holds a mirror of a run directory.

    Raises
    ------
    RunError
        If `run` is not a run directory.
    TrackingError
        If the store cannot be reached.
    """
    manifest = read_manifest(run)
    with reaching(tracking_uri):
        client = connect(tracking_uri)
        found = client.get_experiment_by_name(escaped(manifest["name"]))
        return bool(found and find_runs(client, found.experiment_id, manifest["run_id"]))


def sync(
    run: Path,
    tracking_uri: str,
    *,
    replicates: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
    answered: Callable[[], None] = lambda: None,
) -> SyncResult:
    """Complete the mirror of a run directory; a second call changes nothing.

    Parameters
    ----------
    run, tracking_uri, answered
        As for `open_mirror`.
    replicates : bool, optional
        Whether to write a run for each replicate; by default if there are at most
        `REPLICATE_LIMIT`.
    progress : callable, optional
        As for `Mirror.mirror_new`.

    Raises
    ------
    RequestError
        If `tracking_uri` is not an address.
    RunError
        If `run` is not a run directory or has no finished block, or another process mirrors it.
    TrackingError
        If the store cannot be reached.
    """
    read_manifest(run)
    if replicates is None:
        with tables.reading(run, "replicates"):
            rows = tables.dataset(run, "replicates").count_rows()
        replicates = rows <= REPLICATE_LIMIT
    with mirroring(run):
        mirror = open_mirror(run, tracking_uri, replicates=replicates, answered=answered)
        mirror.mirror_new(progress)
        return mirror.finish()
