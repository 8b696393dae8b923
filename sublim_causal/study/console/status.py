"""How much of a run is there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sublim_causal.errors import RequestError
from sublim_causal.store.blocks import committed, digest_of
from sublim_causal.store.damage import damaged, lost_blocks
from sublim_causal.store.lock import is_locked
from sublim_causal.store.manifest import STUDY_DIGEST, STUDY_FILE, is_own, read_manifest
from sublim_causal.store.tables import read_table
from sublim_causal.study.console.output import LINE_SECONDS
from sublim_causal.study.console.pipes import is_read

STATES = ("complete", "unreached", "diverged", "failed")
REFRESH_SECONDS = 2.0
IDLE = (
    "No process is running it; run the same study again to resume. Waiting; Ctrl-C stops waiting."
)


@dataclass(frozen=True)
class Status:
    """State of a run directory.

    Attributes
    ----------
    name, digest : str
    finished : str or None
        When the run was complete, ISO 8601.
    seeds : int
        Replicates of each arm.
    counts : dict of str to Counter
        Replicates by state, by arm.
    own : bool
        Whether it is a run of the user's own, which declares neither seeds nor an end.
    damaged : dict of Path to str
        Files that cannot be read, and why; their blocks are not counted.
    running : bool
        Whether a process holds the lock of the run.
    """

    name: str
    digest: str
    finished: str | None
    seeds: int
    counts: dict[str, Counter[str]]
    damaged: dict[Path, str]
    running: bool
    own: bool = False


def read_status(run: Path) -> Status:
    """Read the state of `run`, every file of it.

    Raises
    ------
    RunError
        If `run` is not a run directory.
    """
    manifest, lost = read_manifest(run), damaged(run)
    of_run = damaged_study(run, manifest), lost_blocks(run, manifest)
    counts = {arm: Counter[str]() for arm in manifest["study"]["arms"]}
    whole = [pair for pair in committed(run) if pair not in lost]
    for arm in counts:
        blocks = [block for a, block in whole if a == arm]
        if blocks:
            only = blocks if lost else None
            rows = read_table(run, "replicates", columns=["status"], arms=[arm], blocks=only)
            counts[arm].update(rows["status"])
    return Status(
        manifest["name"],
        manifest["digest"],
        manifest["finished"],
        manifest["study"]["seeds"],
        counts,
        {path: problem for found in (*of_run, *lost.values()) for path, problem in found.items()},
        is_locked(run),
        is_own(manifest),
    )


def damaged_study(run: Path, manifest: Mapping[str, Any]) -> dict[Path, str]:
    """Return what is wrong with the study file of `run`, by its path; nothing is read from it."""
    path = run / STUDY_FILE
    if STUDY_DIGEST not in manifest:
        return {}
    try:
        right = digest_of(path.read_bytes()) == manifest[STUDY_DIGEST]
    except FileNotFoundError:
        return {path: "it is missing"}
    except OSError as error:
        return {path: str(error.strerror or error)}
    return {} if right else {path: "its content differs from what was written"}


def status_table(status: Status) -> Table:
    """Return replicates by arm and state."""
    title = f"{status.name}: {status.seeds} seeds, digest {status.digest}"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("arm", overflow="fold")
    seen = {state for count in status.counts.values() for state in count}
    states = [state for state in STATES if state != "unreached" or state in seen]
    for heading in (*states, *([] if status.own else ["missing"])):
        table.add_column(heading, justify="right")
    for arm, count in status.counts.items():
        row = [count[state] for state in states]
        missing = [] if status.own else [status.seeds - sum(row)]
        table.add_row(arm, *map(str, (*row, *missing)))
    return table


def ending(status: Status) -> str:
    """Return when the run was finished, or whether a process is running it."""
    if status.finished is not None:
        return f"Finished: {status.finished}"
    if status.own:
        busy = "a process is writing a replicate" if status.running else "no process writes to it"
        return f"A run of your own, to which replicates may be added; {busy}"
    if status.running:
        return "Finished: not yet; the study is running"
    return "Finished: not yet; no process is running the study; run it again to resume"


def watch(run: Path, console: Console) -> Status:
    """Show the state of `run` until it is finished; Ctrl-C ends the watch only.

    Shows when no process is running it. Without a terminal a line is printed now and then instead,
    and the table at the end. At most half of the time is spent on reading.
    """
    if read_status(run).own:
        raise RequestError(
            "--watch", str(run), "the run of a study; a run of your own has no end to wait for"
        )
    if not console.is_terminal:
        return _watch_in_lines(run, console)
    status, took = _timed(run)
    with Live(_watched(status), console=console) as live:
        while status.finished is None:
            time.sleep(max(REFRESH_SECONDS, took))
            status, took = _timed(run)
            live.update(_watched(status))
    return status


def _watched(status: Status) -> Group:
    idle = status.finished is None and not status.running
    return Group(status_table(status), *([Text(IDLE, "yellow")] if idle else []))


def _watch_in_lines(run: Path, console: Console) -> Status:
    status, took = _timed(run)
    while status.finished is None and is_read(console.file):
        counts = (f"{arm} {count.total()}" for arm, count in status.counts.items())
        idle = "" if status.running else f". {IDLE}"
        console.print(f"of {status.seeds} seeds: {', '.join(counts)}{idle}", soft_wrap=True)
        time.sleep(max(LINE_SECONDS, took))
        status, took = _timed(run)
    console.print(status_table(status))
    return status


def _timed(run: Path) -> tuple[Status, float]:
    start = time.monotonic()
    return read_status(run), time.monotonic() - start
