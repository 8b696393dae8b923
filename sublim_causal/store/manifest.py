"""The manifest of a run: what it is, what made it, and in which version of the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sublim_causal.errors import RunError
from sublim_causal.store.schema import SCHEMA_VERSION
from sublim_causal.store.tables import write_atomically

FILE = "manifest.json"
REQUIRED = ("schema_version", "run_id", "name", "digest", "study", "created", "finished")


def write_manifest(run: Path, manifest: Mapping[str, Any]) -> None:
    """Write `manifest` as ``manifest.json`` of the directory `run`, the old one or the new one.

    Raises
    ------
    StorageError
        If the file cannot be written; the old one is kept.
    """
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    write_atomically(run / FILE, text.encode())


def renew_version(run: Path) -> None:
    """Note that files of this version will stand in `run`, so that older packages refuse it.

    Raises
    ------
    RunError
        As in `read_manifest`.
    """
    manifest = read_manifest(run)
    if manifest["schema_version"] < SCHEMA_VERSION:
        write_manifest(run, {**manifest, "schema_version": SCHEMA_VERSION})


def read_manifest(run: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """Read the manifest of the directory `run`.

    Returns
    -------
    dict
        At least ``schema_version``, ``run_id`` (hex), ``name``, ``digest`` (hex), ``study`` (the
        whole specification, nested dictionaries), ``created`` and ``finished`` (ISO 8601; None
        while it is not), and the fields that are `needed`.

    Raises
    ------
    RunError
        If `run` is no run directory, its manifest is damaged, or a newer version of this package
        wrote it.
    """
    path = run / FILE
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{run}: not a run directory, it has no {FILE}\n"
            "remedy: give the directory that `run` printed at its end, such as runs/quickstart"
        ) from None
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(manifest, dict):
        raise _damaged(path, f"it holds a {type(manifest).__name__} instead of an object")
    missing = [name for name in (*REQUIRED, *needed) if name not in manifest]
    if missing:
        raise _damaged(path, f"it lacks {', '.join(missing)}")
    _check_version(path, manifest["schema_version"])
    return manifest


def _check_version(path: Path, version: object) -> None:
    if not isinstance(version, int):
        raise _damaged(path, f"schema_version is {version!r} instead of a whole number")
    if version > SCHEMA_VERSION:
        raise RunError(
            f"{path}: tables of version {version}, but this sublim_causal reads up to version "
            f"{SCHEMA_VERSION}\nremedy: upgrade sublim_causal"
        )


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(
        f"{path}: damaged, {reason}\n"
        "remedy: restore the file from a copy, or run the study again in another directory"
    )
