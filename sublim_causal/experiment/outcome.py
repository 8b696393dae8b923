"""What came out of a block: what each arm recorded, and the task's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sublim_causal.experiment.alignment import StepColumns, derive
from sublim_causal.experiment.shared import Texts, Traits
from sublim_causal.experiment.students import Student


@dataclass(frozen=True)
class ArmResult:
    """What one arm of a block recorded; the last axis is the replicate, R.

    Attributes
    ----------
    steps : dict of str to ndarray of shape (T, R)
        The float columns of the step table; NaN after a replicate diverged.
    evaluation_steps : ndarray of shape (E,)
        Steps done before each evaluation.
    evaluations : dict of str to ndarray of shape (E, R)
    layers : dict of str to dict of str to ndarray of shape (T, R)
        By layer; empty unless asked for.
    coverage : ndarray of shape (T, R)
        Cosine of each update and the teacher minus the reference; NaN where it was not measured.
    final_trait_loss : ndarray of shape (R,)
        NaN where alignment was not measured.
    diverged_at : int64 ndarray of shape (R,)
        First step at which a loss, or the update that led there, was non-finite; -1 where there is
        none.
    lengths : int64 ndarray of shape (R,)
        Steps taken; what is recorded from there on is not a step of the replicate.
    final_distill_loss : ndarray of shape (R,)
        Distillation loss of the last step, or of the batch at which `until_loss` was reached.
    unreached : bool ndarray of shape (R,)
        Whether the study has an `until_loss` and the replicate took all steps without reaching it.
    figures : dict of str to ndarray of shape (R,)
        Columns of the table ``replicates`` that the task gives: of the seed, and of the student at
        the end, these NaN where it diverged.
    seconds : float
        Training time of the arm, divided by R.
    weights : dict of str to ndarray of shape (P, R)
        Parameters of ``student``, ``teacher`` and ``reference`` (the shared initialisation); empty
        unless asked for.
    texts : sequence of Texts
        Those of each replicate; empty unless asked for.
    traits : Traits or None
        In the end, NaN where a replicate diverged; None: the task has none.
    """

    steps: StepColumns
    evaluation_steps: NDArray[np.int64]
    evaluations: StepColumns
    layers: dict[str, StepColumns]
    coverage: NDArray[np.float64]
    final_trait_loss: NDArray[np.float64]
    diverged_at: NDArray[np.int64]
    lengths: NDArray[np.int64]
    final_distill_loss: NDArray[np.float64]
    unreached: NDArray[np.bool_]
    figures: StepColumns
    seconds: float
    weights: dict[str, NDArray[np.floating[Any]]]
    texts: Sequence[Texts]
    traits: Traits | None


def arm_result(
    student: Student,
    of_seed: Mapping[str, Tensor],
    of_student: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    texts: Sequence[Texts],
    traits: Traits | None,
) -> ArmResult:
    """Collect what one arm recorded, and find out which replicates diverged.

    `of_seed` and `of_student` ``(R,)`` are the task's figures; `weights` ``(R, P)``; `texts` one
    for each replicate, or none; `traits` of the students at the end.
    """
    raw = student.recorder.columns()
    measured = student.update is not None
    lengths = student.lengths.cpu().numpy()
    diverged_at = first_divergence(raw, lengths, measured=measured)
    steps, replicates = len(raw["distill_loss"]) - 1, np.arange(len(lengths))
    final_distill_loss = raw["distill_loss"][np.minimum(lengths, steps - 1), replicates]
    final_trait_loss = raw["trait_loss"][lengths, replicates]
    unreached = (lengths == steps) & (diverged_at < 0) & (student.until_loss is not None)
    columns = derive(raw)
    layers = student.layers.columns() if student.layers is not None else {}
    coverage = student.recorder.coverage()
    for table in (columns, {"coverage": coverage}, *layers.values()):
        for values in table.values():
            hide_after(values, diverged_at)
    final = {name: values.cpu().numpy() for name, values in of_student.items()}
    final = {name: np.where(diverged_at < 0, values, np.nan) for name, values in final.items()}
    at, figures = zip(*student.recorder.evaluations, strict=True)
    evaluations = {
        name: torch.stack([one[name] for one in figures]).cpu().numpy() for name in figures[0]
    }
    for values in evaluations.values():
        values[(np.array(at)[:, None] >= diverged_at) & (diverged_at >= 0)] = np.nan
    return ArmResult(
        steps=columns,
        evaluation_steps=np.array(at, dtype=np.int64),
        evaluations=evaluations,
        layers=layers,
        coverage=coverage,
        final_trait_loss=np.where(diverged_at < 0, final_trait_loss, np.nan),
        diverged_at=diverged_at,
        lengths=lengths,
        final_distill_loss=np.where(diverged_at < 0, final_distill_loss, np.nan),
        unreached=unreached,
        figures={name: values.cpu().numpy() for name, values in of_seed.items()} | final,
        seconds=student.clock.seconds() / len(diverged_at),
        weights={role: theta.T.cpu().numpy() for role, theta in weights.items()},
        texts=texts,
        traits=None if traits is None else without_diverged(traits, diverged_at),
    )


def without_diverged(traits: Traits, diverged_at: NDArray[np.int64]) -> Traits:
    """Return `traits` with NaN where a replicate diverged."""
    lost = torch.from_numpy(diverged_at >= 0).to(traits.probability.device)[:, None]
    p, log_odds = (
        one.masked_fill(lost, torch.nan) for one in (traits.probability, traits.log_odds)
    )
    return replace(traits, probability=p, log_odds=log_odds)


def first_divergence(
    raw: StepColumns, lengths: NDArray[np.int64] | None = None, *, measured: bool
) -> NDArray[np.int64]:
    """Return the step at which the losses or the update of each replicate became non-finite.

    The squared norm of an update may overflow while the losses stay finite: where an update turned
    every unit off, all logits are equal.

    Parameters
    ----------
    raw : dict of str to ndarray of shape (T + 1, R)
        What a `Recorder` recorded; of the step that would be the T-th there is no value.
    lengths : ndarray of shape (R,), optional
        Steps that each took; default: T.
    measured : bool
        Whether the trait and the updates were recorded.

    Returns
    -------
    ndarray of shape (R,)
        -1 where there is none.
    """
    bad = ~np.isfinite(raw["distill_loss"])
    bad[-1] = False
    if measured:
        bad |= ~np.isfinite(raw["trait_loss"])
        bad[1:] |= ~np.isfinite(raw["uu"][:-1])
    if lengths is not None:
        bad &= np.arange(len(bad))[:, None] <= lengths
    return np.where(bad.any(axis=0), bad.argmax(axis=0), -1)


def hide_after(values: NDArray[np.float64], diverged_at: NDArray[np.int64]) -> None:
    """Set `values` ``(T, R)`` to NaN from the step before each divergence on.

    That step's gain, and everything its update touched, is non-finite or meaningless.
    """
    step = np.arange(len(values))[:, None]
    values[(step >= np.maximum(diverged_at - 1, 0)) & (diverged_at >= 0)] = np.nan
