"""What the columns of a monitor should say, computed by hand around an optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

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


class Problem:
    """A small network, batches without labels of the trait, and a probe."""

    def __init__(self, model: nn.Module | None = None, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(0)
        self.model = model or nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
        self.model.to(dtype)
        self.sgd = torch.optim.SGD(self.model.parameters(), 0.5)
        self.x = torch.randn(16, 6).to(dtype)
        self.probe_x, self.probe_y = torch.randn(32, 6).to(dtype), torch.arange(32) % 3

    def loss(self, part: slice = slice(None)) -> Tensor:
        return self.model(self.x[part])[:, 3:].square().mean()

    def trait(self) -> Tensor:
        return F.cross_entropy(self.model(self.probe_x)[:, :3], self.probe_y)

    def trait_by_hand(self) -> Tensor:
        """The trait loss in eval mode."""
        training = {m: m.training for m in self.model.modules()}
        self.model.eval()
        try:
            return self.trait()
        finally:
            for m, was in training.items():
                m.training = was

    def truth(self, parameters: list[Tensor] | None = None) -> Truth:
        return Truth(parameters or list(self.model.parameters()), self.trait_by_hand)
