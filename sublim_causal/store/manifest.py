"""The manifest of a run: what it is, what made it, and in which version of the tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sublim_causal.errors import RunError
from sublim_causal.location import write_atomically
from sublim_causal.renames import current_manifest
from sublim_causal.store.blocks import commits_of, span
from sublim_causal.store.schema import SCHEMA_VERSION

FILE = "manifest.json"
OWN = "own"
"""Value of the field ``kind`` of a run that the user's own training wrote, without a study."""
FIELDS: dict[str, Any] = {
    "run_id": str,
    "name": str,
    "digest": str,
    "study": dict,
    "created": str,
    "finished": str | None,
}
STUDY_FILE = "study.toml"
"""The study of a run, with all defaults: a copy of what the manifest holds, for people."""
STUDY_DIGEST = "study_file"
"""Field of a manifest with the digest of that file; before version 0.2 there was none."""
CHECKSUM = "checksum"
"""Field with the hash of all others; manifests from before version 0.2 have none."""
OF_STUDY: dict[str, Any] = {"arms": dict, "seeds": int}
KINDS = {int: "a whole number", str: "a string", dict: "an object", str | None: "a string or null"}
"""What the types of fields are called."""


def write_manifest(run: Path, manifest: Mapping[str, Any]) -> None:
    """Write `manifest` as ``manifest.json`` of the directory `run`, the old one or the new one.

    Raises
    ------
    StorageError
        If the file cannot be written; the old one is kept.
    """
    content = json.loads(json.dumps(manifest))
    content[CHECKSUM] = checksum(content)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(run / FILE, text.encode())


def checksum(manifest: Mapping[str, Any]) -> str:
    """Return a hash of `manifest` without its checksum: 32 hexadecimal digits."""
    content = {name: value for name, value in manifest.items() if name != CHECKSUM}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def renew_version(run: Path) -> None:
    """Record that `run` will hold files of this version, so that older packages refuse it.

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
        while it is not), and the fields that are `needed`. The arms of an older version come in the
        words of this one. The study of a run of one's own holds the arms and the number of seeds
        that there are.

    Raises
    ------
    RunError
        If `run` is not a run directory, its manifest is damaged, or a newer version of this package
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
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(manifest, dict):
        raise _damaged(path, f"it holds a {type(manifest).__name__} instead of an object")
    _check(path, manifest, {"schema_version": int})
    _check_version(path, manifest["schema_version"])
    if manifest.pop(CHECKSUM, expected := checksum(manifest)) != expected:
        raise _damaged(path, "it is not what was written: its checksum differs")
    _check(path, manifest, {**dict.fromkeys(needed, object), **FIELDS})
    _check(path, manifest["study"], OF_STUDY, "study.")
    if is_own(manifest):
        return {**manifest, "study": _as_found(run, manifest["study"])}
    return manifest if manifest["schema_version"] > 2 else current_manifest(manifest)


def is_own(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest is that of a run of the user's own, which has no study."""
    return manifest.get("kind") == OWN


def _as_found(run: Path, study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the study of a run of one's own: what was declared, and what the tables hold."""
    commits = commits_of(run)
    arms = study["arms"] | {
        arm: {} for arm in sorted({arm for arm, _ in commits} - {*study["arms"]})
    }
    seeds = {
        seed
        for _, block in commits
        for first, last in [span(block)]
        for seed in range(first, last + 1)
    }
    reference = study.get("reference") or ("baseline" if "baseline" in arms else None)
    return {**study, "arms": arms, "seeds": len(seeds), "reference": reference}


def reference_of(study: Mapping[str, Any]) -> str | None:
    """Return the arm with which the others of a recorded `study` are compared.

    That is the one it declares, else its first whose intervention is the baseline; None if it has
    neither.
    """
    plain = (arm for arm, one in study["arms"].items() if one.get("intervention") == "baseline")
    return study.get("reference") or next(plain, None)


def _check(
    path: Path, table: Mapping[str, Any], fields: Mapping[str, Any], prefix: str = ""
) -> None:
    missing = [f"{prefix}{name}" for name in fields if name not in table]
    if missing:
        raise _damaged(path, f"it lacks {', '.join(missing)}")
    for name, kind in fields.items():
        if not isinstance(table[name], kind):
            given = type(table[name]).__name__
            raise _damaged(path, f"{prefix}{name} is of type {given} instead of {KINDS[kind]}")


def _check_version(path: Path, version: int) -> None:
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
