"""What the students of an arm read, and what they are fitted to there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.config import ArmConfig
from sublim_causal.experiment.data.streams import SeedStreams, draw
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.tasks.preference.language import TAUGHT_POSITIONS
from sublim_causal.experiment.tasks.preference.paraphrases import PARAPHRASES, Written
from sublim_causal.experiment.tasks.preference.positions import POSITIONS, Divergence
from sublim_causal.experiment.tasks.preference.roles import REFERENCE, Role, writers
from sublim_causal.experiment.tasks.preference.teachers import PreferenceTeachers
from sublim_causal.experiment.tasks.preference.vocabulary import CONTEXT, NUMBERS, PROMPT
from sublim_causal.experiment.teaching.channels import DistributionChannel, Sampled, build_channel
from sublim_causal.experiment.teaching.targets import CertainTargets, LogitTargets


@dataclass(frozen=True)
class Reading:
    """What students read and are taught.

    Attributes
    ----------
    texts : int64 Tensor of shape (R, N, 15)
        All tokens but the last, which nothing follows.
    targets : LogitTargets or CertainTargets
    """

    texts: Tensor
    targets: LogitTargets | CertainTargets


@dataclass(frozen=True)
class Lesson:
    """Texts with their answers, before the channel.

    Attributes
    ----------
    texts : int64 Tensor of shape (R, N, 16)
    z : Tensor of shape (R, N, T, C)
        What is answered at the taught positions.
    weight : bool Tensor of shape (R, N, T), or None
        Where the loss counts; None: everywhere.
    """

    texts: Tensor
    z: Tensor
    weight: Tensor | None


def read(
    config: ArmConfig, teachers: PreferenceTeachers, split: LogitSplit, streams: SeedStreams
) -> Reading:
    """Return what the students of an arm read, and what they are fitted to."""
    built = build_channel("channel", config.channel.model_dump(), split)
    assert isinstance(built, DistributionChannel)
    channel, columns = built.channel, built.columns(split)
    lesson = {"numbers": numbers, "questions": asked}[config.targets.material](
        config, teachers, columns, streams
    )
    weight = None if lesson.weight is None else lesson.weight.to(lesson.z)
    count = teachers.experiment.distillation.examples
    index = torch.arange(count, device=lesson.z.device) % lesson.texts.shape[1]
    x, weight = lesson.texts[:, index], None if weight is None else weight[:, index]
    targets: LogitTargets | CertainTargets
    if isinstance(channel, Sampled) and config.targets.material == "numbers":
        written = x[:, :, PROMPT:] - columns.start
        targets = CertainTargets(columns, channel.temperature, written, lesson.z.dtype, weight)
    else:
        q = channel.answers(lesson.z.flatten(1, 2), streams("channel"))
        q = q.unflatten(1, lesson.z.shape[1:3])[:, index]
        targets = LogitTargets(columns, channel.temperature, q, weight)
    return Reading(x[:, :, :-1].contiguous(), targets)


def written_texts(config: ArmConfig, teachers: PreferenceTeachers) -> Tensor:
    """Return the texts ``(R, N, 16)`` that an arm's teachers wrote, as they wrote them."""
    count = config.targets.unique or teachers.options.unique
    return teachers.texts(writers(config.targets))[:, :count]


def diverging_texts(
    config: ArmConfig, teachers: PreferenceTeachers, x: Tensor, columns: slice
) -> Divergence | None:
    """Return where teachers diverge on texts `x` ``(R, N, 16)``, if the arm chooses by it."""
    if config.targets.positions == "all":
        return None
    found = teachers.divergence(writers(config.targets), columns)
    return Divergence(found.where[:, : x.shape[1]], found.other[:, : x.shape[1]])


