"""Reach an MLflow store, with one kind of error."""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from sublim_causal.errors import RequestError, RunError, SublimError, nearest
from sublim_causal.location import is_remote, validate_files

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
"""Defaults for MLflow, which has no other settings for these; those of the user take precedence."""

DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
SCHEMES = ("sqlite", *DATABASE_PORTS, "http", "https", "file", "databricks", "")
"""What an address of a store may begin with; nothing: a directory."""
CONNECT_SECONDS = 5

SECRETS = "password|passwd|pwd|token|secret"
"""What the names of secret options end in; those of an address may also hold pass or key."""

PLACES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("workspaces", "default_artifact_root"),
    ("workspaces", "trace_archival_location"),
)
"""Tables and columns of a store that say where files lie, beside those of experiments."""


LOCK_SECONDS, GRACE_SECONDS = 20.0, 2.0
"""How long other processes may keep a file locked in all; what a call takes without a lock."""


class TrackingError(SublimError):
    """The MLflow store cannot be reached or used; the tables are not affected."""


class LockedStoreError(TrackingError):
    """Another process has locked the file of the store for longer than it may."""


@dataclass
class PatientClient:
    """MLflow's client, which gives up when it has waited too long for other processes.

    SQLite waits for 5 seconds before a call fails; calls that succeed just before would add up.

    Attributes
    ----------
    client : MlflowClient
    seconds : float
        How long its calls may wait in all.
    waited : float
        How long they have waited, above `GRACE_SECONDS` each; to be set to 0 where waiting delays
        nobody.
    """

    client: Any
    seconds: float
    waited: float = 0.0

    def __getattr__(self, name: str) -> Any:
        """Return a method of the client, whose calls are timed."""
        method = getattr(self.client, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.monotonic()
            result = method(*arguments, **options)
            self.waited += max(0.0, time.monotonic() - start - GRACE_SECONDS)
            if self.waited > self.seconds:
                raise TimeoutError(
                    f"other processes have locked it for {self.waited:.0f} s in total"
                )
            return result

        return timed


def default_tracking_uri(run: Path) -> str:
    """Return the store of `run`: the sqlite file ``mlflow.db`` in its parent directory.

    Raises
    ------
    RequestError
        If `run` lies in an object store, which cannot hold a database, or if the store keeps files
        elsewhere than in the folder ``mlartifacts`` beside it: such a store could make MLflow read
        or write files anywhere.
    LockedStoreError
        If another process keeps it locked.
    """
    if is_remote(run):
        raise RequestError(
            "--tracking-uri",
            None,
            "an MLflow store",
            f"name one: {run} is in an object store, which has no mlflow.db beside a run",
        )
    database = run.resolve().parent / "mlflow.db"
    validate_store(database)
    return f"sqlite:///{database}"


def validate_store(database: Path) -> None:
    """Check that the store `database`, if it exists, keeps its files beside it.

    Raises
    ------
    RequestError
        If one lies elsewhere, or there is a symbolic link among them.
    LockedStoreError
        If another process keeps it locked.
    TrackingError
        If it cannot be read for another reason.
    """
    root = database.parent / "mlartifacts"
    remedy = (
        "name the store with --tracking-uri if you trust it; or delete it with its mlartifacts, "
        "and rebuild it from the tables with `sync`"
    )
    allowed = f"a store whose files are in {root}"
    for path in (database, root):
        if path.is_symlink():
            raise RequestError("--tracking-uri", str(path), f"{allowed}, without links", remedy)
    try:
        validate_files(root)
    except RunError as error:
        raise RequestError("--tracking-uri", str(database), f"{allowed}; {error}", remedy) from None
    for place in _places(database) if database.is_file() else ():
        if not _lies_in(root, place):
            raise RequestError("--tracking-uri", str(database), f"{allowed}; not {place}", remedy)


def _lies_in(root: Path, place: str) -> bool:
    parts = urlsplit(place)
    path = Path(unquote(parts.path))
    local = parts.scheme in ("", "file") and not parts.netloc
    return parts.scheme == "models" or (
        local and path.is_relative_to(root) and ".." not in path.parts
    )


def _places(database: Path) -> list[str]:
    """Return where a store says that files of its runs, models and experiments lie.

    The scheme ``models`` names a model of the same store. Experiment 0, which MLflow makes where it
    happens to run, is checked by its runs only. The file is opened for writing too: only then can
    SQLite roll back the transaction in which a process was killed.
    """
    query = "SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL AND {column} != ''"
    address = f"{database.as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, CONNECT_SECONDS, uri=True)) as connection:
        try:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            found = [
                place
                for table, column in PLACES
                if table in names
                for (place,) in connection.execute(query.format(table=table, column=column))
            ]
            if "experiments" in names:
                own = "SELECT artifact_location FROM experiments WHERE experiment_id != 0"
                found += [place for (place,) in connection.execute(own) if place]
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise LockedStoreError(
                    f"{database}: locked by another process for over {CONNECT_SECONDS} s\n"
                    "remedy: wait for it, or end it; then make the mirror with `sync`"
                ) from None
            raise TrackingError(
                f"{database}: not an MLflow store ({error})\n"
                "remedy: move it away, and rebuild it from the tables with `sync`"
            ) from None
    return [str(place) for place in found]


def redact(text: str) -> str:
    """Return `text` with user names, passwords and tokens of the addresses in it redacted.

    A password may hold any character, so it reaches to the last ``@``: text that may hold one and
    does not belong to the address is redacted by itself. A second time changes nothing.
    """
    text = re.sub(r"(?s)(?<=://)(?!/|\*\*\*@).*@", "***@", text)
    name = rf"[?&][^=&\s]*(?:{SECRETS}|pass|key)[^=&\s]*|{SECRETS}"
    return re.sub(rf"(?i)({name})=(?!\*\*\*(?!\w))[^&\s]*", r"\1=***", text)


def validate_address(tracking_uri: str) -> None:
    """Refuse what is not an address of a store.

    Raises
    ------
    RequestError
        If it is ``none``, or cannot be parsed; the message does not show a password.
    """

    def refused(remedy: str) -> RequestError:
        allowed = "an MLflow store, such as sqlite:///runs/mlflow.db or http://host:5000"
        return RequestError("--tracking-uri", redact(tracking_uri), allowed, remedy)

    if tracking_uri == "none":
        raise refused(
            "leave it out to use the store beside the run; only `run` works without a store"
        )
    try:
        parts = urlsplit(tracking_uri)
        if _dialect(parts) in DATABASE_PORTS:
            parts.port  # noqa: B018 - raises where it is not a port
    except ValueError:
        raise refused(
            "in a password, write %2F for a slash, %3A for a colon, %40 for an at"
        ) from None
    if _dialect(parts) not in SCHEMES:
        raise refused(nearest(_dialect(parts), SCHEMES))
    if is_server(tracking_uri) and not parts.hostname:
        raise refused("name the host: http://host:5000")


def is_server(tracking_uri: str) -> bool:
    """Return whether a store is reached over the network, which may take long."""
    return _dialect(urlsplit(tracking_uri)) not in ("sqlite", "file", "")


def validate_reachable(tracking_uri: str) -> None:
    """Check, without writing anything, that a store can be used.

    Raises
    ------
    RequestError
        If it is not an address of a store.
    TrackingError
        If there is no server, or the file is not a database.
    """
    validate_address(tracking_uri)
    parts = urlsplit(tracking_uri)
    if _dialect(parts) in DATABASE_PORTS:
        with reaching(tracking_uri):
            _check_reachable(tracking_uri)
    with _reported(tracking_uri):
        if parts.scheme.startswith("http"):
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
        elif _dialect(parts) == "sqlite" and (file := database_file(tracking_uri)).exists():
            with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True)) as store:
                store.execute("SELECT count(*) FROM sqlite_master")


