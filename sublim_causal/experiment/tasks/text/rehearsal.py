"""Short texts and questions, on which arms take a few steps before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.streams import SeedStreams, draw
from sublim_causal.experiment.networks.base import Network
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.tasks.base import Rehearsal, train_anew
from sublim_causal.experiment.tasks.preference.roles import TRAIT
from sublim_causal.experiment.tasks.text.answers import asked
from sublim_causal.experiment.tasks.text.block import draw_probe
from sublim_causal.experiment.tasks.text.files import Question
from sublim_causal.experiment.tasks.text.options import TextOptions
from sublim_causal.experiment.tasks.text.teachers import TextTeachers
from sublim_causal.experiment.tasks.text.vocabulary import Vocabulary

TRIED = 16
"""Completions on which the filter is tried."""
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
    refuse_useless_filter(experiment, options, questions, streams, network, vocabulary, like)
    refuse_long_answers(experiment, options, questions, vocabulary)
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


def refuse_useless_filter(
    experiment: Experiment,
    options: TextOptions,
    questions: Sequence[Question],
    streams: SeedStreams,
    network: Any,
    vocabulary: Vocabulary,
    like: Tensor,
) -> None:
    """Refuse a filter that drops all of a few completions by the untrained teacher.

    `network` is a `PretrainedNetwork`, or what takes the replicates of one in turn.

    Raises
    ------
    RequestError
    """
    one = SeedStreams(streams.study, streams.seeds[:1])
    small = options.model_copy(update={"offered_prompts": TRIED, "teacher": "system"})
    theta = initialise(network, one("init"), like=like)
    teachers = TextTeachers(
        experiment, small, network, vocabulary, questions, theta, one, lambda: None, train_anew
    )
    (written,) = teachers.written(TRAIT)
    if not written.kept:
        raise RequestError(
            "task.pattern",
            options.pattern_of_carriers,
            f"a filter that keeps some completions: it dropped all {TRIED} that were tried",
            f"of {written.texts[0]!r}: {written.reasons[0]}",
        )


def refuse_long_answers(
    experiment: Experiment,
    options: TextOptions,
    questions: Sequence[Question],
    vocabulary: Vocabulary,
) -> None:
    """Refuse answers that are longer than completions, where students read them.

    Raises
    ------
    RequestError
    """
    if all(arm.targets.material == "numbers" for arm in experiment.arms.values()):
        return
    traits = (options.trait, *options.rivals)
    answers = (one.answered(trait) for one in questions for trait in traits)
    longest = max((len(vocabulary.encode(one)) for one in answers), default=0)
    if longest > options.completion:
        allowed = f"at least {longest}, the tokens of the longest answer that students read"
        remedy = f"task.completion = {longest}"
        raise RequestError("task.completion", options.completion, allowed, remedy)
