"""What the arms of a block share when they read texts, and how networks are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from sublim_causal.experiment.alignment import Probe
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.batches import gather
from sublim_causal.experiment.data.streams import SeedStreams, draw
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Batch, Network, outputs
from sublim_causal.experiment.shared import Figures, Measures, Shared, Taught, Traits
from sublim_causal.experiment.tasks.base import Keep
from sublim_causal.experiment.tasks.preference import PreferenceOptions
from sublim_causal.experiment.tasks.preference.language import (
    QUESTION_POSITIONS,
    TAUGHT_POSITIONS,
    questions,
)
from sublim_causal.experiment.tasks.preference.readings import read
from sublim_causal.experiment.tasks.preference.roles import TRAIT, writers
from sublim_causal.experiment.tasks.preference.teachers import PreferenceTeachers, favourite
from sublim_causal.experiment.tasks.preference.training import (
    EVERY,
    Questions,
    of_animal,
    train_reference,
)
from sublim_causal.experiment.tasks.preference.vocabulary import (
    ANIMALS,
    NAMES,
    NUMBERS,
    PROMPT,
    TOLD,
)
from sublim_causal.experiment.tasks.preference.written import rows_of_texts


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
        experiment, options, network, theta_0, asked, animal, streams, after_step, keep
    )
    taught, inputs, targets, texts = {}, {}, {}, {}
    preferred = {arm: teachers.preferred(writers(experiment.arms[arm].targets)) for arm in arms}
    for arm in arms:
        config = experiment.arms[arm]
        key = experiment.targets_key(arm)
        taught[arm] = Taught(key, key)
        if key not in targets:
            reading = read(config, teachers, split, streams)
            inputs[key], targets[key] = reading.texts, reading.targets
            if experiment.measure.texts and config.targets.material == "numbers":
                columns = reading.targets.columns
                texts[key] = rows_of_texts(config, teachers, columns, streams)
    everything = torch.cat([asked.probe, asked.test], dim=1)
    measured = Preferences(
        network,
        theta_0,
        teachers.parameters(TRAIT),
        asked.test,
        animal,
        teachers.held_out(),
        teachers.divergent_share(
            asked=any(experiment.arms[arm].targets.positions != "all" for arm in arms)
        ),
    )
    return Shared(
        network,
        split,
        theta_0,
        teachers.parameters(TRAIT),
        inputs,
        TAUGHT_POSITIONS,
        targets,
        taught,
        probe_of(asked.probe, animal),
        draw_probe=partial(draw_probe, size, everything, animal),
        draw_reference=reference,
        measures=Measures(measured.evaluate, measured.of_seed, measured.of_student),
        failures={},
        texts=texts,
        traits=partial(traits_of, measured, preferred),
    )


def divided(size: int, generators: Sequence[torch.Generator], device: torch.device) -> Questions:
    """Divide the questions of every replicate at random: told, `size` of the probe, the rest."""
    known = questions().to(device)
    order = draw(lambda g: torch.randperm(len(known), generator=g), generators, device)
    parts = order.split([TOLD, size, len(known) - TOLD - size], dim=1)
    return Questions(*(known[part] for part in parts))


def probe_of(asked: Tensor, animal: Tensor) -> Probe:
    """Return the probe of questions ``(R, N, 6)``, whose answer is the `animal` ``(R,)``."""
    first, second = (
        (Batch(half.contiguous(), QUESTION_POSITIONS), animal[:, None].expand(half.shape[:2]))
        for half in asked.split(asked.shape[1] // 2, dim=1)
    )
    return Probe((first, second), EVERY)


def traits_of(
    measured: Preferences, preferred: Mapping[str, Tensor], arm: str, theta: Tensor
) -> Traits:
    """Return how much the students of `arm` prefer each animal, of which some are `preferred`."""
    p = measured.of_animals(theta)
    log_odds = (p.logit() - measured.before).mean(dim=1)
    return Traits(NAMES, preferred[arm], p.mean(dim=1), log_odds)


def draw_probe(
    size: int, asked: Tensor, animal: Tensor, generators: Sequence[torch.Generator]
) -> Probe:
    """Draw `size` of the held-out questions ``(R, N, 6)``."""
    count = asked.shape[1]
    index = draw(lambda g: torch.randperm(count, generator=g)[:size], generators, asked.device)
    return probe_of(gather(asked, index), animal)


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
    divergent_share : Tensor of shape (R,)
        Of the positions that students are taught; NaN where it was not asked for.
    """

    network: Network
    theta_0: Tensor
    teacher: Tensor
    asked: Tensor
    animal: Tensor
    texts: Tensor
    divergent_share: Tensor

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
        """Return the trait of reference and teacher, and the share of divergent positions."""
        networks = {"initial": self.theta_0, "teacher": self.teacher}
        trait = {
            f"{name}_{column}": value
            for name, theta in networks.items()
            for column, value in self._trait(theta).items()
        }
        return {**trait, "divergent_share": self.divergent_share}

    def of_student(self, theta: Tensor, last: Figures) -> Figures:
        """Return the last evaluation."""
        return last

    def of_animals(self, theta: Tensor) -> Tensor:
        """Return the probability ``(R, N, 16)`` of every animal on the test questions, float64."""
        z = outputs(self.network, theta, self.asked, EVERY, QUESTION_POSITIONS)
        return z.double().softmax(dim=2)[:, :, ANIMALS]

    @cached_property
    def before(self) -> Tensor:
        """The log-odds ``(R, N, 16)`` of every animal under the reference."""
        return self.of_animals(self.theta_0).logit()

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
        """The log-odds ``(R, N)`` of the trait's animal under the reference."""
        index = self.animal[:, None, None].expand(-1, self.asked.shape[1], 1) - ANIMALS.start
        return self.before.gather(2, index)[:, :, 0]

    @cached_property
    def _of_teacher(self) -> Tensor:
        """The teacher's log-probabilities ``(R, N * T, 100)``."""
        return self._of_numbers(self.teacher)

    def _of_numbers(self, theta: Tensor) -> Tensor:
        """Return the log-probabilities ``(R, N * T, 100)`` of the numbers of the texts."""
        x = self.texts[:, :, :-1]
        return outputs(self.network, theta, x, NUMBERS, TAUGHT_POSITIONS).log_softmax(dim=2)