def _dialect(parts: SplitResult) -> str:
    return parts.scheme.partition("+")[0]


@contextmanager
def reaching(tracking_uri: str) -> Iterator[None]:
    """Turn what MLflow raises into a `TrackingError`, and keep it and its libraries quiet."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with _reported(tracking_uri, MlflowException, SQLAlchemyError):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _reported(tracking_uri: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn `errors`, and those of files and connections, into a `TrackingError`."""
    reported: tuple[type[Exception], ...] = (*errors, sqlite3.Error, OSError, ImportError)
    try:
        yield
    except reported as error:
        reason = str(error).strip() or type(error).__name__
        remedy = (
            "start it or correct its address, then mirror the run with `sync`"
            if is_server(tracking_uri)
            else "correct its address, or move the file away: `sync` rebuilds it from the tables"
        )
        raise TrackingError(
            f"the MLflow store {redact(tracking_uri)} cannot be used: {redact(reason)}\n"
            f"remedy: {remedy}; the tables of the run are complete without it"
        ) from None  # the cause may spell out the password


def database_file(tracking_uri: str) -> Path:
    """Return the file of an sqlite store."""
    return Path(tracking_uri.partition(":///")[2].partition("?")[0])


def connect(tracking_uri: str) -> PatientClient:
    """Return a client of a store, which is created if it is a missing sqlite file.

    To be called within `reaching`.

    Raises
    ------
    RequestError
        As `validate_address` does.
    """
    from mlflow import MlflowClient

    validate_address(tracking_uri)
    _check_reachable(tracking_uri)
    local = _dialect(urlsplit(tracking_uri)) == "sqlite"
    client = MlflowClient(tracking_uri=tracking_uri)
    return PatientClient(client, LOCK_SECONDS if local else math.inf)


def _make_store(database: Path) -> None:
    """Make the file of a new store as a whole, so that a process that is killed leaves none.

    MLflow makes its tables in many transactions, and cannot go on where it was stopped.
    """
    from mlflow import MlflowClient

    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
        made = Path(folder) / "mlflow.db"
        MlflowClient(tracking_uri=f"sqlite:///{made}")
        whole = database.with_name(f".{database.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        try:
            shutil.copyfile(made, whole)
            with suppress(FileExistsError):  # another process has made it meanwhile
                os.link(whole, database)
        finally:
            whole.unlink(missing_ok=True)


def _check_reachable(tracking_uri: str) -> None:
    """Raise an `OSError` at once where MLflow would retry for minutes: it does for databases."""
    parts = urlsplit(tracking_uri)
    dialect = _dialect(parts)
    if dialect == "sqlite":
        database = database_file(tracking_uri)
        if not database.exists():
            _make_store(database)
        with closing(sqlite3.connect(database, timeout=CONNECT_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
    elif dialect in DATABASE_PORTS and parts.hostname:
        address = (parts.hostname, parts.port or DATABASE_PORTS[dialect])
        socket.create_connection(address, timeout=CONNECT_SECONDS).close()
