"""The command line: one file a command, in `commands`; they import what is slow when called."""

from __future__ import annotations

import atexit
import gc
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from sublim_causal.errors import SHOWN, SublimError, escaped, system_error
from sublim_causal.location import is_client_error
from sublim_causal.study.commands import studies
from sublim_causal.study.commands.analyse import analyse
from sublim_causal.study.commands.claims import claims
from sublim_causal.study.commands.compact import compact
from sublim_causal.study.commands.import_ import import_
from sublim_causal.study.commands.init import init
from sublim_causal.study.commands.interventions import interventions
from sublim_causal.study.commands.power import power
from sublim_causal.study.commands.report import report
from sublim_causal.study.commands.run import run
from sublim_causal.study.commands.status import status
from sublim_causal.study.commands.sync import sync
from sublim_causal.study.commands.ui import ui
from sublim_causal.study.console.output import DONE, WRONG
from sublim_causal.study.console.pipes import lost_output, tolerate_any_output
from sublim_causal.study.running.mirroring import is_mirroring

app = typer.Typer(
    name="sublim-causal",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (init, run, analyse, report, claims, power, status, compact, sync, ui):
    app.command()(command)
app.command("import")(import_)
app.add_typer(studies.app, name="studies")
app.command()(interventions)


def show_version(wanted: bool) -> None:
    """Print the version of the package and end."""
    if wanted:
        from sublim_causal import __version__

        print(f"sublim-causal {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Run subliminal-learning studies under interventions, and estimate what they show."""


def guarded(command: Callable[[], Any]) -> int:
    """Run `command`; turn errors a user can act on into a message and an exit code."""
    try:
        command()
    except SublimError as error:
        return _refuse(error)
    except SystemExit as end:  # typer turns Ctrl-C into one, without a message
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            print("Stopped at once. Finished blocks are kept.", file=sys.stderr)
        raise
    except Exception as error:
        if isinstance(error, OSError):
            return _refuse(system_error(error))
        if is_client_error(error):
            return _refuse(f"{type(error).__name__}: {error}")
        if not type(error).__module__.startswith("pyarrow"):
            raise
        return _refuse(
            f"a file of the run is damaged: {error}\n"
            "remedy: sublim-causal status names it; running the study again repairs it"
        )
    return DONE


def _refuse(reason: object) -> int:
    print(f"error: {LONG.sub(_shortened, escaped(reason))}", file=sys.stderr)
    return WRONG


LONG = re.compile(rf"\S{{{SHOWN + 1},}}")
"""Words that are shown in part: nobody reads a path of 4,000 characters."""


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][: SHOWN // 2]} ... {word[0][-SHOWN // 2 :]}"


OBJECTS = 100_000
"""New objects before they are searched for garbage: imports make millions, which stay."""


def main() -> None:
    """Entry point: run the command line and end the process."""
    status = run_command_line()
    if not is_mirroring():  # its library would wait for the server
        atexit._run_exitfuncs()
    os._exit(status)  # to take all libraries down took 0.5 s


def run_command_line() -> int:
    """Run the command that ``sys.argv`` names, with any standard streams; return its exit code."""
    tolerate_any_output()
    gc.set_threshold(OBJECTS)
    code: str | int | None = WRONG
    try:
        code = guarded(app)
    except SystemExit as end:
        code = end.code
    if (error := lost_output()) is not None:
        code = _refuse(f"standard output: cannot be written: {error.strerror or error}")
    return code if isinstance(code, int) else WRONG
