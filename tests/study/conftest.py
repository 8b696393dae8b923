"""Mirrors of the study's tests are made quickly."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _quick_stores(quick_stores: None) -> None:
    """Copy the tables of new stores."""
