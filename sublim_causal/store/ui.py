"""Serve MLflow's own user interface over the store of runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO
from urllib.error import URLError
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, build_opener

from sublim_causal.errors import RequestError, escaped
from sublim_causal.store.connection import (
    ENVIRONMENT,
    TrackingError,
    database_file,
    default_tracking_uri,
    redact,
    validate_address,
)
from sublim_causal.store.manifest import read_manifest

DEFAULT_RUN = Path("runs", "RUN")
"""Where `run` writes by default."""
HOST = "127.0.0.1"
"""Only this machine can connect."""
VIEW = "workflowType=machine_learning&compareRunsMode=CHART"
"""Opens the list of runs beside charts, in which the arms overlay."""
START_SECONDS = 90
STOP_SECONDS = 10

SERVER_ENVIRONMENT = ENVIRONMENT | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def serve_ui(runs: Sequence[Path], tracking_uri: str | None = None, port: int = 5000) -> int:
    """Serve MLflow's user interface until it is interrupted, and print where it is.

    The server is a child process with one worker. It ends with this function, also if that is
    ended by Ctrl-C or SIGTERM.

    Parameters
    ----------
    runs : sequence of Path
        Run directories whose studies are to be shown.
    tracking_uri : str, optional
        Their store; by default the one beside them, without runs ``runs/mlflow.db``. If it is a
        server, its address is printed.
    port : int
        Port, or 0 for any free one.

    Returns
    -------
    int
        Exit code: 0 after an interruption, otherwise that of the server.

    Raises
    ------
    RequestError
        If the runs have different stores, the store is missing or no address of one, or the port
        is not free.
    RunError
        If one of `runs` is not a run directory.
    TrackingError
        If the server does not start.
    """
    names = list(dict.fromkeys(escaped(read_manifest(run)["name"]) for run in runs))
    uri = tracking_uri or _common_store(runs)
    validate_address(uri)
    if urlsplit(uri).scheme in ("http", "https"):
        print(f"MLflow UI: {redact(uri)}", flush=True)
        return 0
    _require_database(uri, runs)
    port = _free_port(port)
    address = f"http://{HOST}:{port}"
    with tempfile.TemporaryFile() as log, _interruptible(), _server(uri, port, log) as server:
        try:
            _await(server, address, log)
            print(f"MLflow UI: {address} (Ctrl-C ends it)", flush=True)
            for name in names:
                print(f"{name}: {_experiment_address(address, name)}", flush=True)
            return server.wait()
        except KeyboardInterrupt:
            return 0


def _common_store(runs: Sequence[Path]) -> str:
    stores = sorted({default_tracking_uri(run) for run in runs or [DEFAULT_RUN]})
    if len(stores) != 1:
        raise RequestError(
            "RUN",
            [str(run) for run in runs],
            "runs of one parent directory, which share a store",
            "give one of them, or name the store with --tracking-uri",
        )
    return stores[0]


def _require_database(uri: str, runs: Sequence[Path]) -> None:
    if not uri.startswith("sqlite"):
        return
    file = database_file(uri)
    if not file.is_file():
        run = runs[0] if runs else DEFAULT_RUN
        raise RequestError(
            "--tracking-uri",
            redact(uri),
            "a store that exists",
            f"rebuild it from the tables: sublim-causal sync {run}",
        )


def _free_port(port: int) -> int:
    """Return `port`, or any free one for 0, after checking that a server can listen there."""
    with socket.socket() as probe:
        if os.name == "posix":  # a port that was closed a moment ago is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except (OSError, OverflowError) as error:
            raise RequestError(
                "--port",
                port,
                f"a free port of {HOST} ({error})",
                "choose another one, or --port 0 for any free one",
            ) from None
        return int(probe.getsockname()[1])


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGINT interrupt, also where a shell started us with Ctrl-C ignored.

    Only the main thread may ask for that.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _server(uri: str, port: int, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Start MLflow's server in a process group of its own, which is ended on the way out."""
    artifacts = database_file(uri).resolve().parent / "mlartifacts"
    local = ["--default-artifact-root", artifacts.as_uri()] if uri.startswith("sqlite") else []
    options = ["--host", HOST, "--port", str(port), "--workers", "1", *local]
    child = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options, "--uvicorn-opts", "--log-level error"],
        # An option would show the password of the address in the list of processes.
        env=SERVER_ENVIRONMENT | os.environ | {"MLFLOW_BACKEND_STORE_URI": uri},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    _signal(child, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(STOP_SECONDS)
    if os.name == "posix":
        _signal(child, signal.SIGKILL)
    child.kill()
    child.wait()


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send `number` to the process group of `child`, whose workers outlive it otherwise."""
    if os.name != "posix":
        child.terminate()
        return
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _await(server: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
    """Return when the server answers.

    Raises
    ------
    TrackingError
        If it ends, or does not answer in `START_SECONDS`; with the end of its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if _get(f"{address}/health") is not None:
            return
        time.sleep(0.2)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()[-8:]
    tail = "\n".join(map(redact, lines))
    raise TrackingError(f"MLflow's server did not start:\n{tail}")


def _experiment_address(address: str, name: str) -> str:
    """Return where the study `name` is shown, or what to do if the store does not have it."""
    found = _get(f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(name)}")
    if found is None:
        return "not in this store; mirror it with `sublim-causal sync RUN`"
    experiment = json.loads(found)["experiment"]["experiment_id"]
    return f"{address}/#/experiments/{experiment}/runs?{VIEW}"


def _get(url: str) -> bytes | None:
    """Return the body of a successful answer, None otherwise; never through a proxy."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
            return answer.read()
    except (URLError, OSError):
        return None
