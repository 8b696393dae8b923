"""What the columns of a monitor should say, computed by hand around an optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor

Vector = list[Tensor]


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


def cos(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    norms = (dot(a, a) * dot(b, b)) ** 0.5
    return dot(a, b) / norms if norms else 0.0


class Truth:
    """Rows by hand; ``parameters`` are those that count, each once."""

    def __init__(self, parameters: Sequence[Tensor], trait_loss: Callable[[], Tensor]) -> None:
        self.parameters, self.trait_loss = list(parameters), trait_loss
        self.rows: list[dict[str, float]] = []

    def trait(self) -> tuple[float, Vector]:
        loss = self.trait_loss()
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        gradient = [
            torch.zeros_like(p) if g is None else g.detach()
            for p, g in zip(self.parameters, found, strict=True)
        ]
        return float(loss.detach()), gradient

    def gradient(self) -> Vector:
        return [
            torch.zeros_like(p) if p.grad is None else p.grad.detach().clone()
            for p in self.parameters
        ]

    def around(
        self, step: Callable[[], object], raw: Vector | None = None, applied: Vector | None = None
    ) -> None:
        """Make `step` and record it; `raw` and `applied` gradients are, by default, ``.grad``."""
        loss, g = self.trait()
        raw = self.gradient() if raw is None else raw
        applied = raw if applied is None else applied
        before = [p.detach().clone() for p in self.parameters]
        step()
        update = [p.detach() - q for p, q in zip(self.parameters, before, strict=True)]
        after, end = self.trait()
        self.rows.append(
            {
                "trait_loss": loss,
                "cos_gradient": cos(raw, g),
                "cos_applied": cos(applied, g),
                "cos_update": -cos(update, g),
                "norm_distill": dot(raw, raw) ** 0.5,
                "norm_trait": dot(g, g) ** 0.5,
                "norm_applied": dot(applied, applied) ** 0.5,
                "norm_update": dot(update, update) ** 0.5,
                "drive": -dot(g, update),
                "drive_end": -dot(end, update),
                "gain": loss - after,
                "remainder": loss - after + dot(g, update),
            }
        )

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)


def assert_same(said: pd.DataFrame, truth: Truth, tolerance: float = 1e-6) -> None:
    """Compare all columns; absolutely, as most are near 0."""
    expected = truth.table()
    assert len(said) == len(expected)
    pd.testing.assert_frame_equal(
        said[list(expected)].reset_index(drop=True), expected, rtol=tolerance, atol=tolerance
    )
