"""What the commands print: plans, tables, progress, and what to do next."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from sublim_causal.errors import HIDDEN, escaped

DONE, INCOMPLETE, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all done; some replicates failed or diverged; the request is wrong; Ctrl-C."""


TABLE_WIDTH = 110
"""Columns of a table where the output is not a terminal."""


LINE_SECONDS = 30.0
"""Without a terminal, one line at most this often."""


class PlainConsole(Console):
    """A console on which names from files can neither command the terminal nor hide anything."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render `renderable` with the characters of `errors.HIDDEN` spelt out."""
        if isinstance(renderable, str):
            renderable = escaped(renderable)
        elif isinstance(renderable, Text) and HIDDEN.search(renderable.plain):
            renderable = Text(escaped(renderable.plain), renderable.style)
        return super().render(renderable, options)


# Names and paths are shown as they are, whatever brackets and colons they hold.
out = PlainConsole(
    width=None if sys.stdout and sys.stdout.isatty() else TABLE_WIDTH,
    markup=False,
    emoji=False,
    highlight=False,
)


err = PlainConsole(stderr=True, markup=False, emoji=False, highlight=False)


def warn(what: str, text: object) -> None:
    """Print `what`, in colour, and `text` to standard error."""
    err.print(Text.assemble((what, "yellow"), f" {text}"), soft_wrap=True)


def duration(seconds: float) -> str:
    """Write a duration for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show progress over the parts of `what`: a bar on a terminal, a line now and then elsewhere.

    Yields the function that takes parts done, parts in all, and the name of the current part.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    if not err.is_terminal:
        yield _lines(what)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total, name: progress.update(
            task, completed=done, total=total, description=f"{what}: {name}" if name else what
        )


def _lines(what: str) -> Callable[[int, int, str], None]:
    printed = time.monotonic()

    def show(done: int, total: int, name: str) -> None:
        nonlocal printed
        if time.monotonic() - printed >= LINE_SECONDS:
            printed = time.monotonic()
            err.print(f"{what}: {done} of {total}{name and f', {name}'}", soft_wrap=True)

    return show


def warn_of_damage(damaged: Mapping[Path, str]) -> None:
    """Print the damaged files, and the remedy."""
    for path, problem in damaged.items():
        warn("Damaged:", f"{path} ({problem})")
    if damaged:
        err.print("Running the study again repairs it.")
