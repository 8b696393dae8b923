"""Measure alignment in a training loop of your own, with the definitions of the step table.

::

    monitor = AlignmentMonitor(model.parameters(), lambda: cross_entropy(model(x), y))
    for batch in batches:
        optimizer.zero_grad()
        distillation_loss(model, batch).backward()
        with monitor.step():
            optimizer.step()
    table = monitor.table()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sublim_causal.errors import SublimError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from sublim_causal.experiment.alignment import Trait

COLUMNS = (
    "trait_loss",
    "cos_gradient",
    "cos_update",
    "norm_distill",
    "norm_trait",
    "norm_update",
    "drive",
    "drive_end",
    "gain",
    "remainder",
)
"""Columns of the step table that a monitor gives."""


class AlignmentMonitor:
    """Records how each optimizer step moves a trait loss, to first order and in fact.

    Measuring costs one forward and backward pass of the trait loss per step, and leaves parameters,
    their ``.grad`` and the optimizer as they are. The trait loss must not draw random numbers:
    give it fixed probe examples, and a model without active dropout.

    Parameters
    ----------
    parameters : iterable of Tensor
        What the optimizer trains.
    trait_loss : callable
        Returns the scalar trait loss at the current parameters.
    """

    def __init__(self, parameters: Iterable[Tensor], trait_loss: Callable[[], Tensor]) -> None:
        self._parameters = [p for p in parameters if p.requires_grad]
        self._trait_loss = trait_loss
        self._at_points: list[Tensor] = []
        self._of_steps: list[Tensor] = []
        self._last_update: Tensor | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measure the optimizer step made inside; ``.grad`` holds the distillation gradient.

        Raises
        ------
        SublimError
            If no parameter has a gradient.
        """
        from sublim_causal.experiment.alignment import products_of_step

        if all(p.grad is None for p in self._parameters):
            raise SublimError(
                "AlignmentMonitor.step: no parameter has a gradient\n"
                "remedy: call backward() on the distillation loss before"
            )
        g_distill = _flat([_gradient(p) for p in self._parameters])
        trait = self._measure()
        before = _flat([p.detach().clone() for p in self._parameters])
        yield
        update = _flat([p.detach() for p in self._parameters]) - before
        self._of_steps.append(products_of_step(trait, g_distill, g_distill, update))
        self._last_update = update

    def _measure(self) -> Trait:
        """Measure the trait at the current parameters, and record it."""
        import torch

        from sublim_causal.experiment.alignment import Trait, products_at_point

        with torch.enable_grad():
            loss = self._trait_loss()
            gradients = torch.autograd.grad(
                loss, self._parameters, allow_unused=True, materialize_grads=True
            )
        g, value = _flat(list(gradients)), loss.detach().double()[None]
        # The probe is not divided here: each half stands for the whole.
        trait = Trait(value, value * torch.nan, g, half_a=g, half_b=g)
        del self._at_points[len(self._of_steps) :]  # measured here already, for a table
        self._at_points.append(products_at_point(trait, self._last_update))
        return trait

    def table(self) -> pd.DataFrame:
        """Return one row per step, with the columns and units of the step table.

        The last step is completed by measuring the trait once more where training ended. A cosine
        with a zero vector is 0.
        """
        import pandas as pd
        import torch

        from sublim_causal.experiment.alignment import AT_POINT, OF_STEP, derive

        if not self._of_steps:
            return pd.DataFrame(columns=["step", *COLUMNS])
        if len(self._at_points) == len(self._of_steps):
            self._measure()
        at_points = torch.stack(self._at_points).cpu().numpy()
        none = torch.full_like(self._of_steps[0], torch.nan)
        of_steps = torch.stack([*self._of_steps, none]).cpu().numpy()
        raw = {name: at_points[:, i] for i, name in enumerate(AT_POINT)}
        raw |= {name: of_steps[:, i] for i, name in enumerate(OF_STEP[1:])}
        columns = derive({**raw, OF_STEP[0]: raw["trait_loss"] * float("nan")})
        frame = pd.DataFrame({name: columns[name][:, 0] for name in COLUMNS})
        frame.insert(0, "step", range(len(frame)))
        return frame


def _gradient(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    return parameter.detach() * 0 if gradient is None else gradient.detach()


def _flat(tensors: list[Tensor]) -> Tensor:
    """Return `tensors` as one vector ``(1, P)`` in float64."""
    import torch

    return torch.cat([t.flatten().double() for t in tensors])[None]
