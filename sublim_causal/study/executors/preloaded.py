"""What the process imports from which workers are forked, so that no worker has to."""
# ruff: noqa: E402, F401

from __future__ import annotations

import gc

gc.disable()  # what libraries make stays; to look through it took a tenth of the time

import sublim_causal.experiment.block
import sublim_causal.study.executors.local
import sublim_causal.study.worker.curves
import sublim_causal.study.worker.records

gc.enable()
gc.freeze()  # workers share these objects with it, as long as no collection writes to them
