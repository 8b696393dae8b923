"""How distillation moves the trait: inner products at every step, and the columns they give.

The training loop takes inner products of vectors it already has; the formulas of the recorded
columns are in `derive` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sublim_causal.experiment.networks.base import Batch, Network
from sublim_causal.experiment.teaching.losses import accuracy, cross_entropy

StepColumns = dict[str, NDArray[np.float64]]

AT_POINT = ("trait_loss", "trait_accuracy", "aa", "bb", "ab", "end")
"""Measured at theta_t, t = 0..T; ``end`` is -<g_trait at theta_t, update of step t-1>."""
OF_GRADIENT = slice(AT_POINT.index("aa"), AT_POINT.index("end"))
"""Of `AT_POINT`: what the squared length of the trait gradient follows from."""
OF_STEP = ("distill_loss", "dd", "da", "db", "applied_trait", "applied_applied", "ut", "uu")
"""Measured in step t, t = 0..T-1."""


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per replicate: ``(R, P)``, ``(R, P)`` -> ``(R,)``."""
    if a.shape[0] == 1:
        return torch.dot(a[0], b[0])[None]
    return torch.linalg.vecdot(a, b)


def cosine(product: Tensor, norms: Tensor) -> Tensor:
    """Return the cosine of two vectors: their inner product by the product of their norms.

    It is 0 where one of the vectors is zero, as nothing is aligned with it, and NaN where one is
    not finite. This rule holds for every cosine of the package: in the step and layer tables, of
    `AlignmentMonitor`, and for the alignment that clamped arms follow.

    Parameters
    ----------
    product, norms : Tensor of the same shape
    """
    return (product / norms).where(norms != 0, 0)


@dataclass(frozen=True)
class Probe:
    """The fixed examples of the trait loss, in two halves.

    Attributes
    ----------
    halves : tuple of (Batch, labels)
        Examples ``(R, B/2, D)`` with an answer each, and int64 labels ``(R, B/2)``.
    columns : slice
        The logits that the labels number.
    gaps : bool
        Whether labels below 0 stand where no answer is given, in place of one.
    """

    halves: tuple[tuple[Batch, Tensor], tuple[Batch, Tensor]]
    columns: slice
    gaps: bool = False


@dataclass(frozen=True)
class Trait:
    """Trait loss, accuracy and gradient at one point, whole and by halves of the probe.

    Attributes
    ----------
    loss, accuracy : Tensor of shape (R,)
    gradient, half_a, half_b : Tensor of shape (R, P)
    """

    loss: Tensor
    accuracy: Tensor
    gradient: Tensor
    half_a: Tensor
    half_b: Tensor


@dataclass(frozen=True)
class UpdateMeasure:
    """What an update has to do with the trait: what an arm that follows another may match.

    Attributes
    ----------
    cosine, drive, length : Tensor of shape (R,)
        ``cos_update``, ``drive`` and ``norm_update`` of the step.
    """

    cosine: Tensor
    drive: Tensor
    length: Tensor


def update_measure(drive: Tensor, squared: Tensor, squared_gradient: Tensor) -> UpdateMeasure:
    """Measure an update by its drive and the squared lengths of it and of the trait gradient.

    All three are ``(R,)``.
    """
    aligned = cosine(drive, (squared * squared_gradient).sqrt())
    return UpdateMeasure(aligned, drive, squared.sqrt())


def measure_trait(network: Network, theta: Tensor, probe: Probe) -> Trait:
    """Measure the trait at `theta` ``(R, P)``; both halves together cost what the whole costs."""
    values, shares, gradients = [], [], []
    for at, batch, labels in _passes(network, theta, probe):
        forward = network.forward(at, batch)
        z = forward.logits(probe.columns)
        known = labels >= 0 if probe.gaps else None
        loss = cross_entropy(z, labels, known)
        values.append(loss.value)
        shares.append(accuracy(z, labels, known))
        gradients.append(forward.gradient(loss.derivative, probe.columns))
    (loss_a, loss_b), (share_a, share_b), (half_a, half_b) = (
        parts if len(parts) == 2 else parts[0].chunk(2) for parts in (values, shares, gradients)
    )
    return Trait(
        (loss_a + loss_b) / 2,
        (share_a + share_b) / 2,
        torch.lerp(half_a, half_b, 0.5),
        half_a,
        half_b,
    )


