r"""Tables of the study's shape with known truth, to measure coverage.

For seed s, arm a, step t, with alignment x and gain y:

.. math::
    x_{sat} &= m + u_s + \alpha_a + d_{sa} + \epsilon_{sat} - \phi \textstyle\sum_{r<t} y_{sar} \\
    y_{sat} &= c + v_s + w_{sa} + \tau_a + \beta_s x_{sat} + \sigma_a e_{sat} \\
    Y_{sa} &= A + b_s + \delta_a + \sigma_a h_{sa}

with :math:`\beta_s = \beta + \sigma_\beta z_s`; :math:`\epsilon` and e are AR(1) in t; z, h
and b are standard normal or, where skewed, centred exponential. What is recorded of x is noisy:
two half-probe values with independent errors, and their mean. Y is the final accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.errors import RequestError
from sublim_causal.store.manifest import write_manifest
from sublim_causal.store.schema import SCHEMA_VERSION, TABLES
from sublim_causal.store.tables import write_block

_START_LOSS = 2.3
_CREATED = "1970-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class ArmTruth:
    """How an arm differs from the reference, whose values are these defaults.

    Attributes
    ----------
    alignment : float
        alpha, added to the alignment of every step.
    gain : float
        tau in nats per step, not through alignment.
    accuracy : float
        delta, added to the final accuracy (fraction).
    noise : float
        sigma_a / sigma: how much noisier than the reference.
    """

    alignment: float = 0.0
    gain: float = 0.0
    accuracy: float = 0.0
    noise: float = 1.0


def _default_arms() -> dict[str, ArmTruth]:
    return {
        "baseline": ArmTruth(),
        "projection": ArmTruth(alignment=-0.06, accuracy=-0.35),
        "liminal": ArmTruth(alignment=-0.02, accuracy=-0.05),
        "shuffled": ArmTruth(),
    }


@dataclass(frozen=True)
class Truth:
    """What a simulated study is made of; lengths in steps, gains in nats.

    Attributes
    ----------
    n_seeds, n_steps, steps_per_epoch : int
        Size.
    arms : mapping of str to ArmTruth
        The arms; their order is the order of the tables.
    slope, slope_sd : float
        Mean and sd over seeds of beta, nats per unit of alignment.
    alignment, alignment_seed_sd, alignment_cell_sd, alignment_sd : float
        m, and the sd of u, d, epsilon.
    gain, gain_seed_sd, gain_cell_sd, gain_sd : float
        c, and the sd of v, w, e.
    accuracy, accuracy_seed_sd, accuracy_sd : float
        A, and the sd of b, h.
    ar_alignment, ar_gain : float
        AR(1) coefficients of epsilon and e, in (-1, 1).
    skewed : bool
        z, b and h are centred exponential (skewness 2) instead of normal.
    feedback : float
        phi: how far a nat gained lowers the alignment of later steps.
    reliability : float
        Reliability in (0, 1] of one half-probe alignment within a run.
    missing_steps, missing_runs, diverged_runs : float
        Shares of rows, of runs without any row, and of runs with status ``diverged``.
    """

    n_seeds: int = 30
    n_steps: int = 245
    steps_per_epoch: int = 49
    arms: Mapping[str, ArmTruth] = field(default_factory=_default_arms)
    slope: float = 0.08
    slope_sd: float = 0.02
    alignment: float = 0.06
    alignment_seed_sd: float = 0.01
    alignment_cell_sd: float = 0.005
    alignment_sd: float = 0.05
    gain: float = 0.0
    gain_seed_sd: float = 0.001
    gain_cell_sd: float = 0.001
    gain_sd: float = 0.01
    accuracy: float = 0.45
    accuracy_seed_sd: float = 0.1
    accuracy_sd: float = 0.05
    ar_alignment: float = 0.0
    ar_gain: float = 0.0
    skewed: bool = False
    feedback: float = 0.0
    reliability: float = 1.0
    missing_steps: float = 0.0
    missing_runs: float = 0.0
    diverged_runs: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        for name in ("n_seeds", "n_steps", "steps_per_epoch"):
            _validate(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("ar_alignment", "ar_gain"):
            _validate(abs(getattr(self, name)) < 1, name, getattr(self, name), "inside (-1, 1)")
        for name in ("missing_steps", "missing_runs", "diverged_runs"):
            _validate(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        for one in fields(self):
            if one.name.endswith("_sd"):
                _validate(getattr(self, one.name) >= 0, one.name, getattr(self, one.name), ">= 0")
        _validate(0 < self.reliability <= 1, "reliability", self.reliability, "in (0, 1]")
        _validate(len(self.arms) > 0, "arms", self.arms, "at least one arm")


def _validate(right: bool, name: str, value: object, allowed: str) -> None:
    if not right:
        raise RequestError(name, value, allowed)


@dataclass(frozen=True)
class Simulated:
    """Tables with the columns of `store.schema`, and the truth they were drawn from."""

    tables: Mapping[str, pd.DataFrame]
    truth: Truth

    def effect(self, arm: str, reference: str = "baseline") -> float:
        """True contrast of final accuracy."""
        return self.truth.arms[arm].accuracy - self.truth.arms[reference].accuracy


def simulate(truth: Truth | None = None, *, rng: np.random.Generator | int = 0) -> Simulated:
    """Draw the tables ``steps``, ``evaluations`` and ``replicates`` of a study.

    Parameters
    ----------
    truth : Truth, optional
        What the study is made of; default: 30 seeds, four arms, 245 steps.
    rng : Generator or int
        Source of randomness.

    Notes
    -----
    Columns that the model does not contain are filled so that the identities of the record hold:
    ``gain = drive + remainder``, ``trait_loss`` falls by ``gain``.
    """
    truth = truth or Truth()
    generator = np.random.default_rng(rng)
    x, y = _alignment_and_gain(truth, generator)
    steps = _steps(truth, x, y, generator)
    runs = _runs(truth, generator)
    complete = runs.loc[runs["status"] == "complete", ["seed", "arm"]]
    # A diverged run stops early; its rows are in the record and must not enter an estimate.
    stops = runs.loc[runs["status"] == "diverged", ["seed", "arm"]]
    early = steps.merge(stops).query("step < @truth.n_steps // 3")
    recorded = pd.concat([steps.merge(complete), early], ignore_index=True)
    recorded = recorded[generator.random(len(recorded)) >= truth.missing_steps]
    replicates = _replicates(truth, runs, steps, generator)
    tables = {
        "steps": recorded,
        "evaluations": _evaluations(truth, replicates, generator),
        "replicates": replicates,
    }
    return Simulated({name: _in_order(name, table) for name, table in tables.items()}, truth)


def _shocks(truth: Truth, rng: np.random.Generator, *shape: int) -> Floats:
    """Standard draws, skewed where the truth is."""
    return rng.exponential(size=shape) - 1 if truth.skewed else rng.normal(size=shape)


def _ar(rng: np.random.Generator, shape: tuple[int, ...], rho: float) -> Floats:
    """Stationary AR(1) of unit variance along the last axis."""
    from scipy import signal

    noise = rng.normal(size=shape)
    if rho == 0:
        return noise
    noise[..., 1:] *= np.sqrt(1 - rho**2)
    return np.asarray(signal.lfilter([1.0], [1.0, -rho], noise, axis=-1))


def _of_arms(truth: Truth, name: str) -> Floats:
    return np.array([getattr(arm, name) for arm in truth.arms.values()])


def _alignment_and_gain(truth: Truth, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """True alignment and gain, both of shape ``(R, A, T)``."""
    R, A, T = truth.n_seeds, len(truth.arms), truth.n_steps
    x = truth.alignment_sd * _ar(rng, (R, A, T), truth.ar_alignment)
    x += truth.alignment + _of_arms(truth, "alignment")[:, None]
    x += truth.alignment_seed_sd * rng.normal(size=(R, 1, 1))
    x += truth.alignment_cell_sd * rng.normal(size=(R, A, 1))
    rest = truth.gain_sd * _of_arms(truth, "noise")[:, None] * _ar(rng, (R, A, T), truth.ar_gain)
    rest += truth.gain + _of_arms(truth, "gain")[:, None]
    rest += truth.gain_seed_sd * rng.normal(size=(R, 1, 1))
    rest += truth.gain_cell_sd * rng.normal(size=(R, A, 1))
    slope = truth.slope + truth.slope_sd * _shocks(truth, rng, R, 1, 1)
    if truth.feedback == 0:
        return x, slope * x + rest
    gained = np.zeros((R, A))
    for t in range(T):
        x[..., t] -= truth.feedback * gained
        gained += slope[..., 0] * x[..., t] + rest[..., t]
    return x, slope * x + rest


def _steps(truth: Truth, x: Floats, y: Floats, rng: np.random.Generator) -> pd.DataFrame:
    R, _, T = x.shape
    error_sd = truth.alignment_sd * np.sqrt(1 / truth.reliability - 1)
    halves = x[None] + error_sd * rng.normal(size=(2, *x.shape))
    recorded = halves.mean(axis=0)
    loss_after = _START_LOSS - np.cumsum(y, axis=-1)
    before = loss_after + y
    remainder = 0.1 * y
    step = np.broadcast_to(np.arange(T), x.shape)
    columns = {
        "seed": np.broadcast_to(np.arange(R)[:, None, None], x.shape),
        "arm": np.broadcast_to(np.array(list(truth.arms), dtype=object)[:, None], x.shape),
        "step": step,
        "epoch": step // truth.steps_per_epoch,
        "trait_loss": before,
        "trait_accuracy": _accuracy(before),
        "cos_gradient": recorded,
        "cos_half_a": halves[0],
        "cos_half_b": halves[1],
        "cos_applied": recorded,
        "cos_update": 6 * recorded,
        "drive": y - remainder,
        "drive_end": y - remainder,
        "gain": y,
        "remainder": remainder,
        "accuracy_gain": _accuracy(loss_after) - _accuracy(before),
    }
    frame = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
    return frame.assign(
        distill_loss=1 / (1 + frame["step"]),
        norm_distill=1.0,
        norm_trait=1.0,
        norm_applied=1.0,
        norm_update=0.1,
    )


def _accuracy(loss: Floats) -> Floats:
    """Some accuracy that falls smoothly with the loss."""
    return np.exp(-np.maximum(loss, 0.0))


def _runs(truth: Truth, rng: np.random.Generator) -> pd.DataFrame:
    """Seed, arm, status and final accuracy of every run that has a row."""
    R, A = truth.n_seeds, len(truth.arms)
    noise = truth.accuracy_sd * _of_arms(truth, "noise") * _shocks(truth, rng, R, A)
    final = truth.accuracy + truth.accuracy_seed_sd * rng.normal(size=(R, 1))
    final = final + _of_arms(truth, "accuracy") + noise
    runs = pd.DataFrame(
        {
            "seed": np.repeat(np.arange(R), A),
            "arm": np.tile(list(truth.arms), R),
            "status": np.where(rng.random(R * A) < truth.diverged_runs, "diverged", "complete"),
            "final_accuracy": final.ravel(),
        }
    )
    return runs[rng.random(R * A) >= truth.missing_runs]


def _replicates(
    truth: Truth, runs: pd.DataFrame, steps: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    marked = steps.assign(
        positive=steps["cos_gradient"] > 0, positive_update=steps["cos_update"] > 0
    )
    sums = marked.groupby(["seed", "arm"], sort=False).agg(
        final_distill_loss=("distill_loss", "last"),
        sum_drive=("drive", "sum"),
        sum_gain=("gain", "sum"),
        sum_remainder=("remainder", "sum"),
        mean_cos_gradient=("cos_gradient", "mean"),
        share_positive=("positive", "mean"),
        mean_cos_update=("cos_update", "mean"),
        share_positive_update=("positive_update", "mean"),
    )
    whole = runs.merge(sums.reset_index(), on=["seed", "arm"])
    diverged = whole["status"] == "diverged"
    teacher = 0.95 + 0.005 * rng.normal(size=truth.n_seeds)
    return whole.assign(
        reason=np.where(diverged, "the loss became infinite", ""),
        initial_accuracy=0.1,
        teacher_accuracy=teacher[whole["seed"]],
        final_accuracy=whole["final_accuracy"].mask(diverged),
        final_trait_loss=(_START_LOSS - whole["sum_gain"]).mask(diverged),
        seconds=1.0,
    )


def _evaluations(truth: Truth, replicates: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Test accuracy at the start and after the last step."""
    ends = replicates[["seed", "arm"]].assign(
        step=truth.n_steps, test_accuracy=replicates["final_accuracy"]
    )
    starts = ends.assign(step=0, test_accuracy=0.1)
    table = pd.concat([starts, ends], ignore_index=True)
    noise = 0.01 * rng.normal(size=len(table))
    return table.assign(teacher_agreement=table["test_accuracy"] + noise)


