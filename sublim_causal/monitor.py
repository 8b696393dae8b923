"""Measure alignment in a training loop of your own, with the definitions of the step table.

monitor = AlignmentMonitor(model.parameters(), lambda: cross_entropy(model(probe_x), probe_y))
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

import numpy as np

from sublim_causal.errors import SublimError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


class AlignmentMonitor:
    """Records how each optimizer step moves a trait loss, to first order and in fact.

    Measuring costs one forward and backward pass of the trait loss a step, and leaves parameters,
    their ``.grad`` and the optimizer as they are. The trait loss must not draw random numbers:
    give it fixed probe images, and a model without active dropout.

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
        self._rows: list[dict[str, float]] = []
        self._losses: list[float] = []
        self._last_update: Tensor | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measure the optimizer step made inside; ``.grad`` holds the distillation gradient.

        Raises
        ------
        SublimError
            If no parameter has a gradient.
        """
        if all(p.grad is None for p in self._parameters):
            raise SublimError(
                "AlignmentMonitor.step: no parameter has a gradient\n"
                "remedy: call backward() on the distillation loss before"
            )
        g_distill = _flat([_gradient(p) for p in self._parameters])
        g_trait = self._measure()
        before = _flat([p.detach().clone() for p in self._parameters])
        yield
        update = _flat([p.detach() for p in self._parameters]) - before
        norms = [float(v.norm()) for v in (g_distill, g_trait, update)]
        drive = -float(g_trait @ update)
        self._rows.append(
            {
                "cos_gradient": _cosine(float(g_distill @ g_trait), norms[0], norms[1]),
                "cos_update": _cosine(drive, norms[2], norms[1]),
                "norm_distill": norms[0],
                "norm_trait": norms[1],
                "norm_update": norms[2],
                "drive": drive,
            }
        )
        self._last_update = update

    def _measure(self) -> Tensor:
        """Record the trait loss, finish the row before, and return the trait gradient ``(P,)``."""
        import torch

        with torch.enable_grad():
            loss = self._trait_loss()
            gradients = torch.autograd.grad(
                loss, self._parameters, allow_unused=True, materialize_grads=True
            )
        g_trait = _flat(list(gradients))
        del self._losses[len(self._rows) :]  # measured here already, for a table
        self._losses.append(float(loss.detach()))
        if self._last_update is not None:
            self._rows[-1]["drive_end"] = -float(g_trait @ self._last_update)
        return g_trait

    def table(self) -> pd.DataFrame:
        """Return a row a step, with the columns and units of the step table.

        The last step is finished by measuring the trait once more where training ended.
        """
        import pandas as pd

        if len(self._losses) == len(self._rows):
            self._measure()
        losses = np.array(self._losses)
        frame = pd.DataFrame(self._rows)
        frame.insert(0, "step", np.arange(len(frame)))
        frame.insert(1, "trait_loss", losses[:-1])
        gain = losses[:-1] - losses[1:]
        return frame.assign(gain=gain, remainder=gain - frame["drive"])


def _gradient(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    return parameter.detach() * 0 if gradient is None else gradient.detach()


def _flat(tensors: list[Tensor]) -> Tensor:
    import torch

    return torch.cat([t.flatten().double() for t in tensors])


def _cosine(product: float, norm_a: float, norm_b: float) -> float:
    """The cosine; 0 where one of the vectors is zero."""
    return product / (norm_a * norm_b) if norm_a * norm_b else 0.0
