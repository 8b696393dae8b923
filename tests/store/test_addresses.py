"""Addresses of MLflow stores: refused, unreachable, and shown without credentials."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sublim_causal.errors import RequestError
from sublim_causal.store.connection import (
    TrackingError,
    database_file,
    default_tracking_uri,
    redact,
)
from sublim_causal.store.tracking import sync
from sublim_causal.store.ui import serve_ui

MakeRun = Callable[..., Path]

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture
def deaf_port() -> Any:
    """Yield a port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_a_store_that_is_not_there_is_one_clear_error(
    make_run: MakeRun, closed_port: int, scheme: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run, start = make_run(seeds=[0]), time.monotonic()
    address = f"{scheme}://me:s3cr@t@127.0.0.1:{closed_port}/db"
    with pytest.raises(TrackingError, match=r"cannot be used[\s\S]*remedy: ") as caught:
        sync(run, address)
    assert time.monotonic() - start < 15
    assert caught.value.__cause__ is None
    printed = "".join(capfd.readouterr())
    assert "s3cr" not in str(caught.value) + repr(caught.value) + printed
    assert printed == ""


@pytest.mark.parametrize(
    "address", ["none", "http://[::1", "postgresql://h:x/d", "postgresql://u:se/kret@h/d"]
)
def test_what_is_no_address_is_refused(make_run: MakeRun, address: str) -> None:
    run = make_run(seeds=[0])
    for command in (lambda: sync(run, address), lambda: serve_ui([run], address)):
        with pytest.raises(
            RequestError, match=r"--tracking-uri: .*\nallowed: an MLflow"
        ) as refused:
            command()
        assert "se/kret" not in str(refused.value)
        assert "'se'" not in str(refused.value)
        assert redact(str(refused.value)) == str(refused.value)


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_given_up(make_run: MakeRun, deaf_port: int) -> None:
    run, start = make_run(seeds=[0]), time.monotonic()
    with pytest.raises(TrackingError, match="cannot be used"):
        sync(run, f"http://127.0.0.1:{deaf_port}")
    assert time.monotonic() - start < 17


@pytest.mark.parametrize("content", [b"this is no database at all, but a text" * 200, None])
def test_an_unusable_database_file_is_one_clear_error(
    make_run: MakeRun, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "mlflow.db"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(TrackingError, match=re.escape(str(file))):
        sync(make_run(seeds=[0]), f"sqlite:///{file}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:p@ss@db:5432/x", "postgresql://***@db:5432/x"),
        ("API request to https://me@host/api failed", "API request to https://***@host/api failed"),
        ("mssql://host/db?password=abc&x=1", "mssql://host/db?password=***&x=1"),
        ("sqlite:////data/runs/mlflow.db", "sqlite:////data/runs/mlflow.db"),
        ("sqlite:////home/me@lab/mlflow.db", "sqlite:////home/me@lab/mlflow.db"),
        ("postgresql://u:se/kret@127.0.0.1:1/d", "postgresql://***@127.0.0.1:1/d"),
        ("postgresql://u:pa ss@h/d", "postgresql://***@h/d"),
        ("--tracking-uri=mysql://u:a@b/c d@h/d", "--tracking-uri=mysql://***@h/d"),
        ("sqlite+pysqlcipher://:sekret@/x.db", "sqlite+pysqlcipher://***@/x.db"),
        ("http://h/?api_token=abc", "http://h/?api_token=***"),
        ("http://h/?a=1&access_token=abc&b=2", "http://h/?a=1&access_token=***&b=2"),
        ("http://h/?api_key=abc&Token=def", "http://h/?api_key=***&Token=***"),
        ("postgresql://h/d?sslpassword=abc", "postgresql://h/d?sslpassword=***"),
        ("connection failed: db_password=abc host=h", "connection failed: db_password=*** host=h"),
        ("--tracking-uri: 'http://h/?token=***' is", "--tracking-uri: 'http://h/?token=***' is"),
        ("mysql://***@h/d: no access for 'me'@'h'", "mysql://***@h/d: no access for 'me'@'h'"),
        ("model.options.keys=3", "model.options.keys=3"),
    ],
)
def test_credentials_are_redacted(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


def test_the_default_store_lies_beside_the_run(tmp_path: Path) -> None:
    uri = default_tracking_uri(tmp_path / "runs" / "paper")
    assert database_file(uri) == tmp_path / "runs" / "mlflow.db"
