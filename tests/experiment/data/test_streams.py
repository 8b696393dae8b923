"""Random streams."""

from __future__ import annotations

import pytest
import torch

from sublim_causal.experiment.data.streams import Ahead, draw, stream, stream_seed


def test_a_stream_is_determined_by_study_seed_and_purpose() -> None:
    draws = {
        key: tuple(torch.rand(4, generator=stream(*key)).tolist())
        for key in (("a", 0, "init"), ("b", 0, "init"), ("a", 1, "init"), ("a", 0, "noise"))
    }
    assert len(set(draws.values())) == 4
    assert tuple(torch.rand(4, generator=stream("a", 0, "init")).tolist()) == draws["a", 0, "init"]


def test_seeds_are_the_same_on_every_machine() -> None:
    assert stream_seed("paper", 0, "init") == 5051805725215367338
    assert stream_seed("paper", 7, "noise") < 2**63


def test_what_a_replicate_draws_does_not_depend_on_the_others() -> None:
    def drawn(seeds: range) -> torch.Tensor:
        streams = [stream("a", seed, "noise") for seed in seeds]
        cpu = torch.device("cpu")
        first = draw(lambda g: torch.randn((30, 4), generator=g), streams, cpu)
        return torch.cat([first, draw(lambda g: torch.rand((3, 4), generator=g), streams, cpu)], 1)

    together = drawn(range(40))
    assert together.shape == (40, 33, 4)
    assert torch.equal(together, torch.cat([drawn(range(i, i + 1)) for i in range(40)]))


def test_a_step_gets_what_it_draws_whichever_was_drawn_ahead() -> None:
    ahead = Ahead(lambda step: torch.rand(5, generator=stream("a", step, "step")))
    for step in (0, 1, 2, 2, 7, 8, 0):
        assert torch.equal(ahead.at(step), torch.rand(5, generator=stream("a", step, "step")))


def test_an_error_of_what_is_drawn_ahead_comes_with_its_step() -> None:
    def function(step: int) -> torch.Tensor:
        if step == 1:
            raise ValueError("no such step")
        return torch.zeros(1)

    ahead = Ahead(function)
    ahead.at(0)
    with pytest.raises(ValueError, match="no such step"):
        ahead.at(1)
