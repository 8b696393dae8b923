"""Write a run from a training loop of your own, one commit a replicate.

::

    with open_run("runs/mine", outcome="owl_rate", unit="fraction", chance=0.1) as run:
        with run.replicate(seed=3, arm="baseline") as r:
            for step, batch in enumerate(batches):
                r.log(step, loss=train(batch))
            r.finish(owl_rate=evaluate())
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sublim_causal.errors import DataError, RequestError, RunError, SublimError
from sublim_causal.location import is_remote, locate, storing
from sublim_causal.own.replicate import Replicate, tables_of
from sublim_causal.store.blocks import block_name, commits_of, within
from sublim_causal.store.lock import FILE as LOCK
from sublim_causal.store.lock import locked, manifest_locked, replicate_locked
from sublim_causal.store.manifest import FILE, OWN, is_own, read_manifest, write_manifest
from sublim_causal.store.outcome import ACCURACY, Outcome, outcome_of
from sublim_causal.store.own_columns import NAME, UNITLESS, declare_columns, own_column, own_columns
from sublim_causal.store.schema import SCHEMA_VERSION, TABLES
from sublim_causal.store.tables import read_table, write_block

MAX_SEED = 999_999_999
WAIT_SECONDS = 30.0
"""How long a process waits for another one that makes the same run in an object store."""


@dataclass(frozen=True)
class OwnRun(AbstractContextManager["OwnRun"]):
    """A run that replicates are written to; made by `open_run`.

    Attributes
    ----------
    path : Path
        Run directory, or its address.
    outcome : Outcome
        By what replicates are judged.
    units : mapping of str to str
        Units of own columns, by name.
    """

    path: Path
    outcome: Outcome
    units: Mapping[str, str]

    def __exit__(self, *_: object) -> None:
        """Leave the run as it is: every replicate was committed at its end."""

    @contextmanager
    def replicate(self, *, seed: int, arm: str) -> Iterator[Replicate]:
        """Write one replicate at the end of the block, all of it at once.

        An exception within the block makes it a failed replicate, with the reason, and is raised
        again. A process that is killed or interrupted leaves nothing of it. A failed replicate may
        be repeated.

        Parameters
        ----------
        seed : int
            From 0 to 999,999,999. Replicates of one seed in several arms are a pair: what is drawn
            at random is drawn alike in them.
        arm : str
            What was done.

        Raises
        ------
        RequestError
            If the seed or the arm cannot be one.
        RunError
            If the replicate exists, or another process is at it.
        SublimError
            If the block ends without `Replicate.finish`.
        """
        validate_seed(seed)
        validate_arm(arm)
        with replicate_locked(self.path, arm, seed):
            _validate_absent(self.path, arm, seed)
            one = Replicate(seed, arm, self.outcome.name)
            began = time.monotonic()
            try:
                yield one
            except Exception as error:
                self.commit(one, failure=f"{type(error).__name__}: {error}")
                raise
            one.figures.setdefault("seconds", time.monotonic() - began)
            if not one.is_finished:
                self.commit(one, failure="it ended without finish()")
                raise SublimError(
                    f"{arm}, seed {seed}: the block ended without finish()\n"
                    f"remedy: call finish({self.outcome.name}=...) at its end"
                )
            try:
                self.commit(one)
            except (DataError, RequestError) as error:
                self.commit(one, failure=str(error).splitlines()[0])
                raise

    def commit(self, one: Replicate, failure: str = "") -> None:
        """Write a replicate, or that it failed and why."""
        units = {**units_of(self.path), **self.units}
        tables, own = tables_of(one, self.outcome, units, failure)
        declare_columns(self.path, own)
        write_block(self.path, block_name(one.seed, one.seed), one.arm, tables, own=own)


def open_run(
    path: str | Path,
    *,
    outcome: str | None = None,
    unit: str = UNITLESS,
    chance: float | None = None,
    margin: float | None = None,
    label: str = "",
    title: str = "",
    arms: Mapping[str, Mapping[str, Any]] | None = None,
    reference: str | None = None,
    paired: bool = True,
    columns: Mapping[str, str] | None = None,
) -> OwnRun:
    """Open a run of your own, or make it; any number of processes may hold it open.

    Parameters
    ----------
    path : str or Path
        Directory, or address in an object store.
    outcome : str, optional
        Column by which replicates are judged; may be left out where the run exists.
    unit : str
        Its unit; ``"fraction"`` is shown in percent.
    chance : float, optional
        What a network without the trait has of it. Takes the place of ``initial_<outcome>`` where
        no replicate gives that.
    margin : float, optional
        Difference within which two arms count as equal, above 0; by default 0.05 of a fraction.
    label : str
        What the outcome is called in sentences and figures; default: its name.
    title : str
        Title of the report.
    arms : mapping of str to mapping, optional
        What arms do, such as ``{"guarded": {"intervention": "projection", "space": "update"}}``.
        Other arms may be written, too.
    reference : str, optional
        Arm that the others are compared with; default: ``"baseline"``.
    paired : bool
        Whether a seed means the same random draws in all arms. Arms that have no seed in common
        are compared as independent samples in any case.
    columns : mapping of str to str, optional
        Units of further columns; one without is ``"unitless"``.

    Raises
    ------
    RequestError
        If a value is not allowed.
    RunError
        If `path` holds something else, or a run with other declarations.
    """
    run = locate(path)
    units = dict(columns or {})
    for name in units:
        validate_column("columns", name)
    for name, unit_there in units_of(run).items():
        if units.get(name, unit_there) != unit_there:
            raise RequestError(f"columns.{name}", units[name], f"the unit it has: {unit_there!r}")
    if outcome is None:
        return OwnRun(run, outcome_of(existing(run)), units)
    judged = declared_outcome(outcome, unit, chance, margin, label)
    for arm in (*(arms or {}), *([reference] if reference else [])):
        validate_arm(arm)
    study = {
        "name": run.name,
        "arms": {arm: dict(options) for arm, options in (arms or {}).items()},
        "seeds": 0,
        "reference": reference,
        "paired": paired,
    }
    asked = {"title": title, "study": study, "outcome": {**asdict(judged), "unit": unit}}
    with _alone(run):
        if (run / FILE).exists():
            _validate_same(run, existing(run), asked)
        else:
            _validate_empty(run)
            write_manifest(run, _manifest(run, asked))
    for table, name in (("replicates", judged.name), ("evaluations", judged.curve)):
        if name not in {one.name for one in TABLES[table]}:
            declare_columns(run, {table: [own_column(name, unit, judged.label)]})
    return OwnRun(run, judged, {**units, judged.name: unit})


def units_of(run: Path) -> dict[str, str]:
    """Return the units of the own columns that `run` has."""
    return {one.name: one.unit for table in own_columns(run).values() for one in table}


def declared_outcome(
    name: str, unit: str, chance: float | None, margin: float | None, label: str
) -> Outcome:
    """Return the outcome of a run, as `open_run` is given it.

    Raises
    ------
    RequestError
        If a value is not allowed.
    """
    validate_column("outcome", name)
    if not unit or unit != unit.strip():
        raise RequestError("unit", unit, "a unit, such as 'fraction' or 'nats'", "or leave it out")
    if chance is not None and not math.isfinite(chance):
        raise RequestError("chance", chance, "a finite number, in the outcome's unit")
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise RequestError("margin", margin, "a number above 0, in the outcome's unit")
    of_accuracy = name == ACCURACY.name
    return Outcome(
        name=name,
        start=ACCURACY.start if of_accuracy else f"initial_{name}",
        teacher=ACCURACY.teacher if of_accuracy else f"teacher_{name}",
        curve=ACCURACY.curve if of_accuracy else name,
        label=label or name.replace("_", " "),
        chance=chance,
        margin=ACCURACY.margin if margin is None and unit == "fraction" else margin,
    )


def validate_column(field: str, name: str) -> None:
    """Refuse a name that no own column can have.

    Raises
    ------
    RequestError
    """
    if not (isinstance(name, str) and NAME.fullmatch(name)) or name in ("seed", "arm", "step"):
        raise RequestError(
            field, name, "a name of letters, digits and _, at most 64, other than seed, arm, step"
        )


def validate_seed(seed: int) -> None:
    """Refuse what is not a seed.

    Raises
    ------
    RequestError
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise RequestError("seed", seed, f"a whole number from 0 to {MAX_SEED:,}")


