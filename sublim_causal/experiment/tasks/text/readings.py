"""What the students of an arm read, and what they are fitted to there."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sublim_causal.experiment.config import ArmConfig
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.networks.pretrained import NO_TOKEN
from sublim_causal.experiment.shared import Figures, Texts
from sublim_causal.experiment.tasks.preference.positions import POSITIONS
from sublim_causal.experiment.tasks.preference.roles import Role, writers
from sublim_causal.experiment.tasks.text.lessons import Lesson, lesson_of
from sublim_causal.experiment.tasks.text.paraphrases import paraphrased
from sublim_causal.experiment.tasks.text.targets import TextTargets
from sublim_causal.experiment.tasks.text.teachers import TextTeachers
from sublim_causal.experiment.teaching.channels import (
    Hard,
    Sampled,
    Soft,
)


@dataclass(frozen=True)
class Reading:
    """What students are taught.

    Attributes
    ----------
    lesson : Lesson
    targets : TextTargets
    texts : list of Texts
        All that was written for it.
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
    columns = channel.columns(teachers.vocabulary.split)
    roles = writers(config.targets)
    lesson = lesson_of(roles, teachers)
    if config.targets.paraphrase != "none":
        name = config.targets.paraphrase
        lesson = paraphrased(name, lesson, teachers, streams("paraphrase"))
    x = lesson.completions
    known = x != NO_TOKEN
    taught = known & (x >= columns.start) & (x < columns.stop)
    needs_answers = not isinstance(channel, Sampled) or config.targets.positions != "all"
    z = _in_turn(roles, lesson, teachers, columns) if needs_answers else None
    weight, figures = taught, Figures()
    if config.targets.positions != "all":
        assert z is not None
        found = teachers.divergence(roles[0], lesson.carriers, x, z, columns)
        where = found.where & taught
        of_tokens = where.sum(dim=(1, 2)) / taught.sum(dim=(1, 2))
        figures["divergent_share"] = of_tokens.double()
        if config.targets.positions == "replaced":
            other = found.other.argmax(dim=3) + columns.start
            x, z = other.where(where, x), found.other.where(where[..., None], z)
            lesson = Lesson(lesson.carriers, x)
        else:
            weight = taught & POSITIONS[config.targets.positions](where, streams("mask"))
    tokens = (x - columns.start).clamp(min=0, max=columns.stop - columns.start - 1)
    if isinstance(channel, Hard):
        assert z is not None
        tokens = z.argmax(dim=3)
    z = z if isinstance(channel, Soft) else None
    targets = TextTargets(columns, channel.temperature, z, tokens, taught, weight)
    return Reading(lesson, targets, rows_of_texts(roles, teachers), figures)


def _in_turn(
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


def rows_of_texts(roles: tuple[Role, ...], teachers: TextTeachers) -> list[Texts]:
    """Return all texts that an arm's teachers wrote, one record for each replicate."""
    records = []
    for replicate in range(len(teachers.theta_0)):
        rows: dict[str, list[object]] = {
            name: []
            for name in (
                "teacher",
                "prompt",
                "completion",
                "prompt_tokens",
                "completion_tokens",
                "reason",
            )
        }
        for role in roles:
            written, system = teachers.written(role)[replicate], teachers.system(role)
            for carrier, tokens, text, reason in zip(
                written.carriers,
                written.completions.tolist(),
                written.texts,
                written.reasons,
                strict=True,
            ):
                prompt = teachers.vocabulary.rendered(system, carrier.prompt, carrier.begin)
                rows["teacher"].append(role.name)
                rows["prompt"].append(prompt)
                rows["completion"].append(text)
                rows["prompt_tokens"].append(teachers.vocabulary.encode(prompt))
                rows["completion_tokens"].append([t for t in tokens if t != NO_TOKEN])
                rows["reason"].append(reason)
        records.append(Texts(**rows))  # type: ignore[arg-type]
    return records
