"""Texts and questions, on which arms take a few steps before anything is trained."""

from __future__ import annotations

from functools import partial

import torch

from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.streams import SeedStreams, draw
from sublim_causal.experiment.networks.base import Network
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.tasks.base import Rehearsal
from sublim_causal.experiment.tasks.preference import PreferenceOptions
from sublim_causal.experiment.tasks.preference.block import divided, draw_probe, probe_of
from sublim_causal.experiment.tasks.preference.language import CARRIERS, TAUGHT_POSITIONS
from sublim_causal.experiment.tasks.preference.teachers import favourite

EXAMPLES = 8


def rehearse(
    experiment: Experiment,
    options: PreferenceOptions,
    streams: SeedStreams,
    network: Network,
    dtype: torch.dtype,
) -> Rehearsal:
    """Return two initialisations, a probe and made-up texts."""
    like = torch.empty(0, dtype=dtype)
    asked = divided(experiment.probe.size, streams("questions"), like.device)
    animal = favourite(streams.seeds, like.device)
    texts = draw(partial(CARRIERS[options.carrier], EXAMPLES), streams("texts"), like.device)
    draw_network = partial(initialise, network, like=like)
    return Rehearsal(
        draw_network(streams("init")),
        draw_network(streams("student init")),
        probe_of(asked.probe, animal),
        partial(draw_probe, experiment.probe.size, asked.test, animal),
        draw_network,
        lambda arm: texts[:, :, :-1].contiguous(),
        TAUGHT_POSITIONS,
    )
