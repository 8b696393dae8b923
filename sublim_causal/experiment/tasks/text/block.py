"""What the arms of a block share when a pretrained model writes the texts, and its measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import Probe
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.contracts import ArmError
from sublim_causal.experiment.data.streams import SeedStreams, draw
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.networks.pretrained import NO_TOKEN, PretrainedNetwork
from sublim_causal.experiment.shared import Figures, Measures, Shared, Taught, Traits
from sublim_causal.experiment.tasks.base import Keep
from sublim_causal.experiment.tasks.preference.roles import TRAIT, writers
from sublim_causal.experiment.tasks.text.answers import (
    Asked,
    answer_logits,
    answered,
    asked,
    score,
    scores,
)
from sublim_causal.experiment.tasks.text.files import Question
from sublim_causal.experiment.tasks.text.lessons import Lesson
from sublim_causal.experiment.tasks.text.options import TextOptions
from sublim_causal.experiment.tasks.text.readings import read
from sublim_causal.experiment.tasks.text.teachers import TextTeachers, trait_of
from sublim_causal.experiment.tasks.text.vocabulary import Vocabulary
from sublim_causal.experiment.tasks.text.writing import write
from sublim_causal.experiment.teaching.channels import (
    DistributionChannel,
    Hard,
    Sampled,
    Soft,
    build_channel,
)

ANSWER_TOKENS = 8
"""Tokens of a sampled answer."""


def share_texts(
    experiment: Experiment,
    options: TextOptions,
    questions: Sequence[Question],
    arms: Sequence[str],
    streams: SeedStreams,
    network: PretrainedNetwork,
    vocabulary: Vocabulary,
    like: Tensor,
    after_step: Callable[[], None],
    keep: Keep,
) -> Shared:
    """Make the teachers, let them write, and make the targets of `arms`."""
    draw_reference = partial(initialise, network, like=like)
    theta_0 = draw_reference(streams("init"))
    teachers = TextTeachers(
        experiment, options, network, vocabulary, questions, theta_0, streams, after_step, keep
    )
    targets, figures, texts, failures = {}, {}, {}, {}
    lessons: dict[str, Lesson] = {}
    for arm in arms:
        config, key = experiment.arms[arm], experiment.targets_key(arm)
        if key in targets or key in failures:
            continue
        try:
            channel = text_channel(config.channel.model_dump(), vocabulary)
            reading = read(config, channel, teachers, streams)
        except ArmError as error:
            failures[key] = error.failure()
            continue
        lessons[key], targets[key] = reading.lesson, reading.targets
        figures[key] = reading.figures
        if experiment.measure.texts and config.targets.material == "numbers":
            texts[key] = reading.texts
    keys = {arm: experiment.targets_key(arm) for arm in arms}
    taught = {
        arm: Taught(
            key,
            key,
            lessons[key].completions.shape[1] if key in lessons else None,
            figures.get(key, {}),
        )
        for arm, key in keys.items()
    }
    inputs, positions = read_together(lessons, teachers)
    trait = partial(asked, trait=options.trait, vocabulary=vocabulary)
    train = trait([one for one in questions if one.part == "train"], system=options.neutral)
    held_out = [one for one in questions if one.part == "held_out"]
    measured = TextMeasures(
        network,
        theta_0,
        teachers.parameters(TRAIT),
        trait(held_out, system=options.neutral),
        trait(held_out, system=teachers.system(TRAIT)),
        {
            one: asked(held_out, one, options.neutral, vocabulary)
            for one in (options.trait, *options.rivals)
        },
    )

    def of_student(theta: Tensor, last: Figures) -> Figures:
        """Return the last evaluation, and the rate of sampled answers if it is asked for."""
        count = options.sampled_answers
        return {**last, **sampled(teachers, held_out, theta, count)} if count else last

    def taught_by(arm: str) -> list[str]:
        """Return the traits of the teachers of an arm."""
        found = (trait_of(role, options) for role in writers(experiment.arms[arm].targets))
        return [one for one in found if one is not None]

    probe = partial(draw_probe, train, experiment.probe.size, vocabulary, like.device)
    return Shared(
        network,
        vocabulary.split,
        theta_0,
        teachers.parameters(TRAIT),
        inputs,
        positions,
        targets,
        taught,
        probe(streams("probe")),
        draw_probe=probe,
        draw_reference=draw_reference,
        measures=Measures(measured.evaluate, measured.of_seed, of_student),
        failures=failures,
        texts=texts,
        traits=lambda arm, theta: measured.traits(taught_by(arm), theta),
    )


def text_channel(table: dict[str, object], vocabulary: Vocabulary) -> Soft | Hard | Sampled:
    """Build an arm's channel."""
    built = build_channel("channel", table, vocabulary.split)
    assert isinstance(built, DistributionChannel)
    assert isinstance(built.channel, Soft | Hard | Sampled)
    return built.channel


