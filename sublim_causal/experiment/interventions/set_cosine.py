"""Set the alignment with the trait gradient, or the coverage, to a chosen value."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.interventions.base import BlockContext, StepContext

if TYPE_CHECKING:
    from torch import Tensor

    from sublim_causal.experiment.alignment import Probe


def with_cosine(vector: Tensor, along: Tensor, cosine: Tensor | float) -> Tensor:
    r"""Set the part of `vector` ``(R, P)`` along `along` so that their cosine is `cosine`.

    With :math:`v = a\,\hat g + v_\perp`, g being `along`, :math:`v_\perp` is kept and a becomes
    :math:`c\,|v_\perp| / \sqrt{1 - c^2}`. A zero `along` leaves `vector` unchanged.

    Parameters
    ----------
    cosine : Tensor of shape (R,) or float
        In (-1, 1).
    """
    from sublim_causal.experiment.alignment import inner

    square = inner(along, along)
    part = inner(vector, along) / square
    rest = vector - part[:, None] * along
    scale = cosine * (inner(rest, rest) / (square * (1 - cosine**2))).sqrt()
    return rest.addcmul(scale[:, None], along).where((square > 0)[:, None], vector)


def with_drive(vector: Tensor, g_trait: Tensor, drive: Tensor) -> Tensor:
    r"""Set the part of `vector` ``(R, P)`` along `g_trait` so that their inner product is `drive`.

    :math:`v_\perp + (d / |g|^2)\, g` with :math:`d` the `drive` ``(R,)``. A zero `g_trait` leaves
    `vector` unchanged.
    """
    from sublim_causal.experiment.alignment import inner

    square = inner(g_trait, g_trait)
    scale = (drive - inner(vector, g_trait)) / square
    return vector.addcmul(scale[:, None], g_trait).where((square > 0)[:, None], vector)


class SetCosine(Options):
    """Set the vector's cosine with the trait gradient to the same value at every step."""

    cosine: float = Field(gt=-1, lt=1)
    """The cosine; 0 removes the aligned part in both directions, below 0 opposes the trait."""
    space: Literal["gradient", "update"] = "update"
    """Act on the optimizer's step, whose alignment is then exactly this, or on the gradient."""

    trait: Literal["taught", "half", "relabelled"] = "taught"
    """Whose gradient: of the trait that is measured; of it on the first `half` of the probe; of one
    that the teacher lacks, every label `relabelled` as the next."""

    uses_trait: ClassVar[bool] = True

    def init(self, context: BlockContext) -> Probe | None:
        """Return the probe of the trait; None where it is the one that is measured."""
        from sublim_causal.experiment.alignment import Probe

        if self.trait == "taught":
            return None
        columns, (first, second) = context.probe.columns, context.probe.halves
        if self.trait == "half":
            return Probe((first, first), columns, context.probe.gaps)
        trait = context.split.trait
        begin, count = trait.start - columns.start, trait.stop - trait.start
        (x, labels), (others, other_labels) = (
            (batch, begin + (given - begin + 1) % count) for batch, given in (first, second)
        )
        return Probe(((x, labels), (others, other_labels)), columns)

    def apply(
        self, vector: Tensor, g_trait: Tensor, state: Probe | None, context: StepContext
    ) -> tuple[Tensor, Probe | None]:
        """Return the aligned vector."""
        gradient = g_trait if state is None else context.trait_gradient(state)
        return with_cosine(vector, gradient, self.cosine), state


class SetCoverage(Options):
    r"""Set the coverage of the update to the same value at every step (arXiv 2606.22019).

    That is its cosine with what the first teacher's training changed,
    :math:`\cos(\theta_{t+1} - \theta_t, \theta_T - \theta_0)`: the columns `coverage` and
    `mean_coverage` of the table ``replicates``.
    """

    coverage: float = Field(gt=-1, lt=1)
    """The cosine; 0 removes the part along the teacher's change, below 0 moves away from it."""
    space: Literal["gradient", "update"] = "update"
    """Act on the optimizer's step, whose coverage is then exactly this, or on the gradient."""

    uses_trait: ClassVar[bool] = False

    def init(self, context: BlockContext) -> None:
        """No state."""

    def apply(
        self, vector: Tensor, g_trait: Tensor | None, state: None, context: StepContext
    ) -> tuple[Tensor, None]:
        """Return the covering vector; a teacher without change leaves it as it is."""
        return with_cosine(vector, -context.teaching, self.coverage), None
