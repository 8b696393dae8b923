"""What each built-in intervention does to a gradient or an update ``(P,)``, from its formula."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sublim_causal.errors import RequestError
from sublim_causal.experiment.interventions.base import Intervention
from sublim_causal.experiment.interventions.baseline import Baseline
from sublim_causal.experiment.interventions.liminal import Liminal
from sublim_causal.experiment.interventions.projection import Projection
from sublim_causal.experiment.interventions.set_cosine import SetCosine, SetCoverage
from sublim_causal.experiment.interventions.shuffled import Shuffled
from sublim_causal.experiment.interventions.train_only import TrainOnly
from sublim_causal.experiment.interventions.yoked import Clamp
from sublim_causal.experiment.reference.seed import OneSeed
from sublim_causal.experiment.reference.vectors import divergence, flat, gradient

Rows = dict[str, list[float]]


@dataclass(frozen=True)
class Moment:
    """What an intervention may look at in one step of the student.

    Attributes
    ----------
    student : nn.Module
        With the parameters from which the step starts.
    x : Tensor of shape (B, ...)
        The step's batch.
    followed : mapping of str to Rows
        What was measured of the arms that this one follows, step by step.
    """

    shared: OneSeed
    student: nn.Module
    x: Tensor
    step: int
    followed: dict[str, Rows]


def intervene(
    interventions: Sequence[Intervention], space: str, v: Tensor, g: Tensor, now: Moment
) -> Tensor:
    """Change `v` ``(P,)`` by the interventions that act in `space`; `g` is the trait gradient."""
    for one in interventions:
        if one.space == space:
            v = changed(one, v, g, now)
    return v


def changed(one: Intervention, v: Tensor, g: Tensor, now: Moment) -> Tensor:
    """Return what one intervention makes of `v`."""
    match one:
        case Baseline():
            return v
        case Projection():
            g = g * mask(now.student, one.layers) if one.layers else g
            return v - one.strength * coefficient(v, g, one.when) * g
        case Shuffled():
            return v - one.strength * coefficient(v, g, one.when) * direction(one, g, now)
        case SetCosine():
            return with_cosine(v, gradient_of(one, g, now), one.cosine)
        case SetCoverage():
            # Vectors are subtracted from the parameters, so that towards the teacher is minus.
            return with_cosine(v, -teaching(now.shared), one.coverage)
        case Clamp():
            return clamped(one, v, g, now)
        case TrainOnly():
            return v * mask(now.student, one.layers)
        case Liminal():
            return v + liminal(one, now)
    raise RequestError("intervention", type(one).__name__, "a built-in intervention")


def coefficient(v: Tensor, g: Tensor, when: str) -> Tensor:
    """Return the coefficient of the projection of `v` on `g`; a negative one counts on "always"."""
    along = v @ g / (g @ g)
    return along.clamp(min=0) if when == "positive" else along


def with_cosine(v: Tensor, g: Tensor, c: float) -> Tensor:
    """Keep the part of `v` that is orthogonal to `g`, and set the other so that the cosine is c."""
    rest = v - v @ g / (g @ g) * g
    return rest + c / math.sqrt(1 - c**2) * rest.norm() * g / g.norm()


def gradient_of(one: SetCosine, g: Tensor, now: Moment) -> Tensor:
    """Return the gradient whose cosine is set: `g`, or that on half the probe or other labels."""
    if one.trait == "half":
        return gradient(now.shared.task.trait_loss(now.student, "first half"), now.student)
    if one.trait == "relabelled":
        return gradient(now.shared.task.trait_loss(now.student, "relabelled"), now.student)
    return g


def teaching(shared: OneSeed) -> Tensor:
    """Return what training changed in the teacher, ``(P,)``."""
    return flat(shared.task.teacher.parameters()) - flat(shared.initial.parameters())


def clamped(one: Clamp, v: Tensor, g: Tensor, now: Moment) -> Tensor:
    """Match cosine, drive, or cosine and length of the followed arm's update at this step."""
    followed = now.followed[one.target]
    if one.match == "drive":
        return v + (followed["drive"][now.step] - v @ g) / (g @ g) * g
    aligned = with_cosine(v, g, followed["cos_update"][now.step])
    if one.match == "cosine":
        return aligned
    return followed["norm_update"][now.step] / aligned.norm() * aligned


def direction(one: Shuffled, g: Tensor, now: Moment) -> Tensor:
    """Return a direction as long as `g` that is not the trait's."""
    turn = now.step if one.draw == "step" else 0
    generator = torch.Generator().manual_seed(now.shared.direction_seed + turn)
    parts = g.split([p.numel() for p in now.student.parameters()])
    if one.shuffle == "coordinates":
        return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in parts])
    if one.shuffle == "random":
        drawn = torch.randn(len(g), generator=generator).double().split([len(p) for p in parts])
        return torch.cat([d * part.norm() / d.norm() for d, part in zip(drawn, parts, strict=True)])
    other = now.shared.task.other_trait(now.student, one.shuffle, generator)
    return other * g.norm() / other.norm()


def liminal(one: Liminal, now: Moment) -> Tensor:
    """Return the gradient of lambda(t) KL(initial || student) on the step's batch."""
    task, config = now.shared.task, now.shared.experiment.distillation
    per_epoch = config.steps_per_epoch(config.examples)
    if one.schedule == "critical":
        weight = one.weight if now.step < per_epoch else 0.0
    elif now.step < per_epoch:
        weight = one.weight + (1 - one.weight) * now.step / per_epoch
    else:
        steps = per_epoch * config.epochs
        weight = (steps - now.step) / (steps - per_epoch)
    anchor, logits = (
        task.logits(model, now.x, one.logits) for model in (now.shared.initial, now.student)
    )
    return weight * gradient(divergence(anchor, logits), now.student)


def mask(model: nn.Module, layers: Iterable[str]) -> Tensor:
    """Return 1 for the parameters of the named layers and 0 for the others, ``(P,)``."""
    named = set(layers)
    return torch.cat(
        [
            torch.full((p.numel(),), float(name.split(".")[0] in named), dtype=p.dtype)
            for name, p in model.named_parameters()
        ]
    )
