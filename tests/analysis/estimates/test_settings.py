"""Settings are validated where they are made, and hold for every estimator that takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sublim_causal.analysis import Settings, mean_interval
from sublim_causal.errors import RequestError

SKEWED = np.random.default_rng(4).lognormal(sigma=1.2, size=20)


@pytest.mark.parametrize(
    ("field", "value"), [("level", 1.0), ("level", 95), ("interval", "wald"), ("n_boot", 0)]
)
def test_a_wrong_value_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(RequestError) as error:
        Settings(**{field: value})
    assert (error.value.field, error.value.value) == (field, value)


def test_the_nearest_interval_is_named() -> None:
    with pytest.raises(RequestError, match="did you mean 'bootstrap-t'"):
        Settings(interval="bootstrap")  # type: ignore[arg-type]


def test_each_setting_has_its_effect() -> None:
    base = mean_interval(SKEWED)
    assert (base.method, base.level, len(base.draws)) == ("hull of t and bootstrap-t", 0.95, 1999)  # type: ignore
    narrow = mean_interval(SKEWED, settings=Settings(level=0.8))
    assert narrow.high < base.high  # type: ignore[union-attr]
    assert mean_interval(SKEWED, settings=Settings(interval="t")).method == "t"  # type: ignore
    few = mean_interval(SKEWED, settings=Settings(n_boot=99))
    assert len(few.draws) == 99  # type: ignore[union-attr, arg-type]


def test_a_seed_repeats_its_draws_and_a_generator_advances() -> None:
    seeded, moving = Settings(rng=3), Settings(rng=np.random.default_rng(3))
    one, two = (mean_interval(SKEWED, settings=seeded) for _ in range(2))
    first, second = (mean_interval(SKEWED, settings=moving) for _ in range(2))
    assert one == two == first
    assert first != second
    assert replace(moving, level=0.9).rng is moving.rng