def _in_order(name: str, table: pd.DataFrame) -> pd.DataFrame:
    keys = [key for key in ("seed", "arm", "step") if key in table]
    # Columns that are not simulated, such as robust accuracy, stay empty.
    ordered = table.reindex(columns=[c.name for c in TABLES[name]]).sort_values(keys)
    return ordered.reset_index(drop=True)


def write_run(run: Path, simulated: Simulated, *, block_seeds: int = 250) -> Path:
    """Write a run directory as a study would: the manifest and the tables, block by block.

    Parameters
    ----------
    run : Path
        Directory, made where it is not there.
    simulated : Simulated
        What `simulate` returned.
    block_seeds : int
        Seeds per file.

    Returns
    -------
    Path
        `run`.
    """
    truth = simulated.truth
    study: dict[str, Any] = {
        "name": run.name,
        "seeds": truth.n_seeds,
        "reference": "baseline" if "baseline" in truth.arms else None,
        "arms": {arm: {} for arm in truth.arms},
    }
    write_manifest(
        run,
        {
            "schema_version": SCHEMA_VERSION,
            "run_id": "0" * 32,
            "name": run.name,
            "digest": "0" * 16,
            "study": study,
            "created": _CREATED,
            "finished": _CREATED,
            "simulated": True,
        },
    )
    for first in range(0, truth.n_seeds, block_seeds):
        last = min(first + block_seeds, truth.n_seeds) - 1
        seeds = {name: _seeds(table, first, last) for name, table in simulated.tables.items()}
        for arm in truth.arms:
            block = {name: rows[rows["arm"] == arm] for name, rows in seeds.items()}
            write_block(run, f"{first:07d}-{last:07d}", arm, block)
    return run


def _seeds(table: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    """Rows of the seeds from `first` to `last`; the table is sorted by seed."""
    start, end = np.searchsorted(table["seed"], [first, last + 1])
    return table.iloc[start:end]