def validate_arm(arm: str) -> None:
    """Refuse a name that a plan could not write.

    Raises
    ------
    RequestError
    """
    wrong = not isinstance(arm, str) or not arm or arm != arm.strip() or len(arm) > 60
    if wrong or arm in ("each", "all", "reference") or " - " in arm or not arm.isprintable():
        raise RequestError(
            "arm",
            arm,
            "a name of at most 60 characters other than 'each', 'all' and 'reference', without "
            "' - ' and without a space at either end",
        )


def existing(run: Path) -> dict[str, Any]:
    """Return the manifest of a run of one's own.

    Raises
    ------
    RunError
        If there is none in `run`, or that of a study.
    """
    manifest = read_manifest(run)
    if not is_own(manifest):
        raise RunError(
            f"{run}: the run of a study, to which only `sublim-causal run` can add\n"
            "remedy: name another directory"
        )
    return manifest


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Let no other process make or change the manifest of `run`."""
    if not is_remote(run):
        with storing(run):
            run.mkdir(parents=True, exist_ok=True)
        with manifest_locked(run):
            yield
        return
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            with locked(run):
                yield
            return
        except RunError:
            if (run / FILE).exists() or time.monotonic() > until:
                raise
            time.sleep(1)


def _validate_empty(run: Path) -> None:
    if not is_remote(run) and any(path.name != LOCK for path in run.iterdir()):
        raise RunError(f"{run}: not a run directory, and not empty\nremedy: name another one")


def _manifest(run: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps([asked["study"], asked["outcome"]], sort_keys=True)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": OWN,
        "run_id": uuid.uuid4().hex,
        "name": run.name,
        "digest": hashlib.sha256(text.encode()).hexdigest()[:16],
        **asked,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
    }


def _validate_same(run: Path, old: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Check that a run was declared as it is declared now.

    Raises
    ------
    RunError
        If not; the message shows every difference.
    """
    pairs = [(name, old["outcome"].get(name), value) for name, value in asked["outcome"].items()]
    pairs += [(name, old["study"].get(name), asked["study"][name]) for name in ("paired",)]
    if asked["study"]["reference"] is not None:
        pairs.append(("reference", old["study"]["reference"], asked["study"]["reference"]))
    pairs += [
        (f"arms.{arm}", old["study"]["arms"][arm] or options, options)
        for arm, options in asked["study"]["arms"].items()
        if arm in old["study"]["arms"]
    ]
    changes = [f"  {name}: {a!r} -> {b!r}" for name, a, b in pairs if a != b]
    if changes:
        raise RunError(
            "\n".join([f"{run}: declared differently; recorded -> requested:", *changes])
            + "\nremedy: declare it as it was, leave outcome= out, or name another directory"
        )


def _validate_absent(run: Path, arm: str, seed: int) -> None:
    own = block_name(seed, seed)
    holding = [block for a, block in commits_of(run) if a == arm and within(own, block)]
    if not holding:
        return
    rows = read_table(run, "replicates", columns=["seed", "status"], arms=[arm], blocks=holding)
    status = rows.loc[rows["seed"] == seed, "status"]
    if (status != "failed").any():
        raise RunError(
            f"{run}: {arm}, seed {seed}: it exists already ({status.iloc[0]})\n"
            "remedy: give another seed or arm"
        )
