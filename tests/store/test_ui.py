from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sublim_causal.errors import RequestError, RunError
from sublim_causal.store.connection import TrackingError, default_tracking_uri
from sublim_causal.store.tracking import sync
from sublim_causal.store.ui import VIEW, serve_ui
from tests.browser import chromium

MakeRun = Callable[..., Path]
Server = tuple["subprocess.Popen[str]", str]

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

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
    """Start the user interface; return its process and address."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(run)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    assert found, f"the server ended with {process.wait()}"
    return process, found.group()


def stop(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    process.communicate(timeout=30)
    return process.returncode


def is_listening(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0


@pytest.fixture(scope="module")
def served(demo: Path) -> Iterator[Server]:
    process, address = start(demo)
    yield process, address
    if process.poll() is None:
        stop(process, signal.SIGTERM)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    with chromium(tmp_path / "profile", "MLflow's user interface") as driver:
        yield driver


def wait_for(browser: Any, xpath: str) -> Any:
    """Return the first element at `xpath` once it is shown, within a slow machine's time."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.expected_conditions import visibility_of_element_located
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 40).until(visibility_of_element_located((By.XPATH, xpath)))


def test_the_browser_shows_the_runs_and_a_curve(
    served: Server, demo: Path, browser: Any, tmp_path: Path
) -> None:
    _, address = served
    result = sync(demo, default_tracking_uri(demo))
    browser.get(f"{address}/#/experiments/{result.experiment_id}/runs?{VIEW}")
    for name in ("demo", "baseline (demo)", "projection (demo)"):
        wait_for(browser, f"//a[normalize-space()='{name}' and contains(@href, '/runs/')]")
    # A run of the study, two of its arms, and six of their replicates.
    assert "9 matching runs" in wait_for(browser, "//*[contains(text(), 'matching runs')]/..").text
    lines = "//*[contains(@class, 'scatterlayer')]//*[@class='js-line']"
    wait_for(browser, lines)
    # One point starts a line, and each other one adds a segment; evaluations have few.
    curves = [curve.get_attribute("d") for curve in browser.find_elements("xpath", lines)]
    assert max(len(re.findall("[ML]", curve)) for curve in curves) > 10
    first = wait_for(browser, "(//*[contains(@class, 'scatterlayer')])[1]")
    drawn = first.find_elements("xpath", ".//*[@class='js-line']")
    colours = {line.value_of_css_property("stroke") for line in drawn}
    assert len(colours) == 2  # the arms overlay
    browser.save_screenshot(str(tmp_path / "charts.png"))


def test_a_server_can_hold_the_mirror(served: Server, shared_runs: MakeRun) -> None:
    _, address = served
    run = shared_runs(seeds=[0], name="remote")
    assert sync(run, address).written == 2
    again = sync(run, address)
    assert (again.written, again.unchanged) == (0, 2)


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_ctrl_c_ends_the_server(served: Server) -> None:
    process, address = served
    assert is_listening(address)
    assert stop(process, signal.SIGINT) == 0
    assert not is_listening(address)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_termination_ends_the_server(demo: Path) -> None:
    process, address = start(demo)
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


def test_without_runs_the_store_in_runs_is_meant(
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
