"""Names in a study file: what is refused, and what the refusal says."""

from __future__ import annotations

import pytest

from sublim_causal.errors import RequestError
from sublim_causal.experiment.interventions import build_interventions


class Own:
    """An intervention of a user's own, with one option."""

    def __init__(self, size: float = 1.0) -> None:
        self.size = size

    def init(self, context: object) -> None: ...

    def apply(self, vector: object, *_: object) -> object: ...


def test_an_old_intervention_is_refused_with_its_new_name() -> None:
    with pytest.raises(RequestError, match="'inject' is called 'set_cosine' since version"):
        build_interventions("arms.a", {"intervention": "inject", "cosine": 0.1})


@pytest.mark.parametrize("intervention", ["baseline", f"{__name__}:Own"])
def test_an_old_field_of_an_arm_is_refused_with_its_new_name(intervention: str) -> None:
    table = {"intervention": intervention, "lesson": {"images": "divergent"}}
    with pytest.raises(RequestError, match="'lesson' is called 'targets' since version"):
        build_interventions("arms.a", table)
