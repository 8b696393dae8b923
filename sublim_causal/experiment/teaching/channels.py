"""Channels: what of the teacher a student is taught, and in which form.

A channel says what of the teacher is read, and turns it into the `Targets` of the students, once
per seed. The built-in ones but `Representation` read logits and turn them into a distribution q
over answers, example by example. Whichever it is, the student's loss is KL(q || student) on the
same logits times the squared temperature, so that its gradient keeps its size (Hinton et al. 2015,
arXiv 1503.02531); for an answer that is certain it is the cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import ConfigDict, Field

from sublim_causal.errors import RequestError
from sublim_causal.experiment.contracts import in_place, validate_answers
from sublim_causal.experiment.data.streams import draw
from sublim_causal.experiment.imports import Contract, Options, build_named
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.teaching.representation import Representation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sublim_causal.experiment.teaching.targets import LogitTargets, Targets


@runtime_checkable
class Channel(Protocol):
    """What of the teacher is read, and the targets that it becomes."""

    def columns(self, split: LogitSplit) -> slice:
        """Return the columns of the logits in which teachers are compared."""

    def source(self, split: LogitSplit) -> slice | str:
        """Return what of the teacher is taught: columns of its logits, or a hidden layer."""

    def targets(
        self,
        taught: Tensor,
        weight: Tensor | None,
        split: LogitSplit,
        generators: Sequence[torch.Generator],
    ) -> Targets:
        """Return the students' targets.

        Parameters
        ----------
        taught : Tensor of shape (R, N, C) or (R, N, W)
            The teacher's logits or activations at `source`.
        weight : Tensor of shape (R, N), or None
            1 for the examples whose loss counts, 0 for the others; None: all count.
        generators : sequence of torch.Generator
            One per replicate, purpose "channel", the same in every arm of a seed.
        """


@runtime_checkable
class LogitChannel(Protocol):
    """What a channel that teaches logits must have; a class of a user's own may be any such."""

    @property
    def temperature(self) -> float:
        """The student answers with softmax(logits / temperature)."""

    def columns(self, split: LogitSplit) -> slice:
        """Return the columns of the logits that are taught."""

    def answers(self, logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return the distribution ``(R, N, C)`` taught, given the teacher's logits ``(R, N, C)``.

        `generators` are one per replicate, purpose "channel", the same in every arm of a seed.
        """


@dataclass(frozen=True)
class DistributionChannel:
    """The `Channel` that teaches the answers of a `LogitChannel`."""

    channel: LogitChannel

    def columns(self, split: LogitSplit) -> slice:
        """Return the columns of the logits that are taught."""
        return self.channel.columns(split)

    def source(self, split: LogitSplit) -> slice:
        """Return the same columns."""
        return self.channel.columns(split)

    def targets(
        self,
        taught: Tensor,
        weight: Tensor | None,
        split: LogitSplit,
        generators: Sequence[torch.Generator],
    ) -> LogitTargets:
        """Return the answers."""
        from sublim_causal.experiment.teaching.targets import LogitTargets

        version = taught._version
        q = self.channel.answers(taught, generators)
        if taught._version != version:
            raise in_place("answers", "the logits")
        validate_answers(q, taught)
        return LogitTargets(self.columns(split), self.channel.temperature, q, weight)


class Logits(Options):
    """Base of the built-in logit channels: which logits are taught, and their temperature."""

    logits: Literal["auxiliary", "class", "all"] = "auxiliary"
    """The logits taught: the auxiliary ones, the class logits, or one softmax over all; of texts
    `auxiliary` are those of numbers, and `class` those of answers."""
    first: int | None = Field(default=None, ge=2)
    """Teach only this many of them, the first ones; default: all of them."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """Teacher and student answer with softmax(logits / temperature); 1 is the paper's."""

    def columns(self, split: LogitSplit) -> slice:
        """Return the columns of the logits that are taught."""
        columns = split.columns(self.logits)
        if self.first is None:
            return columns
        return slice(columns.start, columns.start + self.first)


class Soft(Logits):
    """The teacher's distribution, softmax(logits / temperature)."""

    def answers(self, logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return the softened distribution."""
        from sublim_causal.experiment.teaching.losses import softmax

        return softmax(logits / self.temperature).contiguous()


class Hard(Logits):
    """A black box: only which logit is largest, as a certain answer."""

    def answers(self, logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return 1 for the largest logit, 0 for the others."""
        from sublim_causal.experiment.teaching.targets import certain

        return certain(logits.argmax(dim=2), logits)


class Sampled(Logits):
    """One answer drawn from the teacher's distribution for each example, kept through training."""

    def answers(self, logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return 1 for the answer drawn, 0 for the others."""
        import torch

        from sublim_causal.experiment.teaching.targets import certain

        below = torch.softmax(logits / self.temperature, dim=2).cumsum(dim=2)[:, :, :-1]
        count = logits.shape[1]
        drawn = draw(lambda g: torch.rand(count, generator=g), generators, below.device)
        return certain((drawn[:, :, None] > below).sum(dim=2), logits)


class Member(Options):
    """A channel by name, with its options and its weight."""

    model_config = ConfigDict(extra="allow")

    name: str = "soft"
    """The channel."""
    weight: float = Field(default=1.0, gt=0, le=1e6)
    """What its loss is multiplied by."""


class Combined(Options):
    """Several channels at once: the student's loss is the weighted sum of theirs.

    With the teacher's logits and a hidden layer as members, and students that are `adversarial`,
    this is adversarial robust distillation with internal representation (ARDIR, arXiv 2211.00239).
    """

    members: tuple[Member, ...] = Field(min_length=1)
    """Tables with `name` and the options of a channel, and its `weight` (above 0; default: 1)."""


@dataclass(frozen=True)
class CombinedChannel:
    """The channels of `Combined`, each with its weight."""

    parts: tuple[tuple[float, Channel], ...]


def parts_of(channel: Channel | CombinedChannel) -> tuple[tuple[float, Channel], ...]:
    """Return the channels that `channel` consists of, each with its weight."""
    return channel.parts if isinstance(channel, CombinedChannel) else ((1.0, channel),)


CHANNELS: dict[str, type[Any]] = {
    "soft": Soft,
    "hard": Hard,
    "sampled": Sampled,
    "representation": Representation,
    "combined": Combined,
}
"""By the name that a study file uses."""


CONTRACT = Contract(
    "a class with temperature, columns(split) and answers(logits, generators)",
    (frozenset({"columns", "answers"}), frozenset({"columns", "source", "targets"})),
)


def build_channel(
    field: str, table: Mapping[str, Any], split: LogitSplit
) -> Channel | CombinedChannel:
    """Build what an arm's channel table names.

    Parameters
    ----------
    field : str
        Name of the table (``arms.hard.channel``), for error messages.
    table : mapping
        ``name`` and the options of that channel.

    Raises
    ------
    RequestError
        If the channel is unknown, refuses an option, or does not keep the contract.
    """
    named = {"name": "soft", **table}
    built = build_named(CHANNELS, CONTRACT, field, "name", named)
    if isinstance(built, Combined):
        parts: list[tuple[float, Channel]] = []
        for i, member in enumerate(built.members):
            own = member.model_dump(exclude={"weight"})
            of_member = parts_of(build_channel(f"{field}.members.{i}", own, split))
            parts += [(member.weight * weight, part) for weight, part in of_member]
        return CombinedChannel(tuple(parts))
    if isinstance(built, Logits):
        _validate_first(f"{field}.first", built, split)
    channel = DistributionChannel(built) if isinstance(built, LogitChannel) else built
    if not isinstance(channel, Channel):
        raise RequestError(f"{field}.name", named["name"], CONTRACT.words)
    if isinstance(built, LogitChannel):
        _validate_members(f"{field}.name", named["name"], built, split)
    channel.columns(split)
    return channel


def _validate_first(field: str, built: Logits, split: LogitSplit) -> None:
    """Refuse to teach more logits than there are."""
    of_kind = split.columns(built.logits)
    known = of_kind.stop - of_kind.start
    if built.first is not None and built.first > known:
        allowed = f"at most {known}, the {built.logits} logits of the model"
        remedy = "raise model.auxiliary" if built.logits != "class" else "lower it"
        raise RequestError(field, built.first, allowed, remedy)


def _validate_members(field: str, name: str, built: LogitChannel, split: LogitSplit) -> None:
    """Refuse members of a channel that break the contract."""
    columns, temperature = built.columns(split), built.temperature
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise RequestError(field, temperature, f"temperature of {name}: a number above 0")
    count = split.columns("all").stop
    ends = (columns.start, columns.stop) if isinstance(columns, slice) else (None, None)
    if not all(isinstance(end, int) for end in ends) or not 0 <= ends[0] < ends[1] <= count:
        allowed = f"columns(split) of {name}: a slice of the {count} logits, from start to stop"
        raise RequestError(field, columns, allowed, "split.columns('auxiliary')")
