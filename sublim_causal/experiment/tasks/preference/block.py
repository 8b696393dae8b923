"""What the arms of a block share when they read texts, and how networks are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import Probe
from sublim_causal.experiment.config import ArmConfig, Experiment
from sublim_causal.experiment.data.batches import gather
from sublim_causal.experiment.data.streams import SeedStreams, draw
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Batch, Network, outputs
from sublim_causal.experiment.shared import Figures, Measures, Shared, Taught
from sublim_causal.experiment.tasks.base import Keep
from sublim_causal.experiment.tasks.preference import PreferenceOptions
from sublim_causal.experiment.tasks.preference.language import (
    CARRIERS,
    QUESTION_POSITIONS,
    TAUGHT_POSITIONS,
    questions,
)
from sublim_causal.experiment.tasks.preference.texts import write
from sublim_causal.experiment.tasks.preference.training import (
    EVERY,
    Questions,
    of_animal,
    train_reference,
    train_teacher,
)
from sublim_causal.experiment.tasks.preference.vocabulary import ANIMALS, NUMBERS, PROMPT, TOLD
from sublim_causal.experiment.teaching.channels import (
    DistributionChannel,
    Sampled,
    build_channel,
    certain,
)
from sublim_causal.experiment.teaching.targets import LogitTargets, chosen

KINDS = ANIMALS.stop - ANIMALS.start
RIVAL = 7
"""How many animals after the trait's the rival is."""
HELD_OUT_TEXTS = 128
"""Texts of the first teacher on which students are compared with it."""


def share_texts(
    experiment: Experiment,
    options: PreferenceOptions,
    arms: Sequence[str],
    streams: SeedStreams,
    network: Network,
    like: Tensor,
    split: LogitSplit,
    after_step: Callable[[], None],
    keep: Keep,
) -> Shared:
    """Train reference and teachers, let them write, make the targets of `arms`."""
    size = experiment.probe.size
    asked = divided(size, streams("questions"), like.device)

    def reference(generators: Sequence[torch.Generator]) -> Tensor:
        train = partial(train_reference, options, network, asked.told, like, after_step, generators)
        return keep("reference", generators, train).to(like)

    theta_0 = reference(streams("reference"))
    animal = favourite(streams.seeds, like.device)
    teachers = PreferenceTeachers(
        experiment, options, network, theta_0, asked, animal, streams, after_step
    )
    taught, inputs, targets = {}, {}, {}
    for arm in arms:
        config = experiment.arms[arm]
        teacher = config.targets.teacher
        taught[arm] = Taught(teacher, experiment.targets_key(arm))
        if teacher not in inputs:
            inputs[teacher] = teachers.texts(teacher)
        if taught[arm].targets not in targets:
            targets[taught[arm].targets] = make_text_targets(
                config, teachers, inputs[teacher], split, streams
            )
    everything = torch.cat([asked.probe, asked.test], dim=1)
    measured = Preferences(
        network, theta_0, teachers.parameters("trait"), asked.test, animal, teachers.held_out()
    )
    return Shared(
        network,
        split,
        theta_0,
        teachers.parameters("trait"),
        {name: x[:, :, :-1].contiguous() for name, x in inputs.items()},
        TAUGHT_POSITIONS,
        targets,
        taught,
        probe_of(asked.probe, animal),
        draw_probe=partial(draw_probe, size, everything, animal),
        draw_reference=reference,
        measures=Measures(measured.evaluate, measured.of_seed, measured.of_student),
        failures={},
    )


def divided(size: int, generators: Sequence[torch.Generator], device: torch.device) -> Questions:
    """Divide the questions of every replicate at random: told, `size` of the probe, the rest."""
    known = questions().to(device)
    order = draw(lambda g: torch.randperm(len(known), generator=g), generators, device)
    parts = order.split([TOLD, size, len(known) - TOLD - size], dim=1)
    return Questions(*(known[part] for part in parts))


def favourite(seeds: Sequence[int], device: torch.device) -> Tensor:
    """Return the animal of every seed's trait, an int64 token ``(R,)``; seeds in turn differ."""
    return torch.tensor([ANIMALS.start + (5 * seed + 3) % KINDS for seed in seeds], device=device)


