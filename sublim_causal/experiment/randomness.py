"""The global random numbers of a process: watched, and left as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def global_states() -> dict[str, Any]:
    """Return the states of the global random numbers of torch (on the CPU), numpy and Python."""
    return {
        "torch": torch.random.get_rng_state(),
        "numpy": np.random.get_state(),
        "Python's random": random.getstate(),
    }


def drawn_since(before: dict[str, Any]) -> str:
    """Return which library's random numbers were drawn since `before`; empty for none."""
    now = global_states()
    if not torch.equal(before["torch"], now["torch"]):
        return "torch"
    old, new = before["numpy"], now["numpy"]
    if not np.array_equal(old[1], new[1]) or old[2:] != new[2:]:
        return "numpy"
    name = "Python's random"
    return name if before[name] != now[name] else ""


def reseed(seed: int) -> None:
    """Seed all global random number generators again."""
    torch.random.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def restored_randomness() -> Iterator[None]:
    """Leave the global random numbers as they were."""
    before = global_states()
    try:
        yield
    finally:
        torch.random.set_rng_state(before["torch"])
        np.random.set_state(before["numpy"])
        random.setstate(before["Python's random"])
