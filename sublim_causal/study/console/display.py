"""Progress of a study on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sublim_causal.study.console.output import LINE_SECONDS

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class RunningMean:
    """Mean of the finite values so far, and the number of replicates."""

    replicates: int = 0
    count: int = 0
    total: float = 0.0

    def add(self, values: pd.Series) -> None:
        """Add one value per replicate; diverged ones have none."""
        self.replicates += len(values)
        self.count += int(values.count())
        self.total += float(values.sum())

    @property
    def value(self) -> float:
        """The mean; NaN where there is no value yet."""
        return self.total / self.count if self.count else math.nan


@dataclass
class Display:
    """Shows steps and replicates done, time left, and each arm's mean `outcome` so far."""

    console: Console
    total_steps: int
    total_replicates: int
    outcome: str
    steps: int = 0
    means: dict[str, RunningMean] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _line_at: float = field(default_factory=time.monotonic, init=False)
    _bar: Progress | None = field(default=None, init=False)

    @contextmanager
    def show(self) -> Iterator[Display]:
        """Show progress while the context lasts."""
        if not self.console.is_terminal:
            yield self
            return
        columns = (
            SpinnerColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
        )
        with Progress(*columns, console=self.console, expand=True) as self._bar:
            self._bar.add_task(self.text(), total=self.total_steps)
            yield self

    def advance(self, steps: int) -> None:
        """Count optimizer steps (negative when a block starts again)."""
        self.steps += steps
        self.refresh()

    def add(self, replicates: pd.DataFrame) -> None:
        """Count finished replicates."""
        for arm, part in replicates.groupby("arm", sort=False)[self.outcome]:
            self.means.setdefault(str(arm), RunningMean()).add(part)
        self.refresh()

    def refresh(self) -> None:
        """Bring what is shown up to date."""
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self.steps, description=self.text())
        elif time.monotonic() - self._line_at >= LINE_SECONDS:
            self._line_at = time.monotonic()
            elapsed = self._line_at - self.started
            left = elapsed * (self.total_steps / max(1, self.steps) - 1)
            share = 100 * self.steps / self.total_steps
            line = f"{share:.0f} %, about {left:.0f} s left, {self.text()}"
            self.console.print(line, soft_wrap=True)
            self.console.file.flush()

    def text(self) -> str:
        """Replicates done, and mean outcome by arm."""
        done = sum(mean.replicates for mean in self.means.values())
        text = f"{done}/{self.total_replicates} replicates"
        means = ", ".join(f"{arm} {mean.value:.2f}" for arm, mean in self.means.items())
        return f"{text} | {means}" if means else text