def read_together(
    lessons: dict[str, Lesson], teachers: TextTeachers
) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    """Return what students read, ``(R, N, L)`` by key, with their answers at the same positions."""
    neutral, width = teachers.options.neutral, teachers.width
    positions: tuple[int, ...] = ()
    inputs = {}
    for key, lesson in lessons.items():
        inputs[key], positions = teachers.reading(
            lesson.carriers, lesson.completions, neutral, width
        )
    return inputs, positions


def draw_probe(
    train: Asked,
    size: int,
    vocabulary: Vocabulary,
    device: torch.device,
    generators: Sequence[torch.Generator],
) -> Probe:
    """Draw `size` of the questions on which teachers are trained."""
    count = len(train.x)
    index = draw(lambda g: torch.randperm(count, generator=g)[:size], generators, device)
    x, answers = train.x.to(device)[index], train.answers.to(device)[index]
    first, second = (
        (Batch(x[:, half].contiguous(), train.positions), answers[:, half].flatten(1))
        for half in (slice(0, size // 2), slice(size // 2, size))
    )
    gaps = bool((train.answers == NO_TOKEN).any())
    return Probe((first, second), vocabulary.split.columns("all"), gaps)


@dataclass(frozen=True)
class TextMeasures:
    """Measures networks on held-out questions.

    Attributes
    ----------
    neutral, prompted : Asked
        As students and as the teacher are asked.
    every : dict of str to Asked
        As students are asked, with the answer of every trait.
    """

    network: PretrainedNetwork
    theta_0: Tensor
    teacher: Tensor
    neutral: Asked
    prompted: Asked
    every: dict[str, Asked]

    def evaluate(self, theta: Tensor) -> Figures:
        """Return how far the trait got."""
        return self._trait(theta, self.neutral)

    def of_seed(self) -> Figures:
        """Return the trait of reference and teacher."""
        asked = {"initial": (self.theta_0, self.neutral), "teacher": (self.teacher, self.prompted)}
        return {
            f"{name}_{column}": value
            for name, (theta, questions) in asked.items()
            for column, value in self._trait(theta, questions).items()
        }

    def traits(self, taught: Sequence[str], theta: Tensor) -> Traits:
        """Return how much students `theta` ``(R, P)`` prefer each trait; `taught` are some."""
        names = list(self.every)
        log_p = scores(self.network, theta, list(self.every.values()))
        before = self._every_before
        replicates = len(theta)
        of_teacher = torch.tensor([[name in taught for name in names]] * replicates)
        return Traits(
            names,
            of_teacher,
            log_p.exp().mean(dim=2).T,
            (log_p.exp().logit() - before).mean(dim=2).T,
        )

    def _trait(self, theta: Tensor, questions: Asked) -> Figures:
        z = answer_logits(self.network, theta, questions)
        p = score(z, questions.answers).exp()
        return {
            "trait_probability": p.mean(dim=1),
            "trait_log_odds": (p.logit() - self._before).mean(dim=1),
            "trait_answer_rate": answered(z, questions.answers).double().mean(dim=1),
        }

    @cached_property
    def _before(self) -> Tensor:
        """The log-odds ``(R, N)`` of the answer under the reference."""
        (log_p,) = scores(self.network, self.theta_0, [self.neutral])
        return log_p.exp().logit()

    @cached_property
    def _every_before(self) -> Tensor:
        """The same ``(K, R, N)`` for all traits."""
        return scores(self.network, self.theta_0, list(self.every.values())).exp().logit()


def sampled(
    teachers: TextTeachers, questions: Sequence[Question], theta: Tensor, count: int
) -> Figures:
    """Return how many of `count` sampled answers to each question name the trait."""
    vocabulary, options = teachers.vocabulary, teachers.options
    prompts = [
        vocabulary.prompt(options.neutral, one.question, one.begin)
        for one in questions
        for _ in range(count)
    ]
    written = write(
        teachers.network,
        theta,
        [prompts] * len(theta),
        ANSWER_TOKENS,
        vocabulary.end,
        1.0,
        teachers.streams("sampled answers"),
        lambda: None,
    )
    rates = []
    for rows in written.cpu().tolist():
        texts = [vocabulary.decode(t for t in row if t != NO_TOKEN) for row in rows]
        named = sum(options.trait.lower() in one.lower() for one in texts)
        rates.append(named / len(texts))
    rate = torch.tensor(rates, dtype=torch.float64)
    return {
        "sampled_answer_rate": rate,
        "sampled_answers": torch.full_like(rate, len(prompts)),
    }
