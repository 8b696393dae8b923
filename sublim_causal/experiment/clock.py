"""How long a device works on something."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Clock:
    """Adds up the time that `device` spends on what runs within `running`.

    A GPU lags behind the program that drives it, so there it marks the times itself.
    """

    device: torch.device
    _spent: float = field(default=0.0, init=False)
    _marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = field(
        default_factory=list, init=False
    )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time until the context ends."""
        if self.device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._marks.append((start, end))
        else:
            started = time.perf_counter()
            yield
            self._spent += time.perf_counter() - started

    def seconds(self) -> float:
        """Return the time counted so far; waits for a GPU to get there."""
        if self._marks:
            self._marks[-1][1].synchronize()
        return self._spent + sum(start.elapsed_time(end) for start, end in self._marks) / 1000
