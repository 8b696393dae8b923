"""The student loop for one seed and one arm, in plain torch: read this first."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from torch import Tensor

from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.interventions import build_interventions, followed_arms
from sublim_causal.experiment.reference.interventions import Moment, Rows, intervene
from sublim_causal.experiment.reference.seed import OneSeed
from sublim_causal.experiment.reference.vectors import (
    adam_of,
    batches,
    cosine,
    flat,
    gradient,
    set_gradient,
    set_parameters,
)


def distil(shared: OneSeed, arm: str) -> Rows:
    """Train a student on what the teacher teaches, and record how that moves the trait.

    Returns
    -------
    dict of str to list of float
        Columns of the step table, and what the task measures at the end.
    """
    experiment, task = shared.experiment, shared.task
    channel = experiment.arms[arm].channel.name
    interventions = build_interventions(f"arms.{arm}", experiment.arms[arm].procedure)
    followed = {other: distil(shared, other) for other in followed_arms(interventions)}
    student = deepcopy(shared.initial)
    adam = adam_of(student, experiment.distillation.learning_rate)
    order = stream(experiment.name, shared.seed, "student order")
    rows = Rows()
    for step, index in enumerate(batches(order, len(shared.examples), experiment.distillation)):
        x = shared.examples[index]
        loss = task.distillation_loss(student, x, channel)
        g = gradient(loss, student)
        trait_loss = task.trait_loss(student)
        g_trait = gradient(trait_loss, student)
        g_a = gradient(task.trait_loss(student, "first half"), student)
        g_b = gradient(task.trait_loss(student, "second half"), student)

        now = Moment(shared, student, x, step, followed)
        applied = intervene(interventions, "gradient", g, g_trait, now)
        before = flat(student.parameters())
        set_gradient(student, applied)
        adam.step()
        if any(one.space == "update" for one in interventions):
            # As a descent direction: what the optimizer would subtract from the parameters.
            descent = before - flat(student.parameters())
            set_parameters(student, before)
            descent = intervene(interventions, "update", descent, g_trait, now)
            set_parameters(student, before - descent)
        update = flat(student.parameters()) - before

        after_loss = task.trait_loss(student)
        gain = (trait_loss - after_loss).detach()
        row = {
            "distill_loss": loss.detach(),
            "trait_loss": trait_loss.detach(),
            **row_of(g, g_trait, [g_a, g_b], applied, update, gradient(after_loss, student)),
            "gain": gain,
            "remainder": gain + g_trait @ update,
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(float(value))
    return rows | {name: [value] for name, value in task.outcome(student).items()}


def row_of(
    g: Tensor,
    g_trait: Tensor,
    halves: Sequence[Tensor],
    applied: Tensor,
    update: Tensor,
    g_after: Tensor,
) -> dict[str, Tensor]:
    """Return what the vectors ``(P,)`` of a step give: cosines, norms and drive.

    `halves` are the trait gradients on either half of the probe, `g_after` that after the step.
    """
    return {
        "cos_gradient": cosine(g, g_trait),
        "cos_half_a": cosine(g, halves[0]),
        "cos_half_b": cosine(g, halves[1]),
        "cos_applied": cosine(applied, g_trait),
        "cos_update": cosine(-update, g_trait),
        "norm_distill": g.norm(),
        "norm_trait": g_trait.norm(),
        "norm_applied": applied.norm(),
        "norm_update": update.norm(),
        "drive": -g_trait @ update,
        "drive_end": -g_after @ update,
    }
