"""Curves of a block while it trains, from what its arms have recorded so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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

    def update(self, now: float) -> ArmCurves:
        """Take in the steps since the last call; return the sums of every arm by finished bin.

        Only these steps are copied from the training device.
        """
        self.read = now
        for arm, recorder in self.recorders.items():
            steps = np.arange(len(recorder))
            bins = binned(steps)
            first, reached = self._done.get(arm, 0), recorder.reached
            ends = np.flatnonzero(np.diff(bins, append=-1)) + 1  # step after the last one of a bin
            stop = max(ends[ends <= reached], default=0)
            if stop > first:
                new = _sums(recorder, slice(first, stop + 1), bins[first:stop])
                self._sums[arm] = pd.concat([self._sums[arm], new]) if first else new
                self._done[arm] = stop
        return dict(self._sums)


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
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    parts = []
    for name in CURVES["steps"]:
        values = columns[name]
        hide_after(values, diverged_at)
        known = np.isfinite(values)
        both = np.stack([np.where(known, values, 0).sum(axis=1), known.sum(axis=1)], axis=1)
        parts.append(np.add.reduceat(both, starts))
    index = pd.MultiIndex.from_product([CURVES["steps"], bins[starts]], names=["metric", "step"])
    return pd.DataFrame(np.concatenate(parts), index, columns=["sum", "count"])
