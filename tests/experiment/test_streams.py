"""Random streams."""

from __future__ import annotations

import torch

from sublim_causal.experiment.streams import stream, stream_seed


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
