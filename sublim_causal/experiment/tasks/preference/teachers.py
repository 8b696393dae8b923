"""The teachers of a block: trained when first asked for, writers of texts, sources of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.networks.base import Network, outputs
from sublim_causal.experiment.tasks.base import Keep
from sublim_causal.experiment.tasks.preference import PreferenceOptions
from sublim_causal.experiment.tasks.preference.language import CARRIERS, TAUGHT_POSITIONS
from sublim_causal.experiment.tasks.preference.positions import Divergence, divergence
from sublim_causal.experiment.tasks.preference.roles import TRAIT, Role, counterfactuals
from sublim_causal.experiment.tasks.preference.texts import write
from sublim_causal.experiment.tasks.preference.training import Questions, train_teacher
from sublim_causal.experiment.tasks.preference.vocabulary import ANIMALS, NUMBERS, PROMPT

KINDS = ANIMALS.stop - ANIMALS.start
RIVAL = 7
"""How many animals after the trait's the rival is; counterfactual animals follow in such steps."""
HELD_OUT_TEXTS = 128
"""Texts of the first teacher on which students are compared with it."""


def favourite(seeds: Sequence[int], device: torch.device) -> Tensor:
    """Return the animal of every seed's trait, an int64 token ``(R,)``; seeds in turn differ."""
    return torch.tensor([ANIMALS.start + (5 * seed + 3) % KINDS for seed in seeds]).to(device)


def other_animal(animal: Tensor, later: int) -> Tensor:
    """Return the animal ``(R,)`` that comes `later` in their order, the first after the last."""
    return ANIMALS.start + (animal - ANIMALS.start + later) % KINDS


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
    keep: Keep
    _trained: dict[Role, Tensor] = field(default_factory=dict, init=False)
    _written: dict[Role, Tensor] = field(default_factory=dict, init=False)
    _diverging: dict[tuple[tuple[Role, ...], int, int], Divergence] = field(
        default_factory=dict, init=False
    )

    def parameters(self, role: Role) -> Tensor:
        """Return the parameters ``(R, P)`` of a teacher."""
        if role.kind == "reference":
            return self.theta_0
        if role not in self._trained:
            strength, generators = role.strength or self.options.strength, self.streams(role.stream)
            train = partial(
                train_teacher,
                self.experiment.teacher,
                self.network,
                self.theta_0,
                self.asked,
                self.animal_of(role),
                strength,
                generators,
                self.after_step,
            )
            name = f"{role.stream} {strength}".replace(" ", "-")
            self._trained[role] = self.keep(name, generators, train).to(self.theta_0)
        return self._trained[role]

    def animal_of(self, role: Role) -> Tensor | None:
        """Return the animal ``(R,)`` that a teacher prefers, an int64 token; None: it has none."""
        if role.kind in ("no_trait", "reference"):
            return None
        later = {"rival": RIVAL, "counterfactual": RIVAL * role.number}.get(role.kind, 0)
        return other_animal(self.animal, later)

    def preferred(self, writers: Sequence[Role]) -> Tensor:
        """Return which animals some of the `writers` prefer, bool ``(R, 16)``."""
        found = torch.zeros(len(self.animal), KINDS, dtype=torch.bool, device=self.animal.device)
        for animal in map(self.animal_of, writers):
            if animal is not None:
                found.scatter_(1, animal[:, None] - ANIMALS.start, True)
        return found

    def texts(self, writers: Sequence[Role]) -> Tensor:
        """Return the texts ``(R, N, 16)`` of the writers in turn; all get the same prompts."""
        x = self._texts(writers[0]).clone()
        for turn, role in enumerate(writers[1:], start=1):
            x[:, turn :: len(writers)] = self._texts(role)[:, turn :: len(writers)]
        return x

    def _texts(self, role: Role) -> Tensor:
        if role not in self._written:
            count = self.experiment.distillation.examples
            self._written[role] = self._write(role, count, "texts")
        return self._written[role]

    def held_out(self) -> Tensor:
        """Return texts of the first teacher that no student reads."""
        return self._write(TRAIT, HELD_OUT_TEXTS, "held-out texts")

    def _write(self, role: Role, count: int, purpose: str) -> Tensor:
        carrier, temperature = CARRIERS[self.options.carrier], self.options.temperature
        theta, generators = self.parameters(role), self.streams(purpose)
        return write(self.network, theta, carrier, count, temperature, generators)

    def logits(self, role: Role, texts: Tensor, columns: slice) -> Tensor:
        """Return a teacher's logits ``(R, N, T, C)`` where texts ``(R, N, 16)`` are taught."""
        read = texts[:, :, :-1]
        z = outputs(self.network, self.parameters(role), read, columns, TAUGHT_POSITIONS)
        return z.unflatten(1, (texts.shape[1], -1))

    def logits_in_turn(self, writers: Sequence[Role], texts: Tensor, columns: slice) -> Tensor:
        """Return the logits ``(R, N, T, C)`` of every text's own writer."""
        z = self.logits(writers[0], texts, columns)
        for turn, role in enumerate(writers[1:], start=1):
            own = texts[:, turn :: len(writers)]
            z[:, turn :: len(writers)] = self.logits(role, own, columns)
        return z

    def divergence(self, writers: tuple[Role, ...], columns: slice) -> Divergence:
        """Return where counterfactual teachers diverge on the texts of the writers."""
        key = writers, columns.start, columns.stop
        if key not in self._diverging:
            x = self.texts(writers)
            others = (
                self.logits(role, x, columns)
                for role in counterfactuals(self.options.counterfactuals)
            )
            tokens = x[:, :, PROMPT:] - columns.start
            self._diverging[key] = divergence(
                self.logits_in_turn(writers, x, columns), tokens, others
            )
        return self._diverging[key]

    def divergent_share(self, *, asked: bool) -> Tensor:
        """Return the share ``(R,)`` of the first teacher's positions that diverge.

        NaN where no arm has `asked` for them, so that no teacher is trained for it.
        """
        if not asked:
            return self.animal.new_full(self.animal.shape, torch.nan, dtype=torch.float64)
        return self.divergence((TRAIT,), NUMBERS).where.double().mean(dim=(1, 2))
