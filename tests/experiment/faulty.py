"""Interventions and channels of a user's own, nearly all of which break their contract."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor


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
