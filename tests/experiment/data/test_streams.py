"""Random streams."""

from __future__ import annotations

import torch

from sublim_causal.experiment.data.streams import draw, stream, stream_seed


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