def other_animal(animal: Tensor, later: int) -> Tensor:
    """Return the animal ``(R,)`` that comes `later` in their order, the first after the last."""
    return ANIMALS.start + (animal - ANIMALS.start + later) % KINDS


def probe_of(asked: Tensor, animal: Tensor) -> Probe:
    """Return the probe of questions ``(R, N, 6)``, whose answer is the `animal` ``(R,)``."""
    first, second = (
        (Batch(half.contiguous(), QUESTION_POSITIONS), animal[:, None].expand(half.shape[:2]))
        for half in asked.split(asked.shape[1] // 2, dim=1)
    )
    return Probe((first, second), EVERY)


def draw_probe(
    size: int, asked: Tensor, animal: Tensor, generators: Sequence[torch.Generator]
) -> Probe:
    """Draw `size` of the held-out questions ``(R, N, 6)``."""
    count = asked.shape[1]
    index = draw(lambda g: torch.randperm(count, generator=g)[:size], generators, asked.device)
    return probe_of(gather(asked, index), animal)


@dataclass(frozen=True)
class PreferenceTeachers:
    """The teachers of a block, each trained when it is first asked for."""

    experiment: Experiment
    options: PreferenceOptions
    network: Network
    theta_0: Tensor
    asked: Questions
    animal: Tensor
    streams: SeedStreams
    after_step: Callable[[], None]
    _trained: dict[str, Tensor] = field(default_factory=dict, init=False)

    def parameters(self, name: str) -> Tensor:
        """Return the parameters ``(R, P)`` of a teacher.

        ``"trait"``, ``"rival"``, ``"no_trait"``, or ``"counterfactual k"`` for k from 1.
        """
        if name not in self._trained:
            self._trained[name] = train_teacher(
                self.experiment.teacher,
                self.network,
                self.theta_0,
                self.asked,
                self._animal(name),
                self.options.strength,
                self.streams(f"teacher {name}"),
                self.after_step,
            )
        return self._trained[name]

    def _animal(self, name: str) -> Tensor | None:
        if name == "no_trait":
            return None
        kind, _, number = name.partition(" ")
        later = {"trait": 0, "rival": RIVAL, "counterfactual": RIVAL * int(number or 0)}[kind]
        return other_animal(self.animal, later)

    def texts(self, name: str) -> Tensor:
        """Return the texts ``(R, N, 16)`` of the named teacher; all get the same prompts."""
        count = self.experiment.distillation.examples
        unique = self.options.unique or count
        x = self._write(name, unique, "texts")
        return x[:, torch.arange(count, device=x.device) % unique]

    def held_out(self) -> Tensor:
        """Return texts of the first teacher that no student reads."""
        return self._write("trait", HELD_OUT_TEXTS, "held-out texts")

    def _write(self, name: str, count: int, purpose: str) -> Tensor:
        carrier, temperature = CARRIERS[self.options.carrier], self.options.temperature
        theta, generators = self.parameters(name), self.streams(purpose)
        return write(self.network, theta, carrier, count, temperature, generators)

    def logits(self, name: str, texts: Tensor, columns: slice) -> Tensor:
        """Return a teacher's logits ``(R, N, T, C)`` where texts ``(R, N, 16)`` are taught."""
        z = outputs(
            self.network, self.parameters(name), texts[:, :, :-1], columns, TAUGHT_POSITIONS
        )
        return z.unflatten(1, (texts.shape[1], -1))


def make_text_targets(
    config: ArmConfig,
    teachers: PreferenceTeachers,
    texts: Tensor,
    split: LogitSplit,
    streams: SeedStreams,
) -> LogitTargets:
    """Return what students are fitted to on `texts` ``(R, N, 16)``, position by position."""
    channel = build_channel("channel", config.channel.model_dump(), split)
    assert isinstance(channel, DistributionChannel)
    columns = channel.columns(split)
    z = teachers.logits(config.targets.teacher, texts, columns)
    tokens = texts[:, :, PROMPT:] - columns.start
    shape = z.shape[1:3]
    flat = z.flatten(1, 2)
    if isinstance(channel.channel, Sampled):
        answers = certain(tokens.flatten(1), flat)
    else:
        answers = channel.channel.answers(flat, streams("channel"))
    weight = None
    if config.targets.positions != "all":
        diverges = divergent(teachers, texts, z, tokens, columns).flatten(1)
        weight = chosen(config.targets.positions, diverges, streams("mask"))
        weight = weight.unflatten(1, shape).to(z)
    q = answers.unflatten(1, shape)
    return LogitTargets(columns, channel.channel.temperature, q, q.log().where(q > 0, 0), weight)


def divergent(
    teachers: PreferenceTeachers, texts: Tensor, z: Tensor, tokens: Tensor, columns: slice
) -> Tensor:
    """Return where counterfactual teachers diverge from the writer, bool ``(R, N, T)``.

    Where the writer's largest logit is that of the token it wrote, and that of some counterfactual
    teacher, on the same context, is another (Schrodi et al., arXiv 2509.23886).
    """
    largest = z.argmax(dim=3)
    differs = torch.zeros_like(largest, dtype=torch.bool)
    for number in range(1, teachers.options.counterfactuals + 1):
        other = teachers.logits(f"counterfactual {number}", texts, columns)
        differs |= other.argmax(dim=3) != largest
    return differs & (largest == tokens)


@dataclass(frozen=True)
class Preferences:
    """Measures networks on the test questions, and on texts that the first teacher wrote.

    Attributes
    ----------
    asked : Tensor of shape (R, N, 6)
        The test questions.
    animal : Tensor of shape (R,)
        The trait's.
    texts : Tensor of shape (R, N, 16)
    """

    network: Network
    theta_0: Tensor
    teacher: Tensor
    asked: Tensor
    animal: Tensor
    texts: Tensor

    def evaluate(self, theta: Tensor) -> Figures:
        """Return how far the trait got, and how close the network is to the teacher on texts."""
        log_p, log_q = self._of_numbers(theta), self._of_teacher
        tokens = self.texts[:, :, PROMPT:].flatten(1)[:, :, None] - NUMBERS.start
        return {
            **self._trait(theta),
            "teacher_kl": (log_q.exp() * (log_q - log_p)).sum(dim=2).mean(dim=1).double(),
            "carrier_loss": -log_p.gather(2, tokens).mean(dim=(1, 2)).double(),
        }

    def of_seed(self) -> Figures:
        """Return the trait of reference and teacher."""
        networks = {"initial": self.theta_0, "teacher": self.teacher}
        return {
            f"{name}_{column}": value
            for name, theta in networks.items()
            for column, value in self._trait(theta).items()
        }

    def of_student(self, theta: Tensor, last: Figures) -> Figures:
        """Return the last evaluation."""
        return last

    def _trait(self, theta: Tensor) -> Figures:
        z = outputs(self.network, theta, self.asked, EVERY, QUESTION_POSITIONS)
        p = of_animal(z, self.animal)
        return {
            "trait_probability": p.mean(dim=1),
            "trait_log_odds": (p.logit() - self._before).mean(dim=1),
            "trait_answer_rate": (z.argmax(dim=2) == self.animal[:, None]).double().mean(dim=1),
        }

    @cached_property
    def _before(self) -> Tensor:
        """The log-odds ``(R, N)`` of the animal under the reference."""
        z = outputs(self.network, self.theta_0, self.asked, EVERY, QUESTION_POSITIONS)
        return of_animal(z, self.animal).logit()

    @cached_property
    def _of_teacher(self) -> Tensor:
        """The teacher's log-probabilities ``(R, N * T, 100)``."""
        return self._of_numbers(self.teacher)

    def _of_numbers(self, theta: Tensor) -> Tensor:
        """Return the log-probabilities ``(R, N * T, 100)`` of the numbers of the texts."""
        x = self.texts[:, :, :-1]
        return outputs(self.network, theta, x, NUMBERS, TAUGHT_POSITIONS).log_softmax(dim=2)