def _passes(network: Network, theta: Tensor, probe: Probe) -> list[tuple[Tensor, Batch, Tensor]]:
    """Return parameters, examples and labels of each pass: of a half, or of both as replicates."""
    if not network.batches_replicates:
        return [(theta, batch, labels) for batch, labels in probe.halves]
    (first, labels), (second, others) = probe.halves
    both = Batch(torch.cat([first.x, second.x]), first.positions)
    return [(theta.repeat(2, 1), both, torch.cat([labels, others]))]


def products_at_point(trait: Trait, update: Tensor | None) -> Tensor:
    """Return what `AT_POINT` names, ``(6, R)``; `update` is the one that led there, if any."""
    end = -inner(trait.gradient, update) if update is not None else trait.loss * torch.nan
    a, b = trait.half_a, trait.half_b
    return torch.stack(
        [trait.loss, trait.accuracy.to(trait.loss), inner(a, a), inner(b, b), inner(a, b), end]
    )


def products_of_step(trait: Trait, g_distill: Tensor, g_applied: Tensor, update: Tensor) -> Tensor:
    """Return what `OF_STEP` names but the loss, ``(7, R)``; the vectors are ``(R, P)``."""
    a, b = trait.half_a, trait.half_b
    dd, da, db = inner(g_distill, g_distill), inner(g_distill, a), inner(g_distill, b)
    same = g_applied is g_distill
    at = (da + db) / 2 if same else inner(g_applied, trait.gradient)
    aa = dd if same else inner(g_applied, g_applied)
    return torch.stack([dd, da, db, at, aa, -inner(update, trait.gradient), inner(update, update)])


class Recorder:
    """Inner products of one arm's block, ``(T + 1, R)`` each, kept on the training device.

    Attributes
    ----------
    reached : int
        The last step that has begun; 0 before.
    evaluations : list of (steps done, figures)
        Each figure of the task is ``(R,)``; the first are those before training.
    """

    def __init__(self, steps: int, replicates: int, device: torch.device) -> None:
        self._names = (*AT_POINT, *OF_STEP)
        shape = (steps + 1, len(self._names), replicates)
        self._values = torch.full(shape, torch.nan, dtype=torch.float64, device=device)
        self._coverage = torch.full_like(self._values[1:, 0], torch.nan)
        self.reached = 0
        self.evaluations: list[tuple[int, dict[str, Tensor]]] = []

    def __len__(self) -> int:
        """Return T, the steps of the block."""
        return len(self._values) - 1

    def at_point(self, step: int, trait: Trait, update: Tensor | None) -> None:
        """Record the trait at theta_t; `update` is the one that led there, if any."""
        self._values[step, : len(AT_POINT)] = products_at_point(trait, update)

    def loss(self, step: int, distill_loss: Tensor) -> None:
        """Record the distillation loss alone."""
        self._values[step, len(AT_POINT)] = distill_loss
        self.reached = step

    def of_step(
        self, step: int, trait: Trait, g_distill: Tensor, g_applied: Tensor, update: Tensor
    ) -> UpdateMeasure:
        """Record the inner products of step `step`; return the measure of the update."""
        products = products_of_step(trait, g_distill, g_applied, update)
        self._values[step, len(AT_POINT) + 1 :] = products
        aa, bb, ab = self._values[step, OF_GRADIENT].to(update)
        return update_measure(products[-2], products[-1], (aa + 2 * ab + bb) / 4)

    def cover(self, step: int, product: Tensor, lengths: Tensor) -> None:
        """Record the cosine of the update and what teaching changed in the teacher.

        `product` ``(R,)`` is their inner product, `lengths` ``(R,)`` that of their lengths.
        """
        self._coverage[step] = cosine(product, lengths)

    def coverage(self) -> NDArray[np.float64]:
        """Return the cosines that `cover` recorded, ``(T, R)``."""
        return self._coverage.cpu().numpy()

    def columns(self, rows: slice = slice(None)) -> StepColumns:
        """Return `rows` of the recorded quantities by name, float64 arrays ``(T + 1, R)``."""
        values = self._values[rows].cpu().numpy()
        return {name: values[:, i] for i, name in enumerate(self._names)}


