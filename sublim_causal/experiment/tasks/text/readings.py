"""What the students of an arm read, and what they are fitted to there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from sublim_causal.experiment.config import ArmConfig
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.networks.pretrained import NO_TOKEN
from sublim_causal.experiment.shared import Figures, Texts
from sublim_causal.experiment.tasks.preference.positions import POSITIONS
from sublim_causal.experiment.tasks.preference.readings import TEXTS
from sublim_causal.experiment.tasks.preference.roles import REFERENCE, Role, writers
from sublim_causal.experiment.tasks.text.lessons import Lesson, answers_of, lesson_of
from sublim_causal.experiment.tasks.text.paraphrases import paraphrased
from sublim_causal.experiment.tasks.text.targets import TextTargets
from sublim_causal.experiment.tasks.text.teachers import TextTeachers
from sublim_causal.experiment.tasks.text.written import Fate, rows_of_texts
from sublim_causal.experiment.teaching.channels import Hard, Sampled, Soft


@dataclass(frozen=True)
class Reading:
    """What students are taught.

    Attributes
    ----------
    lesson : Lesson
    targets : TextTargets
    texts : list of Texts
        All that was written for it; empty where students read questions.
    figures : dict of str to Tensor of shape (R,)
        The share of taught tokens that diverge, where the arm chooses by it.
    """

    lesson: Lesson
    targets: TextTargets
    texts: list[Texts]
    figures: Figures


def read(
    config: ArmConfig, channel: Soft | Hard | Sampled, teachers: TextTeachers, streams: SeedStreams
) -> Reading:
    """Return what the students of an arm read, and what they are fitted to.

    Raises
    ------
    ArmError
        If the filter keeps too few texts.
    """
    columns, wanted = channel.columns(teachers.vocabulary.split), config.targets
    roles = writers(wanted)
    count = wanted.unique or teachers.experiment.distillation.examples
    is_written = wanted.material == "numbers"
    lesson = lesson_of(roles, teachers, count) if is_written else answers_of(roles, teachers)
    if wanted.paraphrase != "none":
        lesson = paraphrased(wanted.paraphrase, lesson, teachers, streams("paraphrase"))
    x = lesson.completions
    taught = (x >= columns.start) & (x < columns.stop)
    needs_answers = not isinstance(channel, Sampled) or wanted.positions != "all"
    z = logits_in_turn(roles, lesson, teachers, columns) if needs_answers else None
    weight, figures, fate = taught, Figures(), Fate(x.shape[1])
    if wanted.positions != "all":
        assert z is not None
        found = teachers.divergence(lesson.carriers, x, z, columns)
        where = found.where & taught
        figures["divergent_share"] = (where.sum(dim=(1, 2)) / taught.sum(dim=(1, 2))).double()
        other = (found.other.argmax(dim=3) + columns.start).where(where, x)
        fate = replace(fate, divergent=where.cpu(), counterfactual=other.cpu())
        if wanted.positions == "replaced":
            x, z = other, found.other.where(where[..., None], z)
            lesson = Lesson(lesson.carriers, x)
        else:
            weight = POSITIONS[wanted.positions](where, taught, streams("mask"))
    if wanted.texts != "all":
        score = partial(favour, roles, lesson, teachers)
        kept = TEXTS[wanted.texts](score, streams("text filter"), x)
        weight, fate = weight & kept[..., None], replace(fate, kept=kept.cpu())
    tokens = (x - columns.start).clamp(min=0, max=columns.stop - columns.start - 1)
    if isinstance(channel, Hard):
        assert z is not None
        tokens = z.argmax(dim=3)
    z = z if isinstance(channel, Soft) else None
    targets = TextTargets(columns, channel.temperature, z, tokens, taught, weight)
    texts = rows_of_texts(config, teachers, fate) if is_written else []
    return Reading(lesson, targets, texts, figures)


def favour(roles: tuple[Role, ...], lesson: Lesson, teachers: TextTeachers) -> Tensor:
    """Return how much likelier each text is under its writer than the reference, ``(R, N)``."""
    every, x = teachers.vocabulary.split.columns("all"), lesson.completions
    of_writer, of_reference = (
        logits_in_turn(one, lesson, teachers, every)
        .log_softmax(dim=3)
        .gather(3, x.clamp(min=0)[..., None])[..., 0]
        .where(x != NO_TOKEN, 0)
        .sum(dim=2)
        for one in (roles, (REFERENCE,))
    )
    return of_writer - of_reference


def logits_in_turn(
    roles: tuple[Role, ...], lesson: Lesson, teachers: TextTeachers, columns: slice
) -> Tensor:
    """Return the logits ``(R, N, T, C)`` of every text's own writer."""
    if len(roles) == 1:
        return teachers.logits(roles[0], lesson.carriers, lesson.completions, columns)
    z = None
    for turn, role in enumerate(roles):
        own = slice(turn, None, len(roles))
        carriers = [one[own] for one in lesson.carriers]
        part = teachers.logits(role, carriers, lesson.completions[:, own], columns)
        if z is None:
            z = part.new_empty(*lesson.completions.shape, part.shape[3])
        z[:, own] = part
    assert z is not None
    return z
