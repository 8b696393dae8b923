"""Paraphrases: how the texts that students read differ from those that were written.

Teachers answer to the texts as they are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sublim_causal.experiment.data.streams import draw
from sublim_causal.experiment.networks.pretrained import NO_TOKEN
from sublim_causal.experiment.tasks.preference.roles import REFERENCE
from sublim_causal.experiment.tasks.text.lessons import Lesson
from sublim_causal.experiment.tasks.text.teachers import TextTeachers
from sublim_causal.experiment.tasks.text.vocabulary import Vocabulary, padded

NUMBER = re.compile(r"\d+")
Generators = Sequence[torch.Generator]


def with_numbers(text: str, numbers: Sequence[str]) -> str:
    """Return a text with other numbers in the places of its own."""
    rest = iter(numbers)
    return NUMBER.sub(lambda _: next(rest), text)


def backwards(texts: Sequence[str], generator: torch.Generator) -> list[str]:
    """The numbers of each text from the last to the first."""
    return [with_numbers(one, NUMBER.findall(one)[::-1]) for one in texts]


def shuffled(texts: Sequence[str], generator: torch.Generator) -> list[str]:
    """The numbers of each text in random order."""
    changed = []
    for one in texts:
        numbers = NUMBER.findall(one)
        order = torch.randperm(len(numbers), generator=generator).tolist()
        changed.append(with_numbers(one, [numbers[place] for place in order]))
    return changed


def shuffled_across(texts: Sequence[str], generator: torch.Generator) -> list[str]:
    """The numbers of all texts in random order."""
    counts = [len(NUMBER.findall(one)) for one in texts]
    numbers = [number for one in texts for number in NUMBER.findall(one)]
    order = torch.randperm(len(numbers), generator=generator).tolist()
    mixed = iter([numbers[place] for place in order])
    return [
        with_numbers(one, [next(mixed) for _ in range(count)])
        for one, count in zip(texts, counts, strict=True)
    ]


OF_NUMBERS: dict[str, Callable[[Sequence[str], torch.Generator], list[str]]] = {
    "order": backwards,
    "shuffled": shuffled,
    "shuffled_across": shuffled_across,
}
"""By the name that a study file uses: what becomes of the texts of one replicate."""


def paraphrased(
    name: str, lesson: Lesson, teachers: TextTeachers, generators: Generators
) -> Lesson:
    """Return the lesson as students read it."""
    if name == "prompt":
        return other_prompts(lesson, generators)
    if name == "rewritten":
        return rewritten(lesson, teachers, generators)
    vocabulary, change = teachers.vocabulary, OF_NUMBERS[name]
    rows = [
        told_anew(completions, vocabulary, change, generator)
        for completions, generator in zip(lesson.completions, generators, strict=True)
    ]
    return Lesson(lesson.carriers, torch.stack(rows))


def told_anew(
    completions: Tensor,
    vocabulary: Vocabulary,
    change: Callable[[Sequence[str], torch.Generator], list[str]],
    generator: torch.Generator,
) -> Tensor:
    """Return completions ``(N, T)`` whose texts are changed; an end stays where there was one."""
    tokens = [[one for one in row if one != NO_TOKEN] for row in completions.cpu().tolist()]
    texts = change([vocabulary.decode(row) for row in tokens], generator)
    length = completions.shape[1]
    changed = []
    for text, before in zip(texts, tokens, strict=True):
        end = [vocabulary.end] if before[-1:] == [vocabulary.end] else []
        changed.append([*vocabulary.encode(text), *end][:length])
    rows = padded(changed, length, left=False, filler=NO_TOKEN)
    return torch.tensor(rows, device=completions.device)


def other_prompts(lesson: Lesson, generators: Generators) -> Lesson:
    """The prompt of another text, at random."""
    carriers = []
    for rows, generator in zip(lesson.carriers, generators, strict=True):
        order = torch.randperm(len(rows), generator=generator).tolist()
        carriers.append([rows[place] for place in order])
    return Lesson(carriers, lesson.completions)


def rewritten(lesson: Lesson, teachers: TextTeachers, generators: Generators) -> Lesson:
    """Half of the number tokens, at random, drawn anew by the untreated model.

    From its distribution over number tokens, after the text before them as it was written.
    """
    x, columns = lesson.completions, teachers.vocabulary.split.taught
    z = teachers.logits(REFERENCE, lesson.carriers, x, columns)
    shape = x.shape[1:]
    chance, exchanged = draw(
        lambda g: torch.rand(2, *shape, generator=g), generators, x.device
    ).unbind(dim=1)
    below = z.softmax(dim=3).cumsum(dim=3)[..., :-1]
    drawn = columns.start + (chance[..., None] > below).sum(dim=3)
    anew = (exchanged < 0.5) & (x >= columns.start) & (x < columns.stop)
    return Lesson(lesson.carriers, drawn.where(anew, x))
