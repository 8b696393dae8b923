from __future__ import annotations

import json
from pathlib import Path

import pytest

from sublim_causal.errors import RunError
from sublim_causal.store.manifest import read_manifest, write_manifest

MANIFEST = {
    "schema_version": 1,
    "run_id": "ab12",
    "name": "démo",
    "digest": "cd34",
    "study": {"arms": {}, "seeds": 8},
    "created": "2030-01-02T03:04:05+00:00",
    "finished": None,
}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST


def test_a_field_that_a_command_needs_is_asked_for(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    with pytest.raises(RunError, match="lacks definition"):
        read_manifest(tmp_path, needed=("name", "definition"))


def test_a_directory_without_manifest_is_no_run(tmp_path: Path) -> None:
    for run in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunError, match="not a run directory"):
            read_manifest(run)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"schema_version": 1, ', "damaged"),
        ("[1, 2]", "list instead of an object"),
        (json.dumps({**MANIFEST, "schema_version": "1"}), "instead of a whole number"),
        (
            json.dumps({"schema_version": 1, "name": "demo"}),
            "lacks run_id, digest, study, created, finished",
        ),
        (json.dumps({**MANIFEST, "schema_version": 99}), "upgrade sublim_causal"),
        (json.dumps({**MANIFEST, "study": {}}), r"lacks study\.arms, study\.seeds"),
        (json.dumps({**MANIFEST, "study": "abc"}), "study is of type str instead of an object"),
        (
            json.dumps({**MANIFEST, "study": {"arms": [], "seeds": 1}}),
            r"study\.arms is of type list",
        ),
        (
            json.dumps({**MANIFEST, "study": {"arms": {}, "seeds": "8"}}),
            r"study\.seeds is of type str",
        ),
        (
            json.dumps({**MANIFEST, "finished": 5}),
            "finished is of type int instead of a string or null",
        ),
        ("[" * 100_000, "damaged"),
    ],
)
def test_a_damaged_or_newer_manifest_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match=reason):
        read_manifest(tmp_path)


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(RunError, match="damaged"):
        read_manifest(tmp_path)
