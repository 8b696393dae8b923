"""Which executors there are, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.study.commands import sublim


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--executor", "rai"], "did you mean 'ray'"),
        (["--address", "10.0.0.1:6379"], "except with --executor ray"),
        (["--executor", "ray", "--address", "ray://10.0.0.1:10001"], "HOST:PORT"),
        (["--executor", "ray", "--address", "127.0.0.1:1"], "ray start --head"),
        (["--executor", "ray", "--address", "auto"], "HOST:PORT"),
        (["--executor", "ray", "--device", "tpu"], "auto, cpu or cuda"),
    ],
)
def test_wrong_requests_are_reported_and_write_nothing(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    refused = sublim("run", *arguments, "--dry-run", cwd=tmp_path)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert not any(tmp_path.iterdir())


def test_where_ray_is_missing_the_remedy_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    refused = sublim("run", "--executor", "ray", cwd=tmp_path)
    assert refused.returncode == 2
    assert "pip install 'sublim-causal[ray]'" in refused.stderr
    assert not any(tmp_path.iterdir())
