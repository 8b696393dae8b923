"""Where a run lies: in a directory, or under a prefix of an object store.

An object store is reached through fsspec. Its paths are `UPath` of universal_pathlib, which offers
the methods of `Path` that this package uses, so everything is annotated with `Path`. Their
differences are handled here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sublim_causal.errors import RequestError, RunError, StorageError, storage_error

if TYPE_CHECKING:
    import pyarrow.fs

REACH_SECONDS = 15
"""How long a store may take to answer at all; its client alone would try again for minutes."""
BATCH = 256
"""Objects fetched at a time."""
READ_AHEAD = 2**20
"""Bytes an S3 read fetches beyond the requested range; by default s3fs fetches 50 MiB."""
S3_OPTIONS = {"use_listings_cache": False, "default_block_size": READ_AHEAD}
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": S3_OPTIONS,
    "s3a": S3_OPTIONS,
    "gs": {"use_listings_cache": False},
    "gcs": {"use_listings_cache": False},
}
"""Without listings kept in memory, a reader sees what other processes have written meanwhile."""
CLIENTS = {"aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "s3fs"}
"""Packages whose exceptions say that a store is out of reach or refuses."""
PASSWORD = re.compile(r"://[^/@]*:(?!\d+/)[^@]*@")
"""A password in an address, which may hold a slash as secret keys do; no port with a path."""
EXTRA = "pip install 'sublim-causal[remote]'"


def locate(place: str | Path) -> Path:
    """Return the path of `place`: a `Path`, or a `UPath` where it is a ``scheme://`` address.

    Parameters
    ----------
    place : str or Path
        A directory or an address that fsspec knows, such as ``s3://bucket/prefix``. Credentials
        come from the environment, as the store's own client reads them.

    Raises
    ------
    RequestError
        If the scheme is unknown, its package is not installed, the address holds a password, or a
        path is none: it holds a NUL character, bytes that are no UTF-8, or a loop of links.
    RunError
        If the store cannot be reached, or has no such bucket; within about half a minute.
    """
    if isinstance(place, str) and "\0" in place:
        raise RequestError("path", place, "a path without NUL characters")
    if not isinstance(place, str) or "://" not in place:
        if not isinstance(place, Path | str):
            return place
        return _validated(Path(place))
    path = _address(place)
    if path.protocol in ("file", "local"):
        return Path(path.path)
    _check_reachable(path)
    return cast(Path, path)


def _validated(path: Path) -> Path:
    try:
        full = path.absolute()
    except FileNotFoundError:
        allowed = "a path in an existing folder; the working directory has been deleted"
        raise RequestError("path", str(path), allowed) from None
    try:
        str(full).encode()  # what a run holds names its place, in UTF-8
        path.stat()
    except UnicodeEncodeError:
        raise RequestError(
            "path", os.fsencode(full), "a path in UTF-8", "rename what is not"
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RequestError("path", str(path), "a path without a loop of links") from None
    return path


def is_remote(path: Path) -> bool:
    """Return whether `path` lies in an object store."""
    return not isinstance(path, Path)


def validate_files(folder: Path) -> None:
    """Check that there are only folders and regular files below `folder`: no links, no devices.

    What is written or deleted through a symbolic link lies elsewhere; a pipe or a device is not to
    be replaced by a file. `folder` itself may be a link: its user has named it.

    Raises
    ------
    RunError
        If there is one.
    """
    if is_remote(folder) or not folder.is_dir():
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink():
                raise RunError(
                    f"{path}: a symbolic link, through which files elsewhere could be changed\n"
                    "remedy: delete it, or put what it points to in its place"
                )
            if (kind := kind_of(path)) in SPECIAL:
                raise RunError(
                    f"{path}: a {kind}, where only files and folders are allowed\n"
                    "remedy: move it elsewhere"
                )


SPECIAL = ("pipe", "socket", "device")
"""What is neither a file nor a folder, and never replaced by one."""


def kind_of(path: Path) -> str:
    """Return ``"file"``, ``"directory"`` or one of `SPECIAL`; empty if nothing is at `path`."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    kinds = (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "directory"),
        (stat.S_ISFIFO, "pipe"),
        (stat.S_ISSOCK, "socket"),
    )
    return next((kind for is_kind, kind in kinds if is_kind(mode)), "device")


def put(path: Path, data: bytes, *, create: bool = False) -> None:
    """Write an object at once; readers see the old one or the new one.

    Raises
    ------
    FileExistsError
        If it is there already and `create` is set.
    StorageError
        If it cannot be written for another reason.
    """
    remote = cast(Any, path)
    with _writing(path):
        remote.fs.pipe_file(remote.path, data, mode="create" if create else "overwrite")


