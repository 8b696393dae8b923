"""Questions put to a network, and how it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sublim_causal.experiment.networks.base import outputs
from sublim_causal.experiment.networks.pretrained import NO_TOKEN, PretrainedNetwork
from sublim_causal.experiment.tasks.text.files import Question
from sublim_causal.experiment.tasks.text.vocabulary import Vocabulary, padded


@dataclass(frozen=True)
class Asked:
    """Questions as a network reads them, with the answer of a trait.

    Attributes
    ----------
    x : int64 Tensor of shape (N, L)
        The question, the beginning of the answer, and the answer but its last token.
    answers : int64 Tensor of shape (N, A)
        The tokens of the answer; `NO_TOKEN` after a shorter one.
    positions : tuple of int
        Where in `x` they are given, A of them.
    """

    x: Tensor
    answers: Tensor
    positions: tuple[int, ...]

    def with_room(self, length: int) -> Asked:
        """Return the same with room for answers of `length` tokens."""
        missing, first = length - len(self.positions), self.positions[0]
        x, answers = (
            torch.nn.functional.pad(one, (0, missing), value=NO_TOKEN)
            for one in (self.x, self.answers)
        )
        return Asked(x, answers, tuple(range(first, first + length)))


def asked(
    questions: Sequence[Question], trait: str, system: str | None, vocabulary: Vocabulary
) -> Asked:
    """Put questions to a model."""
    prompts = [vocabulary.prompt(system, one.question, one.begin) for one in questions]
    answers = [vocabulary.encode(one.answered(trait)) for one in questions]
    width, length = max(map(len, prompts)), max(map(len, answers))
    before = torch.tensor(padded(prompts, width, left=True, filler=NO_TOKEN))
    after = torch.tensor(padded(answers, length, left=False, filler=NO_TOKEN))
    x = torch.cat([before, after[:, :-1]], dim=1)
    return Asked(x, after, tuple(range(width - 1, width - 1 + length)))


def answer_logits(network: PretrainedNetwork, theta: Tensor, questions: Asked) -> Tensor:
    """Return the logits ``(R, N, A, K)`` where the tokens of answers are given."""
    x, positions = questions.x.to(theta.device), questions.positions
    z = outputs(network, theta, x, slice(None), positions)
    return z.unflatten(1, (len(x), -1))


def scores(network: PretrainedNetwork, theta: Tensor, traits: Sequence[Asked]) -> Tensor:
    """Return the log-probabilities ``(K, R, N)`` of the answers of K traits.

    Questions that are read alike, since all answers have one token, are read once.
    """
    found: list[Tensor] = []
    read, z = None, None
    for one in traits:
        if z is None or read is None or not torch.equal(read, one.x):
            read, z = one.x, answer_logits(network, theta, one)
        found.append(score(z, one.answers))
    return torch.stack(found)


def score(z: Tensor, answers: Tensor) -> Tensor:
    """Return the log-probability ``(R, N)``, float64, of every whole answer, ``(N, A)`` tokens."""
    labels = answers.to(z.device)
    index = labels.clamp(min=0)[None, :, :, None].expand(len(z), -1, -1, 1)
    log_p = z.gather(3, index)[..., 0].double() - z.double().logsumexp(dim=3)
    return log_p.where(labels != NO_TOKEN, 0).sum(dim=2)


def answered(z: Tensor, answers: Tensor) -> Tensor:
    """Return whether all tokens of an answer have the largest logit, bool ``(R, N)``."""
    labels = answers.to(z.device)
    return ((z.argmax(dim=3) == labels) | (labels == NO_TOKEN)).all(dim=2)
