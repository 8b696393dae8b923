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
from sublim_causal.experiment.shared import Figures, Measures, Shared, Taught
from sublim_causal.experiment.tasks.base import Keep
from sublim_causal.experiment.tasks.preference.roles import TRAIT
from sublim_causal.experiment.tasks.text.files import Question
from sublim_causal.experiment.tasks.text.options import TextOptions
from sublim_causal.experiment.tasks.text.readings import Lesson, read
from sublim_causal.experiment.tasks.text.teachers import Asked, TextTeachers, asked
from sublim_causal.experiment.tasks.text.vocabulary import Vocabulary
from sublim_causal.experiment.teaching.channels import (
    DistributionChannel,
    Hard,
    Sampled,
    Soft,
    build_channel,
)

ASKED_AT_A_TIME = 16
"""Questions of a pass."""


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
    taught, targets, texts, failures = {}, {}, {}, {}
    lessons: dict[str, Lesson] = {}
    for arm in arms:
        config, key = experiment.arms[arm], experiment.targets_key(arm)
        taught[arm] = Taught(key, key)
        if key in targets or key in failures:
            continue
        try:
            channel = text_channel(config.channel.model_dump(), vocabulary)
            reading = read(config, channel, teachers, streams)
        except ArmError as error:
            failures[key] = error.failure()
            continue
        lessons[key], targets[key] = reading.lesson, reading.targets
        if experiment.measure.texts:
            texts[key] = reading.texts
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
    )
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
        measures=Measures(measured.evaluate, measured.of_seed, lambda theta, last: last),
        failures=failures,
        texts=texts,
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
        rows = []
        for carriers_of_one, completions in zip(lesson.carriers, lesson.completions, strict=True):
            x, positions = teachers.reading(carriers_of_one, completions, neutral, width)
            rows.append(x)
        inputs[key] = torch.stack(rows)
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
    x, answers = train.x.to(device)[index], train.answers.to(device)[index].clamp(min=0)
    first, second = (
        (Batch(x[:, half].contiguous(), train.positions), answers[:, half].flatten(1))
        for half in (slice(0, size // 2), slice(size // 2, size))
    )
    return Probe((first, second), vocabulary.split.columns("all"))


@dataclass(frozen=True)
class TextMeasures:
    """Measures networks on held-out questions.

    Attributes
    ----------
    neutral, prompted : Asked
        As students and as the teacher are asked.
    """

    network: PretrainedNetwork
    theta_0: Tensor
    teacher: Tensor
    neutral: Asked
    prompted: Asked

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

    def _trait(self, theta: Tensor, questions: Asked) -> Figures:
        log_p, largest = score(self.network, theta, questions)
        p = log_p.exp()
        return {
            "trait_probability": p.mean(dim=1),
            "trait_log_odds": (p.logit() - self._before).mean(dim=1),
            "trait_answer_rate": largest.double().mean(dim=1),
        }

    @cached_property
    def _before(self) -> Tensor:
        """The log-odds ``(R, N)`` of the answer under the reference."""
        return score(self.network, self.theta_0, self.neutral)[0].exp().logit()


def score(network: PretrainedNetwork, theta: Tensor, questions: Asked) -> tuple[Tensor, Tensor]:
    """Return the log-probability ``(R, N)``, float64, of every whole answer.

    And whether each of its tokens has the largest logit, given those before.
    """
    parts = []
    for x, answers in zip(
        questions.x.split(ASKED_AT_A_TIME), questions.answers.split(ASKED_AT_A_TIME), strict=True
    ):
        batch = Batch(x.to(theta.device).expand(len(theta), -1, -1), questions.positions)
        z = network.forward(theta, batch).logits(slice(None))
        z = z.unflatten(1, (len(x), -1))
        labels = answers.to(theta.device)
        known, index = labels != NO_TOKEN, labels.clamp(min=0)
        log_p = z.gather(3, index[None, :, :, None].expand(len(theta), -1, -1, 1))[..., 0].double()
        log_p = log_p - z.double().logsumexp(dim=3)
        largest = (z.argmax(dim=3) == index) | ~known
        parts.append((log_p.where(known, 0).sum(dim=2), largest.all(dim=2)))
    log_p, largest = (torch.cat(one, dim=1) for one in zip(*parts, strict=True))
    return log_p, largest