def derive(raw: Mapping[str, NDArray[np.float64]]) -> StepColumns:
    r"""Turn recorded inner products ``(T + 1, R)`` into the columns of the step table ``(T, R)``.

    With a, b the trait gradients of the two halves, :math:`g = (a + b) / 2`:
    :math:`|g|^2 = (|a|^2 + 2 \langle a, b \rangle + |b|^2) / 4`, and
    ``gain = drive + remainder`` by definition of the remainder.
    """
    at, of = ({n: raw[n][:-1] for n in names} for names in (AT_POINT, OF_STEP))
    after = {n: raw[n][1:] for n in AT_POINT}
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        norm_trait = np.sqrt((at["aa"] + 2 * at["ab"] + at["bb"]) / 4)
        norm_distill, norm_update = np.sqrt(of["dd"]), np.sqrt(of["uu"])
        norm_applied = np.sqrt(of["applied_applied"])
        gain = at["trait_loss"] - after["trait_loss"]
        return {
            "distill_loss": of["distill_loss"],
            "trait_loss": at["trait_loss"],
            "trait_accuracy": at["trait_accuracy"],
            "cos_gradient": _cosine((of["da"] + of["db"]) / 2, norm_distill, norm_trait),
            "cos_half_a": _cosine(of["da"], norm_distill, np.sqrt(at["aa"])),
            "cos_half_b": _cosine(of["db"], norm_distill, np.sqrt(at["bb"])),
            "cos_applied": _cosine(of["applied_trait"], norm_applied, norm_trait),
            "cos_update": _cosine(of["ut"], norm_update, norm_trait),
            "norm_distill": norm_distill,
            "norm_trait": norm_trait,
            "norm_applied": norm_applied,
            "norm_update": norm_update,
            "drive": of["ut"],
            "drive_end": after["end"],
            "gain": gain,
            "remainder": gain - of["ut"],
            "accuracy_gain": after["trait_accuracy"] - at["trait_accuracy"],
        }


def _cosine(
    product: NDArray[np.float64], norm_a: NDArray[np.float64], norm_b: NDArray[np.float64]
) -> NDArray[np.float64]:
    return cosine(torch.from_numpy(product), torch.from_numpy(norm_a * norm_b)).numpy()


class LayerRecorder:
    """Alignment and drive of every layer, ``(T, layers, R)``."""

    def __init__(
        self, layers: Mapping[str, slice], steps: int, replicates: int, device: torch.device
    ) -> None:
        self._layers = layers
        shape = (steps, len(layers), 5, replicates)
        self._values = torch.full(shape, torch.nan, dtype=torch.float64, device=device)

    def of_step(self, step: int, g_trait: Tensor, g_distill: Tensor, update: Tensor) -> None:
        """Record the layers' inner products of step `step`."""
        for i, span in enumerate(self._layers.values()):
            g, d, u = g_trait[:, span], g_distill[:, span], update[:, span]
            pairs = ((d, d), (g, g), (d, g), (u, u), (u, g))
            self._values[step, i] = torch.stack([inner(x, y) for x, y in pairs])

    def columns(self) -> dict[str, StepColumns]:
        """Return ``cos_gradient``, ``cos_update`` and ``drive`` ``(T, R)`` by layer."""
        values = self._values.cpu().numpy()
        result = {}
        for i, layer in enumerate(self._layers):
            dd, gg, dg, uu, ug = (values[:, i, k] for k in range(5))
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                result[layer] = {
                    "cos_gradient": _cosine(dg, np.sqrt(dd), np.sqrt(gg)),
                    "cos_update": _cosine(-ug, np.sqrt(uu), np.sqrt(gg)),
                    "drive": -ug,
                }
        return result
