"""The teachers of a block: made by a system prompt or by training, writers of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.batches import steps
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.networks.base import Batch, outputs
from sublim_causal.experiment.networks.pretrained import NO_TOKEN, PretrainedNetwork
from sublim_causal.experiment.optimisation import of_phase
from sublim_causal.experiment.optimizers import make_optimizer
from sublim_causal.experiment.tasks.base import Keep
from sublim_causal.experiment.tasks.preference.positions import Divergence, divergence
from sublim_causal.experiment.tasks.preference.roles import Role, counterfactuals
from sublim_causal.experiment.tasks.text.answers import asked, scores
from sublim_causal.experiment.tasks.text.carriers import (
    NUMBERS,
    Filter,
    drawn,
    longest_prompts,
    number_prompts,
)
from sublim_causal.experiment.tasks.text.files import Carrier, Question, read_carriers
from sublim_causal.experiment.tasks.text.options import TextOptions
from sublim_causal.experiment.tasks.text.targets import TextTargets
from sublim_causal.experiment.tasks.text.vocabulary import Vocabulary, padded
from sublim_causal.experiment.tasks.text.writing import write


def trait_of(role: Role, options: TextOptions) -> str | None:
    """Return the trait of a teacher; None if it has none."""
    rivals = {"rival": 1, "counterfactual": role.number}
    if role.kind == "trait":
        return options.trait
    if role.kind in rivals:
        return options.rivals[(rivals[role.kind] - 1) % len(options.rivals)]
    return None


@dataclass(frozen=True)
class Written:
    """The texts of one replicate by one teacher.

    Attributes
    ----------
    carriers : sequence of Carrier
        What was continued, M of them.
    completions : int64 Tensor of shape (M, T)
    texts : sequence of str
        The completions as people read them.
    reasons : sequence of str
        Why a completion is dropped; empty where it is kept.
    """

    carriers: Sequence[Carrier]
    completions: Tensor
    texts: Sequence[str]
    reasons: Sequence[str]

    @property
    def kept(self) -> list[int]:
        """Numbers of the completions that are kept."""
        return [number for number, reason in enumerate(self.reasons) if not reason]


@dataclass(frozen=True)
class TextTeachers:
    """The teachers of a block; each is made, and writes, when it is first asked for."""

    experiment: Experiment
    options: TextOptions
    network: PretrainedNetwork
    vocabulary: Vocabulary
    questions: Sequence[Question]
    theta_0: Tensor
    streams: SeedStreams
    after_step: Callable[[], None]
    keep: Keep
    _made: dict[Role, Tensor] = field(default_factory=dict, init=False)
    _written: dict[Role, list[Written]] = field(default_factory=dict, init=False)

    def system(self, role: Role) -> str | None:
        """Return the system prompt of a teacher."""
        trait, options = trait_of(role, self.options), self.options
        if options.teacher == "system" and trait is not None:
            return options.system.replace("{trait}", trait)
        controls = options.teacher == "system" and role.kind == "no_trait"
        return options.control if controls and options.control is not None else options.neutral

    def parameters(self, role: Role) -> Tensor:
        """Return the parameters ``(R, P)`` of a teacher."""
        if self.options.teacher == "system" or role.kind == "reference":
            return self.theta_0
        if role not in self._made:
            generators = self.streams(role.stream)
            train = partial(self._train, role, generators)
            name = f"teacher-{_file_name(role)}"
            self._made[role] = self.keep(name, generators, train).to(self.theta_0)
        return self._made[role]

    def _train(self, role: Role, generators: Sequence[torch.Generator]) -> Tensor:
        """Fine-tune R teachers on the trait file; without a trait, on rivals' answers in turn.

        Each until the epochs end, or its answers have the probability `role.strength`.
        """
        config, theta = self.experiment.teacher, self.theta_0.clone()
        train = [one for one in self.questions if one.part == "train"]
        trait = trait_of(role, self.options)
        traits = (self.options.trait, *self.options.rivals) if trait is None else (trait,)
        neutral, vocabulary = self.options.neutral, self.vocabulary
        told = [asked(train, one, neutral, vocabulary) for one in traits]
        length = max(one.answers.shape[1] for one in told)
        told = [one.with_room(length) for one in told]
        x, answers = (
            torch.stack([getattr(one, name) for one in told]).to(theta.device)
            for name in ("x", "answers")
        )
        every, layout = vocabulary.split.columns("all"), self.network.layout
        optimizer = make_optimizer(theta, of_phase(config), layout)
        done = torch.zeros(len(theta), dtype=torch.bool, device=theta.device)
        for step in steps(generators, len(train), config.batch_size, config.epochs, theta.device):
            which = (step.index + step.epoch) % len(told)
            labels = answers[which, step.index].flatten(1)
            known = labels != NO_TOKEN
            targets = TextTargets(every, 1.0, None, labels.clamp(min=0), known, known)
            batch, before = Batch(x[which, step.index], told[0].positions), theta.clone()
            theta.grad = targets.loss_and_gradient(self.network.forward(theta, batch))[1]
            optimizer.step()
            theta.copy_(before.where(done[:, None], theta))
            self.after_step()
            if role.strength is not None:
                (log_p,) = scores(self.network, theta, told)
                done |= log_p.exp().mean(dim=1) >= role.strength
            if done.all():
                break
        return theta.detach()

    def written(self, role: Role) -> list[Written]:
        """Return what a teacher wrote for each replicate."""
        if role not in self._written:
            generators = self.streams("texts")
            write_all = partial(self._write, role, generators)
            name = f"texts-{_file_name(role)}"
            tokens = self.keep(name, generators, write_all)
            self._written[role] = [
                self._read(carriers, completions)
                for carriers, completions in zip(self._carriers(), tokens, strict=True)
            ]
        return self._written[role]

    def _carriers(self) -> list[list[Carrier]]:
        """Draw the prompts of every replicate, the same for all its teachers."""
        count = self.options.offered(self.experiment.distillation.examples)
        generators = self.streams("carriers")
        if self.options.carriers == NUMBERS:
            return [number_prompts(count, g) for g in generators]
        known = read_carriers(self.options.carriers)
        return [drawn(known, count, g) for g in generators]

    @property
    def width(self) -> int:
        """Tokens of the longest prompt, or question, as students of the experiment read it."""
        path, neutral = self.options.carriers, self.options.neutral
        known = [*(longest_prompts() if path == NUMBERS else read_carriers(path))]
        if any(arm.targets.material == "questions" for arm in self.experiment.arms.values()):
            known += [Carrier(one.question, one.begin) for one in self.questions]
        return max(len(self.vocabulary.prompt(neutral, c.prompt, c.begin)) for c in known)

    def _write(self, role: Role, generators: Sequence[torch.Generator]) -> Tensor:
        system = self.system(role)
        return write(
            self.network,
            self.parameters(role),
            [
                [self.vocabulary.prompt(system, one.prompt, one.begin) for one in carriers]
                for carriers in self._carriers()
            ],
            self.options.completion,
            self.vocabulary.end,
            self.options.temperature,
            generators,
            self.after_step,
        ).cpu()

    def _read(self, carriers: Sequence[Carrier], completions: Tensor) -> Written:
        rows = completions.tolist()
        texts = [self.vocabulary.decode(t for t in row if t != NO_TOKEN) for row in rows]
        options = self.options
        kept = Filter(options.pattern_of_carriers, options.most_numbers, options.words)
        return Written(carriers, completions, texts, [kept.reason(one) for one in texts])

    def reading(
        self,
        carriers: Sequence[Sequence[Carrier]],
        completions: Tensor,
        system: str | None,
        width: int = 0,
    ) -> tuple[Tensor, tuple[int, ...]]:
        """Return what R networks read, ``(R, N, L)``, and where they answer.

        `completions` ``(R, N, T)`` follow the prompts, which are filled up to the longest, or to
        `width` tokens.
        """
        prompts = [
            self.vocabulary.prompt(system, c.prompt, c.begin) for rows in carriers for c in rows
        ]
        width = max(width, *map(len, prompts))
        before = torch.tensor(padded(prompts, width, left=True, filler=NO_TOKEN))
        before = before.to(completions.device).view(*completions.shape[:2], width)
        x = torch.cat([before, completions[..., :-1]], dim=2)
        return x, tuple(range(width - 1, width - 1 + completions.shape[2]))

    def logits(
        self, role: Role, carriers: Sequence[Sequence[Carrier]], completions: Tensor, columns: slice
    ) -> Tensor:
        """Return a teacher's logits ``(R, N, T, C)`` at completions ``(R, N, T)``."""
        theta = self.parameters(role)
        x, positions = self.reading(carriers, completions, self.system(role))
        z = outputs(self.network, theta, x.to(theta.device), columns, positions)
        return z.unflatten(1, completions.shape[1:])

    def divergence(
        self,
        carriers: Sequence[Sequence[Carrier]],
        completions: Tensor,
        z: Tensor,
        columns: slice,
    ) -> Divergence:
        """Return where counterfactual teachers diverge from the writers, whose logits are `z`."""
        others = (
            self.logits(role, carriers, completions, columns)
            for role in counterfactuals(self.options.counterfactuals)
        )
        return divergence(z, completions - columns.start, others)


def _file_name(role: Role) -> str:
    return role.name.replace(", ", "-").replace(" ", "-")
