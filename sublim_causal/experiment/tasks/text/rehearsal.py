"""Short texts and questions, on which arms take a few steps before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.streams import SeedStreams, draw
from sublim_causal.experiment.networks.base import Network
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.tasks.base import Rehearsal
from sublim_causal.experiment.tasks.text.block import draw_probe
from sublim_causal.experiment.tasks.text.files import Question
from sublim_causal.experiment.tasks.text.options import TextOptions
from sublim_causal.experiment.tasks.text.teachers import asked
from sublim_causal.experiment.tasks.text.vocabulary import Vocabulary

EXAMPLES, LENGTH, TAUGHT = 8, 6, (3, 4)
"""Texts, their tokens, and where students are taught: few, as models are large."""


def rehearse(
    experiment: Experiment,
    options: TextOptions,
    questions: Sequence[Question],
    streams: SeedStreams,
    network: Network,
    vocabulary: Vocabulary,
    dtype: torch.dtype,
) -> Rehearsal:
    """Return two initialisations, a probe of two questions, and texts of random tokens."""
    like = torch.empty(0, dtype=dtype)
    shortest = sorted(questions, key=lambda one: len(one.question + one.begin))[:2]
    probe = partial(
        draw_probe,
        asked(shortest, options.trait, options.neutral, vocabulary),
        2,
        vocabulary,
        like.device,
    )
    total = vocabulary.split.total
    texts = draw(
        lambda g: torch.randint(total, (EXAMPLES, LENGTH), generator=g),
        streams("texts"),
        like.device,
    )
    draw_network = partial(initialise, network, like=like)
    return Rehearsal(
        draw_network(streams("init")),
        draw_network(streams("student init")),
        probe(streams("probe")),
        probe,
        draw_network,
        lambda arm: texts,
        TAUGHT,
    )
