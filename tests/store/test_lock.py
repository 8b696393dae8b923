"""The lock of a run directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublim_causal.errors import RunError
from sublim_causal.store.lock import locked


@pytest.mark.parametrize(
    "content", [b"", b"{bad", b"[1]", b'"x"', b"\xff\xfe", b"{}", b'{"pid": 7}', b"null"]
)
def test_a_held_lock_without_the_name_of_its_holder_refuses_too(
    content: bytes, tmp_path: Path
) -> None:
    with locked(tmp_path):
        (tmp_path / ".lock").write_bytes(content)
        with pytest.raises(RunError, match="in use by another process"), locked(tmp_path):
            pass
