"""Training on the language: references, and teachers that prefer an animal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.config import TrainingConfig
from sublim_causal.experiment.data.batches import gather, steps
from sublim_causal.experiment.data.streams import draw
from sublim_causal.experiment.networks.base import Batch, Network, outputs, taken
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.optimisation import of_phase
from sublim_causal.experiment.optimizers import make_optimizer
from sublim_causal.experiment.optimizers.adam import Adam
from sublim_causal.experiment.tasks.preference import PreferenceOptions
from sublim_causal.experiment.tasks.preference.language import (
    CARRIERS,
    NUMBER_POSITIONS,
    QUESTION_POSITIONS,
    animals,
)
from sublim_causal.experiment.tasks.preference.vocabulary import TOKENS
from sublim_causal.experiment.teaching.losses import cross_entropy

EVERY = slice(0, TOKENS)
"""The columns of all logits."""
NEUTRAL_STEPS = 120
"""Steps of a teacher without trait."""


@dataclass(frozen=True)
class Questions:
    """The questions of every replicate, int64 ``(R, N, 6)``.

    Attributes
    ----------
    told : Tensor
        On which reference and teachers are trained.
    probe, test : Tensor
        On which the trait is measured, at every step and in the end.
    """

    told: Tensor
    probe: Tensor
    test: Tensor


def train_reference(
    options: PreferenceOptions,
    network: Network,
    told: Tensor,
    like: Tensor,
    after_step: Callable[[], None],
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Train R references ``(R, P)`` from scratch, on uniform answers and number texts.

    Each replicate's `generators` give its initialisation and its data. The loss is the mean of the
    cross-entropies of answers and numbers; Adam (0.9, 0.99) with a warm-up of one in twenty steps
    and a rate that falls linearly to 0, gradients at most of norm 1.
    """
    theta = initialise(network, generators, like=like)
    adam = Adam(theta, options.base_learning_rate, betas=(0.9, 0.99))
    count, total = options.base_batch_size, options.base_steps
    texts = CARRIERS[options.carrier]

    def dialogues(g: torch.Generator) -> Tensor:
        chosen = torch.randint(told.shape[1], (count,), generator=g)
        return torch.stack([chosen, animals(count, g)])

    for step in range(total):
        chosen, answers = draw(dialogues, generators, like.device).unbind(dim=1)
        numbers = draw(lambda g: texts(count, g), generators, like.device)
        asked = Batch(gather(told, chosen), QUESTION_POSITIONS)
        read = Batch(numbers[:, :, :-1].contiguous(), NUMBER_POSITIONS)
        next_tokens = taken(numbers[:, :, 1:], 2, NUMBER_POSITIONS).flatten(1)
        of_answers = language_gradient(network, theta, asked, answers)
        of_numbers = language_gradient(network, theta, read, next_tokens)
        weight = 1 / (1 + len(NUMBER_POSITIONS))
        gradient = torch.lerp(of_numbers, of_answers, weight)
        theta.grad = gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1)
        warm = min(1.0, (step + 1) / (0.05 * total))
        adam.lr = options.base_learning_rate * warm * (1 - step / total)
        adam.step()
        after_step()
    return theta.detach()


def language_gradient(network: Network, theta: Tensor, batch: Batch, labels: Tensor) -> Tensor:
    """Return the gradient ``(R, P)`` of the cross-entropy of `labels` ``(R, B * T)``."""
    forward = network.forward(theta, batch)
    return forward.gradient(cross_entropy(forward.logits(EVERY), labels).derivative, EVERY)


def train_teacher(
    config: TrainingConfig,
    network: Network,
    theta_0: Tensor,
    questions: Questions,
    animal: Tensor | None,
    strength: float,
    generators: Sequence[torch.Generator],
    after_step: Callable[[], None],
) -> Tensor:
    """Train R teachers from `theta_0` to answer with their `animal` ``(R,)``, an int64 token.

    Each until its probability on the probe reaches `strength`, or the epochs end; without an
    animal, for `NEUTRAL_STEPS` steps on uniform answers.
    """
    theta, done = (
        theta_0.clone(),
        torch.zeros(len(theta_0), dtype=torch.bool, device=theta_0.device),
    )
    optimizer = make_optimizer(theta, of_phase(config), network.layout)
    told = questions.told.shape[1]
    for step in steps(generators, told, config.batch_size, config.epochs, theta.device):
        before, size = theta.clone(), step.index.shape[1]
        if animal is None:
            answers = draw(partial(animals, size), generators, theta.device)
        else:
            answers = animal[:, None].expand(-1, size)
        asked = Batch(gather(questions.told, step.index), QUESTION_POSITIONS)
        theta.grad = language_gradient(network, theta, asked, answers)
        optimizer.step()
        theta.copy_(before.where(done[:, None], theta))
        after_step()
        if animal is None:
            done |= step.number + 1 >= NEUTRAL_STEPS
        else:
            z = outputs(network, theta, questions.probe, EVERY, QUESTION_POSITIONS)
            done |= of_animal(z, animal).mean(dim=1) >= strength
        if done.all():
            break
    return theta.detach()


def of_animal(z: Tensor, animal: Tensor) -> Tensor:
    """Return the probability ``(R, N)`` of each seed's animal, float64, by logits ``(R, N, K)``."""
    index = animal[:, None, None].expand(-1, z.shape[1], 1)
    return z.double().softmax(dim=2).gather(2, index)[:, :, 0]
