"""Files that are not what was written: found, and never a crash."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sublim_causal.store import blocks, tables
from sublim_causal.store.damage import damaged
from tests.store.test_tables import block_of

BLOCK = "0000000-0000000"


def test_hashes_that_are_not_what_was_written_are_damage_of_the_commit(tmp_path: Path) -> None:
    tables.write_block(tmp_path, BLOCK, "baseline", block_of(0), weights=b"parameters")
    commit = blocks.file_of(tmp_path, "replicates", "baseline", BLOCK)
    content = commit.read_bytes()
    start = content.index(b'{"steps"')
    digests = content[start : content.index(b"}", start) + 1]
    others = [b"[]", b"3", b"null", b'"steps"', b'{"steps": 3}', b'{"steps": ""}', b'{"../x": ""}']
    changed = [other.ljust(len(digests)) for other in others]
    rng = np.random.default_rng(0)
    for at, byte in zip(rng.integers(len(digests), size=500), rng.bytes(500), strict=True):
        changed.append(digests[:at] + bytes([byte]) + digests[at + 1 :])
    for text in changed:
        commit.write_bytes(content.replace(digests, text))
        found = damaged(tmp_path)
        if found:
            assert list(found) == [("baseline", BLOCK)]
            assert all(path.exists() for path in found["baseline", BLOCK])
        else:  # white space
            assert json.loads(text) == json.loads(digests)
