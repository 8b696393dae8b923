from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sublim_causal.errors import RequestError, RunError
from sublim_causal.store.connection import TrackingError, default_tracking_uri
from sublim_causal.store.tracking import sync
from sublim_causal.store.ui import VIEW, serve_ui
from tests.browser import chromium

MakeRun = Callable[..., Path]

# MLflow's own use of SQLAlchemy.
pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


class Server(NamedTuple):
    """A running user interface."""

    process: subprocess.Popen[str]
    address: str
    study: str
    """Address that it prints for the study."""


SERVE = (
    "import sys, pathlib; from sublim_causal.store.ui import serve_ui;"
    "sys.exit(serve_ui([pathlib.Path(sys.argv[1])], port=0))"
)


@pytest.fixture(scope="module")
def demo(shared_runs: MakeRun) -> Path:
    """Return a run of three seeds and two arms that is mirrored in the store beside it."""
    run = shared_runs(seeds=range(3))
    sync(run, default_tracking_uri(run))
    return run


def start(run: Path) -> Server:
    """Start the user interface."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(run)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    assert found, f"the server ended with {process.wait()}"
    return Server(process, found.group(), process.stdout.readline().removeprefix("demo: ").strip())


def stop(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    process.communicate(timeout=30)
    return process.returncode


def is_listening(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0


@pytest.fixture(scope="module")
def served(demo: Path) -> Iterator[Server]:
    server = start(demo)
    yield server
    if server.process.poll() is None:
        stop(server.process, signal.SIGTERM)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    with chromium(tmp_path / "profile", "MLflow's user interface") as driver:
        yield driver


# All that the page shows at one moment: what is found one by one may be replaced in between.
SHOWN = """
const shown = selector => [...document.querySelectorAll(selector)].filter(
  one => one.checkVisibility());
return {
  runs: shown("a[href*='/runs/']").map(link => link.textContent.trim()),
  count: (document.body.innerText.match(/\\d+ matching runs/) || [''])[0],
  // A line has a point where it starts and one at the end of each segment.
  charts: shown('.scatterlayer').map(chart => [...chart.querySelectorAll('.js-line')].map(line => ({
    points: (line.getAttribute('d') || '').split(/[ML]/).length - 1,
    colour: getComputedStyle(line).stroke,
  }))).filter(lines => lines.length),
};
"""


def wait_until(browser: Any, what: str, is_there: Callable[[Any], bool]) -> None:
    """Return once `is_there` is true of what the page shows, within a slow machine's time."""
    deadline = time.monotonic() + 120
    while not is_there(shown := browser.execute_script(SHOWN)):
        if time.monotonic() > deadline:
            logged = [entry["message"] for entry in browser.get_log("browser")]
            pytest.fail(f"the page does not show {what}, but {shown}; its log: {logged}")
        time.sleep(0.2)


def test_the_browser_shows_the_runs_and_a_curve(served: Server, browser: Any) -> None:
    assert served.study.startswith(served.address)
    assert served.study.endswith(VIEW)
    browser.get(served.study)
    names = {"demo", "baseline (demo)", "projection (demo)"}
    wait_until(browser, f"runs {names}", lambda shown: names <= set(shown["runs"]))
    # A run of the study, two of its arms, and six of their replicates.
    wait_until(browser, "nine runs", lambda shown: shown["count"] == "9 matching runs")

    def has_step_curve(shown: Any) -> bool:
        return any(line["points"] > 10 for chart in shown["charts"] for line in chart)

    wait_until(browser, "a curve longer than that of the evaluations", has_step_curve)

    def overlays_arms(shown: Any) -> bool:
        first = shown["charts"][0] if shown["charts"] else []
        return len({line["colour"] for line in first}) == 2

    wait_until(browser, "both arms in the first chart", overlays_arms)


def test_a_server_can_hold_the_mirror(served: Server, shared_runs: MakeRun) -> None:
    address = served.address
    run = shared_runs(seeds=[0], name="remote")
    assert sync(run, address).written == 2
    again = sync(run, address)
    assert (again.written, again.unchanged) == (0, 2)


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_ctrl_c_ends_the_server(served: Server) -> None:
    process, address, _ = served
    assert is_listening(address)
    assert stop(process, signal.SIGINT) == 0
    assert not is_listening(address)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_termination_ends_the_server(demo: Path) -> None:
    process, address, _ = start(demo)
    assert stop(process, signal.SIGTERM) == 0
    assert not is_listening(address)


def test_a_busy_port_is_refused_with_a_way_out(make_run: MakeRun) -> None:
    run = make_run(seeds=[])
    (run.parent / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(RequestError, match=r"--port 0") as caught:
            serve_ui([run], port=port)
    assert (caught.value.field, caught.value.value) == ("--port", port)


def test_a_port_out_of_range_is_refused(make_run: MakeRun) -> None:
    run = make_run(seeds=[])
    (run.parent / "mlflow.db").touch()
    with pytest.raises(RequestError, match="--port"):
        serve_ui([run], port=70_000)


def test_a_missing_store_names_sync(make_run: MakeRun) -> None:
    run = make_run(seeds=[])
    with pytest.raises(RequestError, match=f"sync {re.escape(str(run))}"):
        serve_ui([run])
    assert not (run.parent / "mlflow.db").exists()


def test_without_runs_the_store_in_the_folder_runs_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r"runs/mlflow\.db[\s\S]*sync runs/RUN"):
        serve_ui([])
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").touch()
    with pytest.raises(RequestError, match="--port"):  # the store is there, and taken
        serve_ui([], port=70_000)


def test_a_missing_store_does_not_show_its_password() -> None:
    with pytest.raises(RequestError, match="a store that exists") as refused:
        serve_ui([], "sqlite+pysqlcipher://:sekret@/nosuch.db")
    assert "sekret" not in str(refused.value)


def test_runs_of_two_stores_are_refused(make_run: MakeRun, shared_runs: MakeRun) -> None:
    with pytest.raises(RequestError, match="--tracking-uri"):
        serve_ui([make_run(seeds=[]), shared_runs(seeds=[], name="elsewhere")])


def test_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        serve_ui([tmp_path])


def test_the_address_of_a_server_is_shown(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve_ui([make_run(seeds=[])], "https://me:secret@mlflow.example") == 0
    assert capsys.readouterr().out == "MLflow UI: https://***@mlflow.example\n"


@pytest.mark.slow
def test_a_server_that_does_not_start_says_why(make_run: MakeRun) -> None:
    run = make_run(seeds=[])
    (run.parent / "mlflow.db").write_bytes(b"this is no database at all, but a text" * 200)
    with pytest.raises(TrackingError, match="file is not a database"):
        serve_ui([run], port=0)
