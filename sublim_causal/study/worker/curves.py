"""Curves of a block while it trains, from what its arms have recorded so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.store.curves import CURVES, ArmCurves, BinSums, binned

if TYPE_CHECKING:
    from sublim_causal.experiment.alignment import Recorder


@dataclass
class BlockCurves:
    """Sums over replicates and bins of steps, brought up to date from time to time.

    Attributes
    ----------
    recorders : mapping of str to Recorder
        What each arm records while it trains.
    read : float
        When `update` was called last, in seconds of a monotonic clock.
    """

    recorders: Mapping[str, Recorder]
    read: float = 0.0
    _sums: ArmCurves = field(default_factory=dict, init=False)
    _done: dict[str, int] = field(default_factory=dict, init=False)
    _evaluated: dict[str, int] = field(default_factory=dict, init=False)

    def update(self, now: float) -> ArmCurves:
        """Take in what is new since the last call; return the sums of every arm by finished bin.

        These are steps and evaluations; only the new ones are copied from the training device.
        """
        self.read = now
        for arm, recorder in self.recorders.items():
            steps = np.arange(len(recorder))
            bins = binned(steps)
            first, reached = self._done.get(arm, 0), recorder.reached
            ends = np.flatnonzero(np.diff(bins, append=-1)) + 1  # step after the last one of a bin
            stop = max(ends[ends <= reached], default=0)
            if stop > first:
                self._add(arm, _sums(recorder, slice(first, stop + 1), bins[first:stop]))
                self._done[arm] = stop
            self._add_evaluations(arm, recorder)
        return dict(self._sums)

    def _add_evaluations(self, arm: str, recorder: Recorder) -> None:
        at = [step for step, _ in recorder.evaluations]
        if len(at) < 2:  # how far apart they are is not known yet
            return
        planned = np.append(0, np.arange(at[1], len(recorder) + 1, at[1]))
        bins = binned(planned)
        ends = np.flatnonzero(np.diff(bins, append=-1)) + 1
        first, stop = self._evaluated.get(arm, 0), max(ends[ends <= len(at)], default=0)
        if stop > first:
            self._add(arm, _evaluation_sums(recorder, slice(first, stop), bins[first:stop]))
            self._evaluated[arm] = stop

    def _add(self, arm: str, new: BinSums) -> None:
        self._sums[arm] = pd.concat([self._sums[arm], new]) if arm in self._sums else new


def _sums(recorder: Recorder, rows: slice, bins: np.ndarray) -> BinSums:
    """Return sum and count over replicates and the steps of each bin of `bins` ``(T,)``.

    `rows` are those of the steps, and the one after them.
    """
    from sublim_causal.experiment.alignment import derive
    from sublim_causal.experiment.outcome import first_divergence, hide_after

    raw = recorder.columns(rows)
    measured = bool(np.isfinite(raw["uu"]).any())
    diverged_at = first_divergence(raw, measured=measured)
    columns = derive(raw)
    for values in columns.values():
        hide_after(values, diverged_at)
    return _bin_sums({name: columns[name] for name in CURVES["steps"]}, bins)


def _evaluation_sums(recorder: Recorder, rows: slice, bins: np.ndarray) -> BinSums:
    """Return sum and count of the evaluations `rows`, as `_sums`."""
    chosen = recorder.evaluations[rows]
    # A replicate whose last loss was not finite has figures that mean nothing.
    before = [max(step - 1, 0) for step, _ in chosen]
    losses = [recorder.columns(slice(at, at + 1))["distill_loss"][0] for at in before]
    trained = np.isfinite(np.stack(losses))
    names = [name for name in CURVES["evaluations"] if name in chosen[0][1]]
    columns = {
        name: np.stack([figures[name].cpu().numpy() for _, figures in chosen]) for name in names
    }
    return _bin_sums(
        {name: np.where(trained, values, np.nan) for name, values in columns.items()}, bins
    )


def _bin_sums(columns: Mapping[str, NDArray[np.float64]], bins: np.ndarray) -> BinSums:
    """Return sum and count of `columns` ``(T, R)`` over replicates and the rows of each bin."""
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    parts = []
    for values in columns.values():
        known = np.isfinite(values)
        both = np.stack([np.where(known, values, 0).sum(axis=1), known.sum(axis=1)], axis=1)
        parts.append(np.add.reduceat(both, starts))
    index = pd.MultiIndex.from_product([columns, bins[starts]], names=["metric", "step"])
    return pd.DataFrame(np.concatenate(parts), index, columns=["sum", "count"])
