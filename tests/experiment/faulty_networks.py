"""Networks of a user's own, nearly all of which break their contract."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Plain(nn.Module):
    """Two layers: nothing is wrong with them."""

    def __init__(self, image_shape: tuple[int, ...], outputs: int, width: int = 12) -> None:
        super().__init__()
        self.first = nn.Linear(int(np.prod(image_shape)), width)
        self.last = nn.Linear(width, outputs)
        self.change()

    def change(self) -> None:
        """Make of the two layers what a class below is about."""

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x.flatten(1)))

    def forward(self, x: Tensor) -> Any:
        return self.last(self.features(x))


class ZeroDimensional(Plain):
    """A learned scale: one number without an axis."""

    def change(self) -> None:
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Any:
        return self.scale * super().forward(x)


class Frozen(Plain):
    def change(self) -> None:
        self.first.weight.requires_grad_(False)


class Complex(Plain):
    def change(self) -> None:
        self.phase = nn.Parameter(torch.zeros(3, dtype=torch.complex64))


class Lazy(Plain):
    def change(self) -> None:
        self.first = nn.LazyLinear(12)


class Undefined(Plain):
    """Parameters that nobody sets."""

    def change(self) -> None:
        self.last.bias = nn.Parameter(torch.full_like(self.last.bias, torch.nan))


class NumpyBuilt(Plain):
    def change(self) -> None:
        drawn = np.random.standard_normal(len(self.last.bias))
        self.last.bias = nn.Parameter(torch.tensor(drawn, dtype=torch.float32))


class FunctionalDropout(Plain):
    def forward(self, x: Tensor) -> Any:
        return self.last(functional.dropout(self.features(x), 0.5))


class FaintNoise(Plain):
    """Noise far below rounding errors of other checks."""

    def forward(self, x: Tensor) -> Any:
        h = self.features(x)
        return self.last(h + 1e-6 * torch.randn_like(h))


class NumpyNoise(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * (1 + 0.1 * np.random.random())


class PythonNoise(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * (1 + 0.1 * random.random())


class AttentionDropout(Plain):
    def change(self) -> None:
        self.attention = nn.MultiheadAttention(12, 3, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        h = self.features(x)[:, None]
        return self.last(self.attention(h, h, h)[0][:, 0])


class RecurrentDropout(Plain):
    def change(self) -> None:
        self.recurrent = nn.LSTM(12, 12, num_layers=2, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.recurrent(self.features(x)[:, None])[0][:, 0])


class Counter(Plain):
    calls = 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return super().forward(x) * (1 + 0.01 * self.calls)


class LastInput(Plain):
    """What the previous call was given moves this one."""

    before: Any = 0.0

    def forward(self, x: Tensor) -> Any:
        shift, self.before = self.before, x.detach().mean()
        return super().forward(x) + shift


class FirstInput(Plain):
    """What the first call was given moves all others."""

    centre: Any = None

    def forward(self, x: Tensor) -> Any:
        if self.centre is None:
            self.centre = x.detach().mean()
        return super().forward(x) + self.centre


class PlainTensor(Plain):
    """Random numbers that are neither parameters nor buffers."""

    def change(self) -> None:
        self.mask = [torch.rand(12)]

    def forward(self, x: Tensor) -> Any:
        return self.last(self.features(x) * self.mask[0])


class FunctionalBatchNorm(Plain):
    def forward(self, x: Tensor) -> Any:
        return self.last(functional.batch_norm(self.features(x), None, None, training=True))


class ChangesImages(Plain):
    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            x.detach().clamp_(-0.5, 0.5)
        return super().forward(x)


class ChangesParameters(Plain):
    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            self.first.weight.detach().clamp_(-0.01, 0.01)
        return super().forward(x)


class NotDifferentiable(Plain):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)


class Pair(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


class ComplexLogits(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).to(torch.complex64)


class Narrow(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[:, :-1]


class Branches(Plain):
    """Runs for one seed at a time only: torch.vmap follows no branch on values."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x if bool(x.sum() > 1e9) else 1.0 * x)
