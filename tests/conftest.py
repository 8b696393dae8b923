"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mnist() -> Path:
    """Directory with real MNIST: ``SUBLIM_DATA``, else ``../shared/data`` beside the checkout.

    Tests that need it are skipped where it is missing, except in continuous integration.
    """
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("SUBLIM_DATA") or beside)
    if (path / "MNIST" / "raw").is_dir():
        return path
    message = f"real MNIST is not in {path}: set SUBLIM_DATA to a directory that has it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