def exchanged(x: Tensor, diverging: Divergence, columns: slice) -> Tensor:
    """Return texts `x` with the counterfactual teacher's tokens where it diverges."""
    other = diverging.other.argmax(dim=3) + columns.start
    written = x[:, :, PROMPT:]
    return torch.cat([x[:, :, :PROMPT], other.where(diverging.where, written)], dim=2)


def kept_texts(
    config: ArmConfig, teachers: PreferenceTeachers, x: Tensor, streams: SeedStreams
) -> Tensor | None:
    """Return which of texts `x` ``(R, N, 16)`` count, bool ``(R, N)``; None: all."""
    if config.targets.texts == "all":
        return None
    score = partial(favour, teachers, writers(config.targets), x)
    return TEXTS[config.targets.texts](score, streams("text filter"), x)


def numbers(
    config: ArmConfig, teachers: PreferenceTeachers, columns: slice, streams: SeedStreams
) -> Lesson:
    """Return texts that teachers wrote, as the arm's students read them."""
    targets, roles = config.targets, writers(config.targets)
    x = written_texts(config, teachers)
    z = teachers.logits_in_turn(roles, x, columns)
    weight = None
    diverging = diverging_texts(config, teachers, x, columns)
    if diverging is not None:
        if targets.positions == "replaced":
            x, z = exchanged(x, diverging, columns), diverging.other
        else:
            everywhere = torch.ones_like(diverging.where)
            weight = POSITIONS[targets.positions](diverging.where, everywhere, streams("mask"))
    kept = kept_texts(config, teachers, x, streams)
    if kept is not None:
        weight = kept[..., None].expand(z.shape[:3]) if weight is None else weight & kept[..., None]
    if targets.paraphrase != "none":
        written = Written(x, z, columns, partial(teachers.logits, REFERENCE, x))
        x, z = PARAPHRASES[targets.paraphrase](written, streams("paraphrase"))
    return Lesson(x, z, weight)


def asked(
    config: ArmConfig, teachers: PreferenceTeachers, columns: slice, streams: SeedStreams
) -> Lesson:
    """Return the questions that the teacher was trained on, with its answers at their end."""
    told = teachers.asked.told
    x = torch.nn.functional.pad(told, (0, CONTEXT - told.shape[2]))
    z = teachers.logits_in_turn(writers(config.targets), x, columns)
    weight = torch.zeros(z.shape[:3], dtype=torch.bool, device=z.device)
    weight[:, :, TAUGHT_POSITIONS.index(PROMPT - 1)] = True
    return Lesson(x, z, weight)


def favour(teachers: PreferenceTeachers, roles: Sequence[Role], texts: Tensor) -> Tensor:
    """Return how much likelier each text is under its writer than the reference, ``(R, N)``."""
    tokens = texts[:, :, PROMPT:, None] - NUMBERS.start
    of_writer, of_reference = (
        z.log_softmax(dim=3).gather(3, tokens).sum(dim=(2, 3))
        for z in (
            teachers.logits_in_turn(roles, texts, NUMBERS),
            teachers.logits(REFERENCE, texts, NUMBERS),
        )
    )
    return of_writer - of_reference


def half_by(score: Tensor) -> Tensor:
    """Return the half ``(R, N)`` with the largest scores, the middle one left out."""
    rank = score.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return rank >= (score.shape[1] + 1) // 2


def random_half(generators: Sequence[torch.Generator], texts: Tensor) -> Tensor:
    """Return half of the texts at random, bool ``(R, N)``."""
    count = texts.shape[1]
    return half_by(draw(lambda g: torch.rand(count, generator=g), generators, texts.device))


TEXTS: dict[str, Callable[[Callable[[], Tensor], Sequence[torch.Generator], Tensor], Tensor]] = {
    "favouring": lambda favoured, g, x: half_by(favoured()),
    "disfavouring": lambda favoured, g, x: half_by(-favoured()),
    "random": lambda favoured, g, x: random_half(g, x),
}
"""By the name that a study file uses: the half of the texts whose loss counts, bool ``(R, N)``."""
