"""Channels: what of the teacher a student is taught, and in which form.

A channel turns the teacher's logits into a distribution q over answers, image by image, once per
seed. Whatever the channel, the student's loss is KL(q || student) on the same logits times the
squared temperature, so that its gradient keeps its size (Hinton et al. 2015, arXiv 1503.02531); for
an answer that is certain it is the cross-entropy. `Representation` alone shows no logits, and has a
loss of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from sublim_causal.errors import RequestError
from sublim_causal.experiment.data.streams import draw
from sublim_causal.experiment.imports import build_named
from sublim_causal.experiment.interventions.base import LogitSplit, Options
from sublim_causal.experiment.teaching.representation import Representation

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@runtime_checkable
class Channel(Protocol):
    """What a channel must have; a class of a user's own may be any that keeps it."""

    @property
    def temperature(self) -> float:
        """The student answers with softmax(logits / temperature)."""

    def columns(self, split: LogitSplit) -> slice:
        """Return the columns of the logits that are taught."""

    def answers(self, logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return the distribution ``(R, N, C)`` taught, given the teacher's logits ``(R, N, C)``.

        `generators` are one per replicate, purpose "channel", the same in every arm of a seed.
        """


class Logits(Options):
    """What all built-in channels share: the logits that are taught, and their temperature."""

    logits: Literal["auxiliary", "class", "all"] = "auxiliary"
    """The logits taught: the auxiliary ones, the class logits, or one softmax over all."""
    first: int | None = Field(default=None, ge=2)
    """Teach only this many of them, the first ones; default: all of them."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """Teacher and student answer with softmax(logits / temperature); 1 is the paper's."""

    def columns(self, split: LogitSplit) -> slice:
        """Return the columns of the logits that are taught.

        Raises
        ------
        RequestError
            If there are fewer than `first`.
        """
        columns = split.columns(self.logits)
        if self.first is None:
            return columns
        if self.first > columns.stop - columns.start:
            raise RequestError(
                "channel.first",
                self.first,
                f"at most {columns.stop - columns.start}, the {self.logits} logits of the model",
                "raise model.auxiliary",
            )
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
        return certain(logits.argmax(dim=2), logits)


class Sampled(Logits):
    """One answer drawn from the teacher's distribution for each image, kept through training."""

    def answers(self, logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return 1 for the answer drawn, 0 for the others."""
        import torch

        below = torch.softmax(logits / self.temperature, dim=2).cumsum(dim=2)[:, :, :-1]
        count = logits.shape[1]
        drawn = draw(lambda g: torch.rand(count, generator=g), generators, below.device)
        return certain((drawn[:, :, None] > below).sum(dim=2), logits)


def certain(answers: Tensor, like: Tensor) -> Tensor:
    """Return the distribution ``(R, N, C)`` that is certain of `answers` ``(R, N)``."""
    import torch

    return torch.zeros_like(like).scatter_(2, answers[:, :, None], 1.0)


CHANNELS: dict[str, type[Any]] = {
    "soft": Soft,
    "hard": Hard,
    "sampled": Sampled,
    "representation": Representation,
}
"""By the name that a study file uses."""


def build_channel(
    field: str, table: Mapping[str, Any], split: LogitSplit
) -> Channel | Representation:
    """Build what an arm's channel table names.

    Parameters
    ----------
    field : str
        Where the table stands (``arms.hard.channel``), for error messages.
    table : mapping
        ``name`` and the options of that channel.

    Raises
    ------
    RequestError
        If the channel is unknown, refuses an option, or does not keep the contract.
    """
    named = {"name": "soft", **table}
    built = build_named(CHANNELS, field, "name", named)
    if not isinstance(built, Channel | Representation):
        raise RequestError(
            f"{field}.name",
            table["name"],
            "a class with temperature, columns(split) and answers(...)",
        )
    built.columns(split)
    return built