def validate_replaceable(path: Path) -> None:
    """Check that nothing but a file stands at `path`.

    Raises
    ------
    StorageError
        If a device, a pipe or a socket does.
    """
    if (kind := kind_of(path)) in SPECIAL:
        raise StorageError(
            f"{path}: cannot be written: it is a {kind}\nremedy: name another file, or move it"
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part.

    Raises
    ------
    StorageError
        If the disk is full, something else than a file stands there (a device, a pipe), or the
        file cannot be written for another reason.
    """
    if is_remote(path):
        put(path, data)
        return
    validate_replaceable(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn errors of the file system into a `StorageError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def _sync_directory(directory: Path) -> None:
    """Make renames in `directory` durable, so that no commit outlives what it commits."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or an object, if it is there.

    Raises
    ------
    StorageError
        If that is not allowed, or the store is out of reach.
    """
    if is_remote(path):
        remote = cast(Any, path)
        with _writing(path), contextlib.suppress(FileNotFoundError):
            remote.fs.rm_file(remote.path)
    else:
        with storing(path):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except Exception as error:  # every store's client has errors of its own
        raise StorageError(
            f"{path}: cannot be written: {_reason(error)}\n"
            "remedy: check the store; finished blocks are kept, and the same command resumes "
            "the run"
        ) from error


def read_files(paths: Sequence[Path]) -> Iterator[bytes | Exception]:
    """Yield the content of each path, or why it cannot be read; many objects at a time."""
    if not any(map(is_remote, paths)):
        for path in paths:
            try:
                yield path.read_bytes()
            except OSError as error:
                yield error
        return
    for start in range(0, len(paths), BATCH):
        batch = [cast(Any, path) for path in paths[start : start + BATCH]]
        names = [path.path for path in batch]
        # From byte 0 on: asked for a whole object, s3fs asks for its size first.
        yield from batch[0].fs.cat_ranges(names, 0, None, on_error="return")


def size_of(path: Path) -> int | None:
    """Return the size of a file or an object in bytes; None if it is not there."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def sizes(folder: Path) -> dict[Path, int]:
    """Return all objects under `folder` with their sizes in bytes, by one listing."""
    remote = cast(Any, folder)
    found = remote.fs.find(remote.path, detail=True)
    return {
        folder / name.removeprefix(remote.path).lstrip("/"): entry["size"]
        for name, entry in found.items()
    }


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files under `folder` that match `pattern`, such as ``arm=*/*.parquet``.

    In an object store by one listing, where a walk would ask for every folder.
    """
    if not is_remote(folder):
        return list(folder.glob(pattern))
    start = len(str(folder)) + 1
    return [path for path in sizes(folder) if fnmatchcase(str(path)[start:], pattern)]


def arrow_files(paths: Sequence[Path]) -> tuple[pyarrow.fs.FileSystem, list[str]]:
    """Return Arrow's file system for `paths`, and their names in it."""
    import pyarrow.fs

    if not any(map(is_remote, paths)):
        # Arrow takes a folder `~` for the home directory, unless the path is absolute.
        return pyarrow.fs.LocalFileSystem(), [str(path.absolute()) for path in paths]
    remote = [cast(Any, path) for path in paths]
    handler = pyarrow.fs.FSSpecHandler(remote[0].fs)
    return pyarrow.fs.PyFileSystem(handler), [path.path for path in remote]


def _address(place: str) -> Any:
    scheme = place.partition("://")[0]
    if PASSWORD.search(place):
        raise RequestError(
            "address",
            f"{scheme}://***@...",
            "an address without a password",
            "give credentials in the environment, as the store's own client reads them",
        )
    try:
        from upath import UPath

        path = UPath(place, **OPTIONS.get(scheme, {}))
        path.fs  # noqa: B018 - imports the package of this scheme
    except ImportError as error:
        raise RequestError(
            "address",
            place,
            "a directory, or an address whose package is installed",
            f"{EXTRA} brings S3 and Google Cloud Storage ({error})",
        ) from None
    except ValueError as error:
        raise RequestError(
            "address", place, "a directory, or an address such as s3://bucket/prefix", str(error)
        ) from None
    return path


def _check_reachable(path: Any) -> None:
    """Ask the store once for the prefix, then for its bucket."""
    bucket = path.fs._strip_protocol(path.anchor)
    try:
        if not _exists(path.fs, path.path) and not _exists(path.fs, bucket):
            raise RunError(
                f"{path}: there is no {bucket}\nremedy: create it first, or correct the address"
            )
    except RunError:
        raise
    except Exception as error:  # every store's client has errors of its own
        raise RunError(
            f"{path}: the store cannot be used: {_reason(error)}\n"
            "remedy: check the address, the network, and the credentials in the environment "
            "(S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, AWS_ENDPOINT_URL; "
            "Google: GOOGLE_APPLICATION_CREDENTIALS)"
        ) from None


def _exists(files: Any, name: str) -> bool:
    from fsspec.asyn import sync

    try:
        if files.async_impl:
            sync(files.loop, files._info, name, timeout=REACH_SECONDS)
        else:
            files.info(name)
    except FileNotFoundError:
        return False
    return True


def _reason(error: Exception) -> str:
    if type(error).__name__ == "FSTimeoutError":
        return f"no answer within {REACH_SECONDS} s"
    return f"{type(error).__name__}: {error}".strip(": ")


def is_client_error(error: Exception) -> bool:
    """Return whether a file system or the client of an object store raised `error`."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in CLIENTS
