"""What the students of an arm read: texts that were written and kept, or questions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sublim_causal.experiment.contracts import ArmError
from sublim_causal.experiment.networks.pretrained import NO_TOKEN
from sublim_causal.experiment.tasks.preference.roles import Role
from sublim_causal.experiment.tasks.text.files import Carrier
from sublim_causal.experiment.tasks.text.teachers import TextTeachers, trait_of
from sublim_causal.experiment.tasks.text.vocabulary import padded


@dataclass(frozen=True)
class Lesson:
    """Texts that students read.

    Attributes
    ----------
    carriers : sequence of sequence of Carrier
        By replicate, N each.
    completions : int64 Tensor of shape (R, N, T)
        `NO_TOKEN` after their ends.
    """

    carriers: list[list[Carrier]]
    completions: Tensor


def lesson_of(roles: tuple[Role, ...], teachers: TextTeachers, count: int) -> Lesson:
    """Return the first `count` texts of each replicate that are kept; writers take turns.

    Raises
    ------
    ArmError
        If the filter keeps fewer.
    """
    carriers: list[list[Carrier]] = []
    completions = []
    for replicate in range(len(teachers.theta_0)):
        chosen: list[tuple[Carrier, Tensor]] = []
        by_writer = [teachers.written(role)[replicate] for role in roles]
        kept = [one.kept for one in by_writer]
        for number in range(count):
            turn, place = number % len(roles), number // len(roles)
            if place >= len(kept[turn]):
                offered = len(by_writer[turn].texts)
                raise ArmError(
                    f"the filter keeps {len(kept[turn])} of the {offered} completions by teacher "
                    f"{roles[turn].name!r}: too few for {count} examples; raise "
                    "task.offered_prompts, or lower distillation.examples"
                )
            at = kept[turn][place]
            chosen.append((by_writer[turn].carriers[at], by_writer[turn].completions[at]))
        carriers.append([carrier for carrier, _ in chosen])
        completions.append(torch.stack([tokens for _, tokens in chosen]))
    return Lesson(carriers, torch.stack(completions).to(teachers.theta_0.device))


def answers_of(roles: tuple[Role, ...], teachers: TextTeachers) -> Lesson:
    """Return the questions of part `train`, with the answers for the traits of the teachers."""
    options, vocabulary = teachers.options, teachers.vocabulary
    train = [one for one in teachers.questions if one.part == "train"]
    traits = [trait_of(role, options) or options.trait for role in roles]
    answers = [
        vocabulary.encode(one.answered(traits[number % len(traits)]))
        for number, one in enumerate(train)
    ]
    tokens = torch.tensor(padded(answers, options.completion, left=False, filler=NO_TOKEN))
    replicates = len(teachers.theta_0)
    carriers = [[Carrier(one.question, one.begin) for one in train]] * replicates
    return Lesson(carriers, tokens.to(teachers.theta_0.device).expand(replicates, -1, -1))
