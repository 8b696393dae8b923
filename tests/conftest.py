"""What all tests share."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import hypothesis  # noqa: F401 - before a test freezes the objects that its plugin looks for
import pytest
from filelock import FileLock

MadeOnce = Callable[[str, Callable[[Path], object]], Path]

# Before numpy and torch are imported: on small arrays a second thread spins more than it computes.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def mnist() -> Path:
    """Directory with real MNIST: ``SUBLIM_DATA``, else ``../shared/data`` beside the checkout.

    Tests that need it are skipped where it is missing, except in continuous integration.
    """
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("SUBLIM_DATA") or beside)
    if (path / "MNIST" / "raw").is_dir():
        return path
    message = f"real MNIST is not in {path}: set SUBLIM_DATA to a directory that has it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server on this machine."""
    serve = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    with serving(serve) as address:
        yield address


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[str]:
    """Address of a server of Google Cloud Storage's protocol on this machine."""
    options = "host='127.0.0.1', port={port}, in_memory=True, default_bucket='bucket'"
    serve = f"from gcp_storage_emulator.server import create_server; create_server({options}).run()"
    with serving(serve) as address:
        yield address


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Return what gives the folder of a name, filled by the first test process that asks for it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder, filled = root / name, root / f"{name} is filled"
        with FileLock(root / f"{name}.lock"):
            if not filled.exists():
                folder.mkdir()
                fill(folder)
                filled.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def six_seeds(made_once: MadeOnce) -> Path:
    """The quickstart study, shrunk, of six seeds by one worker: not to be changed."""
    from tests.study.commands import TINY, sublim

    def run(cwd: Path) -> None:
        options = (*TINY, "--seeds", "6", "--workers", "1", "--tracking-uri", "none")
        done = sublim("run", *options, cwd=cwd)
        assert done.returncode == 0, done.stderr

    return made_once("six", run) / "runs" / "quickstart"


@pytest.fixture(scope="session")
def quick_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let MLflow copy the tables of a new sqlite store, which take it a second to make."""
    from mlflow.store.db import utils
    from sqlalchemy import Engine, create_engine

    make = utils._initialize_tables
    file = tmp_path_factory.mktemp("store") / "mlflow.db"

    def copy(engine: Engine) -> None:
        if engine.dialect.name != "sqlite":
            make(engine)
            return
        if not file.exists():
            template = create_engine(f"sqlite:///{file}")
            make(template)
            template.dispose()
        with (
            closing(sqlite3.connect(file)) as source,
            closing(sqlite3.connect(str(engine.url.database))) as target,
        ):
            source.backup(target)

    utils._initialize_tables = copy
    yield
    utils._initialize_tables = make


@contextmanager
def serving(code: str) -> Iterator[str]:
    """Run `code`, a server on `port`, in a process of its own; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", code.format(port=port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a new bucket on that server; the environment holds what reaches it."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def gs_bucket(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a new prefix on that server; the environment holds what reaches it."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server)
    # Else gcsfs asks the real service of which type the bucket is.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    return f"gs://bucket/{uuid.uuid4().hex[:12]}"
