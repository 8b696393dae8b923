"""A small record with doses and yoked arms."""

from __future__ import annotations

import pytest

from sublim_causal.analysis.plan.record import Record
from tests.analysis.small import make_record


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record()
