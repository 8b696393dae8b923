"""Models, interventions and channels of a user's own, nearly all of which break their contract."""

from __future__ import annotations

import random
from typing import Any, ClassVar

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

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x.flatten(1)))

    def forward(self, x: Tensor) -> Any:
        return self.last(self.features(x))


class ZeroDimensional(Plain):
    """A learned scale: one number without an axis."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Any:
        return self.scale * super().forward(x)


class Frozen(Plain):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.first.weight.requires_grad_(False)


class Complex(Plain):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.phase = nn.Parameter(torch.zeros(3, dtype=torch.complex64))


class Lazy(Plain):
    def __init__(self, image_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__(image_shape, outputs)
        self.first = nn.LazyLinear(12)


class Undefined(Plain):
    """Parameters that nobody sets."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.last.bias = nn.Parameter(torch.full_like(self.last.bias, torch.nan))


class NumpyBuilt(Plain):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
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
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.attention = nn.MultiheadAttention(12, 3, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        h = self.features(x)[:, None]
        return self.last(self.attention(h, h, h)[0][:, 0])


class RecurrentDropout(Plain):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
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

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
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


class Same:
    """An intervention with nothing wrong."""

    space: Any = "gradient"
    uses_trait: Any = False

    def init(self, context: Any) -> Any:
        return context.generators

    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector, state


class OwnNoise(Same):
    """Draws as it should: one generator for each replicate."""

    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        drawn = [torch.randn(vector.shape[1], generator=g) for g in state]
        return [vector + torch.stack(drawn).to(vector), state]


class Boom(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        if context.step == 5:
            raise ZeroDivisionError("mine, at step 5")
        return vector, state


class LateShape(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector[:, : 1 if context.step == 3 else None], state


class OneColumn(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector[:, :1], state


class Halved(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector.half(), state


class NoState(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector


class Nothing(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any: ...


class Three(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector, state, None


class Array(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector.numpy(), state


class InPlace(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector.mul_(0), state


class InPlaceTrait(Same):
    uses_trait = True

    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        g_trait /= g_trait.norm()
        return vector, state


class InPlaceArray(Same):
    """Past torch's own count of writes."""

    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        vector.numpy()[:] = 0
        return vector, state


class Misspelt(Same):
    space = "gradients"


class TraitPerhaps(Same):
    uses_trait = "no"


class FollowsText(Same):
    follows = "baseline"


class TorchNoise(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector + 1e-3 * torch.randn_like(vector), state


class NumpyArmNoise(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector * np.random.random(), state


class PythonArmNoise(Same):
    def init(self, context: Any) -> Any:
        return random.random()


class Counts(Same):
    """Counts its steps in the object, over all blocks."""

    count = 0

    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        self.count += 1
        return vector * self.count, state


class SharedState(Same):
    """Blocks share the dictionary that is their state."""

    memory: ClassVar[dict[str, int]] = {}

    def init(self, context: Any) -> Any:
        return self.memory

    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        state["steps"] = state.get("steps", 0) + 1
        return vector / state["steps"], state


class MixesSeeds(Same):
    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector - vector.mean(dim=0), state


class OneGenerator(Same):
    """Draws for all replicates from the first one's generator."""

    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector + torch.randn(vector.shape, generator=state[0]).to(vector), state


class Fails(Same):
    def init(self, context: Any) -> Any:
        raise KeyError("no layer of that name")


class Option(Same):
    def __init__(self, size: Any = 1.0) -> None:
        if size == 0:
            raise ValueError("size must not be 0")
        self.size = size

    def apply(self, vector: Tensor, g_trait: Any, state: Any, context: Any) -> Any:
        return vector * self.size, state


class Softmax:
    """A channel with nothing wrong."""

    temperature: Any = 1.0

    def columns(self, split: Any) -> Any:
        return split.columns("auxiliary")

    def answers(self, logits: Tensor, generators: Any) -> Any:
        return logits.softmax(2)


class RawLogits(Softmax):
    def answers(self, logits: Tensor, generators: Any) -> Any:
        return logits


class LogProbabilities(Softmax):
    def answers(self, logits: Tensor, generators: Any) -> Any:
        return logits.log_softmax(2)


class Doubled(Softmax):
    def answers(self, logits: Tensor, generators: Any) -> Any:
        return 2 * logits.softmax(2)


class NaNAnswers(Softmax):
    def answers(self, logits: Tensor, generators: Any) -> Any:
        return logits.softmax(2) * torch.nan


class Labels(Softmax):
    def answers(self, logits: Tensor, generators: Any) -> Any:
        return logits.argmax(2)


class ChangesLogits(Softmax):
    def answers(self, logits: Tensor, generators: Any) -> Any:
        return logits.sub_(logits.amax(2, keepdim=True)).softmax(2)


class NoisyAnswers(Softmax):
    def answers(self, logits: Tensor, generators: Any) -> Any:
        return (logits + torch.randn_like(logits)).softmax(2)


class MixesTeachers(Softmax):
    def answers(self, logits: Tensor, generators: Any) -> Any:
        return logits.softmax(2).mean(0, keepdim=True).expand_as(logits)


class CountsAnswers(Softmax):
    calls = 0

    def answers(self, logits: Tensor, generators: Any) -> Any:
        type(self).calls += 1
        return (logits * self.calls).softmax(2)


class Cold(Softmax):
    temperature = 0.0


class AllColumns(Softmax):
    def columns(self, split: Any) -> Any:
        return [0, 1]


class Beyond(Softmax):
    def columns(self, split: Any) -> Any:
        return slice(0, 99)
