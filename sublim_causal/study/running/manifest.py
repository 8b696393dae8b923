"""What is recorded about a run: what defines it, its provenance, and when it was made."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import tomli_w

from sublim_causal.analysis.arms.stopping import StoppingRule
from sublim_causal.declared import flatten
from sublim_causal.errors import RunError
from sublim_causal.experiment.source import code_digest, source_file
from sublim_causal.experiment.tasks import build_task
from sublim_causal.store.blocks import digest_of as digest_of_bytes
from sublim_causal.store.connection import redact
from sublim_causal.store.lock import FILE as LOCK
from sublim_causal.store.manifest import FILE, STUDY_DIGEST, is_own, read_manifest, write_manifest
from sublim_causal.store.schema import SCHEMA_VERSION
from sublim_causal.study.spec.defaults import default_options, model_options, with_defaults
from sublim_causal.study.spec.identity import arm_definition, definition, digest_of
from sublim_causal.study.spec.study import Study

PACKAGES = (
    "sublim-causal",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "mlflow",
    "scikit-learn",
    "statsmodels",
)
PROVENANCE = ("device", "product_engine", "git_revision", "python", "platform", "host")
"""Fields of a manifest with the provenance of the numbers, in addition to the packages."""


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def git_revision() -> str:
    """Return the checkout's commit, with ``+`` if files differ from it; empty outside one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not Path(git("rev-parse", "--show-toplevel"), "sublim_causal").is_dir():
            return ""
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def describe(
    study: Study, device: str, precision: str, engine: str, rule: StoppingRule | None = None
) -> dict[str, Any]:
    """Return the manifest of a new run, with the rule by which seeds are added to it."""
    defined = definition(study, precision)
    arms = {arm: arm_definition(study, arm) for arm in study.arms}
    table = study.model_dump(mode="json", by_alias=True)
    table["arms"] = {arm: with_defaults(one) for arm, one in table["arms"].items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": uuid.uuid4().hex,
        "name": study.name,
        "title": study.title,
        "digest": digest_of(defined, arms),
        "study": table,
        "outcome": asdict(build_task(study).outcome),
        "definition": defined,
        "arms": arms,
        "device": device,
        "precision": precision,
        "product_engine": engine,
        "git_revision": git_revision(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "code": code_digests(study),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "command": [redact(word) for word in ("sublim-causal", *sys.argv[1:])],
        "created": now(),
        "finished": None,
        **({} if rule is None else {"stopping": rule.record()}),
    }


def code_digests(study: Study) -> dict[str, str]:
    """Return digests of the files of the classes that `study` names as ``module:Class``."""
    files = {name: source_file(name.partition(":")[0]) for name in study.named_classes()}
    return {name: code_digest(file) for name, file in files.items() if file is not None}


def changed_code(run: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Return the classes of a study whose code was another one when some of `run` was made.

    Whether what it does has changed is not known: a helper's new name counts, a comment does not.
    """
    recorded = read_manifest(run).get("code", {}) if (run / FILE).exists() else {}
    return [name for name, now in manifest["code"].items() if recorded.get(name, now) != now]


def study_text(study: Mapping[str, Any]) -> bytes:
    """Return the file ``study.toml`` of a recorded study: all defaults are written out.

    Fields that the task does not use are left out.
    """
    validated = Study.model_validate(study)
    table = validated.model_dump(mode="json", by_alias=True, exclude_none=True)
    for field in build_task(validated).unused:
        section, _, name = field.partition(".")
        if section != "arms":
            (table[section] if name else table).pop(name or section, None)
    return tomli_w.dumps(table).encode()


def open_run(run: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Begin a run in directory `run`, or resume the same study; return its manifest.

    Arms and seeds may be added, and weights kept from now on; everything else must be as it was.

    Raises
    ------
    RunError
        If `run` holds another study; the message shows every difference.
    """
    old = validate_run(run, manifest)
    if old is None:
        begun = {**manifest, STUDY_DIGEST: digest_of_bytes(study_text(manifest["study"]))}
        write_manifest(run, begun)
        return begun
    # Blocks of an older version stay as they are; new ones are written in this version.
    merged = {**old, "schema_version": SCHEMA_VERSION}
    merged["arms"] = {**old["arms"], **manifest["arms"], **old["arms"]}
    recorded = {arm: with_defaults(one) for arm, one in old["study"]["arms"].items()}
    arms = {**recorded, **manifest["study"]["arms"]}
    seeds = max(old["study"]["seeds"], manifest["study"]["seeds"])
    measure = manifest["study"]["measure"]
    reference = manifest["study"]["reference"] or old["study"].get("reference")
    merged["study"] = {
        **old["study"],
        "measure": measure,
        "reference": reference,
        "arms": arms,
        "seeds": seeds,
    }
    merged["digest"] = digest_of(merged["definition"], merged["arms"])
    merged[STUDY_DIGEST] = digest_of_bytes(study_text(merged["study"]))
    if (len(arms), seeds) != (len(old["study"]["arms"]), old["study"]["seeds"]):
        merged["finished"] = None
        merged["seed_counts"] = seed_counts(old)
    if merged != old:
        write_manifest(run, merged)
    return merged


def validate_run(run: Path, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Check that a run may begin or be resumed in `run`; return its manifest, None if it is new.

    Raises
    ------
    RunError
        If `run` holds another study, or something else; the message shows every difference.
    """
    if not (run / FILE).exists():
        if run.exists() and (not run.is_dir() or any(not _is_temporary(p) for p in run.iterdir())):
            raise RunError(
                f"{run}: not a run directory, and not empty\n"
                "remedy: choose another with --out, or empty it"
            )
        return None
    if is_own(read_manifest(run)):
        raise RunError(
            f"{run}: a run of your own, to which no study can add\n"
            "remedy: choose another directory with --out"
        )
    old = read_manifest(run, needed=("definition", "arms", "precision", "packages"))
    changes = differences(old, manifest)
    if changes:
        raise RunError(
            f"{run}: holds another study; recorded -> requested:\n"
            + "\n".join(f"  {line}" for line in changes)
            + "\nremedy: choose another directory with --out, or request the recorded values"
        )
    if "stopping" in old and "stopping" not in manifest:
        raise RunError(
            f"{run}: has a stopping rule that adds its seeds\n"
            "remedy: run it by its rule, as `run` does, or choose another directory with --out"
        )
    validate_rule(run, old.get("stopping"), manifest.get("stopping"))
    return old


def validate_rule(
    run: Path, old: Mapping[str, Any] | None, asked: Mapping[str, Any] | None
) -> None:
    """Check that a run keeps the stopping rule that was recorded when it began.

    Asking for none is no change where the recorded one is followed.

    Raises
    ------
    RunError
        If the rules differ, or the run was begun without one.
    """
    if asked is None or (old is not None and old["digest"] == asked["digest"]):
        return
    if old is None:
        raise RunError(
            f"{run}: was started without a stopping rule, and may have been analysed since\n"
            "remedy: choose another directory with --out, or leave the rule out"
        )
    changes = "\n".join(
        f"  {name}: {old['rule'][name]!r} -> {value!r}"
        for name, value in asked["rule"].items()
        if old["rule"][name] != value
    )
    raise RunError(
        f"{run}: has another stopping rule, fixed before its first look; recorded -> requested:\n"
        f"{changes}\nremedy: leave the rule out to keep the recorded one, or choose another "
        "directory with --out"
    )


def _is_temporary(path: Path) -> bool:
    """Return whether `path` is what another process has before it has written the manifest."""
    return path.name == LOCK or path.name.startswith(f".{FILE}.")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List what defines the two experiments differently, one line per field.

    Whether a default was written out makes no difference. The definition of an
    arm holds an option of its table twice, also as ``0.<option>`` with all defaults.
    """
    pairs: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]
    model = {"model.options": {}, **model_options(Study.model_validate(new["study"]).model)}
    pairs = [("", old["definition"], new["definition"], model)]
    pairs += [
        (
            f"arms.{arm}.",
            flatten(old["arms"][arm], lists=True),
            flatten(new["arms"][arm], lists=True),
            default_options(new["study"]["arms"][arm]),
        )
        for arm in new["arms"]
        if arm in old["arms"]
    ]
    return [
        f"{prefix}{key}: {_told(a, key, default)} -> {_told(b, key, default)}"
        for prefix, a, b, default in pairs
        for key in sorted({*a, *b})
        if a.get(key, default.get(key)) != b.get(key, default.get(key))
        and not (f"0.{key}" in a and f"0.{key}" in b)
    ]


def _told(definition: Mapping[str, Any], key: str, default: Mapping[str, Any]) -> str:
    """Return the value of `key` as a difference shows it."""
    value = definition.get(key, default.get(key))
    return "not set" if value is None else repr(value)


def record_provenance(run: Path, manifest: Mapping[str, Any]) -> None:
    """Add the provenance of the blocks to come to that of earlier ones: ``"cpu, cuda"``.

    The run counts as unfinished from then on.
    """
    old = read_manifest(run)

    def both(name: str, before: Mapping[str, str], now: Mapping[str, str]) -> str:
        values = [*before.get(name, "").split(", "), now[name]]
        return ", ".join(dict.fromkeys(filter(None, values)))

    made = {name: both(name, old, manifest) for name in PROVENANCE}
    packages = {name: both(name, old["packages"], manifest["packages"]) for name in PACKAGES}
    before = old.get("code", {})
    code = {name: both(name, before, manifest["code"]) for name in manifest["code"]}
    write_manifest(
        run, {**old, **made, "packages": packages, "code": {**before, **code}, "finished": None}
    )


def record_end(run: Path, *, complete: bool) -> None:
    """Record the time at which the run became complete, or that it is not complete.

    A time that is recorded already stays. The number of seeds joins those it was complete with.
    """
    manifest = read_manifest(run)
    if complete != (manifest["finished"] is not None):
        ended = {**manifest, "finished": now() if complete else None}
        write_manifest(run, {**ended, "seed_counts": seed_counts(ended)})


def seed_counts(manifest: Mapping[str, Any]) -> list[int]:
    """Return the numbers of seeds with which a run was complete or analysed, rising."""
    now_complete = [manifest["study"]["seeds"]] if manifest["finished"] is not None else []
    return sorted({*manifest.get("seed_counts", ()), *now_complete})


def record_analysed(run: Path, seeds: int) -> None:
    """Record that a run which is not complete was analysed with a number of `seeds`."""
    manifest = read_manifest(run)
    counts = sorted({*seed_counts(manifest), seeds})
    if manifest["finished"] is None and counts != manifest.get("seed_counts"):
        write_manifest(run, {**manifest, "seed_counts": counts})
