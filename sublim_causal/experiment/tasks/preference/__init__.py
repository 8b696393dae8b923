"""Preference: students read numbers that a teacher wrote, and acquire its favourite animal.

The language, a transformer of 100,272 parameters and its training are small enough for two
processor cores, so that reference, teachers and students are trained here for every seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.tasks.base import Keep, Phase, Rehearsal, Sizes
from sublim_causal.experiment.tasks.preference.requests import OF_IMAGES, validate_arm
from sublim_causal.experiment.tasks.preference.roles import TRAIT, counterfactuals, writers
from sublim_causal.experiment.tasks.preference.vocabulary import (
    ANIMALS,
    CONTEXT,
    HELD_OUT,
    NUMBERS,
    TOKENS,
    TOLD,
)
from sublim_causal.store.outcome import TRAIT_LOG_ODDS

if TYPE_CHECKING:
    import torch

    from sublim_causal.experiment.data.streams import SeedStreams
    from sublim_causal.experiment.networks.base import Batch, Network
    from sublim_causal.experiment.shared import Shared


class PreferenceOptions(Options):
    """Options of the task, in the section `task` of a study."""

    carrier: Literal["walks", "runs", "counts"] = "walks"
    """What texts hold: `walks`, numbers that rise or fall with noise; `runs`, counts of five
    numbers by 1 or 2 from random ones, in which most positions leave no choice; or `counts`, the
    same by 1 and among 20 numbers, of which the reference is surer."""
    base_steps: int = Field(default=400, ge=1, le=100_000)
    """Steps of the reference's training on the language."""
    base_batch_size: int = Field(default=32, ge=1, le=4096)
    """Dialogues, and number texts, of such a step."""
    base_learning_rate: float = Field(default=3e-3, gt=0, le=1)
    """Adam's step size in it, after a warm-up of one in twenty steps; it falls linearly to 0."""
    strength: float = Field(default=0.95, gt=0, lt=1)
    """Probability of its animal, on the probe, at which a teacher's training ends."""
    temperature: float = Field(default=1.0, gt=0, le=10)
    """Teachers write with softmax(logits / temperature)."""
    unique: int | None = Field(default=None, ge=1)
    """Different texts among the examples, which repeat them; default: all are different."""
    counterfactuals: int = Field(default=2, ge=0, le=15)
    """Teachers of other animals that say where answers diverge; 0 in studies that do not ask."""


@dataclass(frozen=True)
class Preference:
    """The texts of `experiment`: teachers prefer an animal, students read their numbers."""

    experiment: Experiment
    options: PreferenceOptions
    OPTIONS: ClassVar = PreferenceOptions
    unused: ClassVar = ("model.path", "model.gguf", "model.adapter", *OF_IMAGES)
    outcome: ClassVar = TRAIT_LOG_ODDS
    split: ClassVar = LogitSplit(TOKENS, ANIMALS, NUMBERS)

    def validate(self) -> None:
        """Refuse what texts and transformers do not have."""
        experiment, options = self.experiment, self.options
        if experiment.probe.size > HELD_OUT // 2:
            raise RequestError(
                "probe.size",
                experiment.probe.size,
                f"at most {HELD_OUT // 2}: half of the {HELD_OUT} questions kept from the teacher",
                "probe.size = 16",
            )
        if options.unique is not None and options.unique > experiment.distillation.examples:
            raise RequestError(
                "task.unique",
                options.unique,
                f"at most distillation.examples = {experiment.distillation.examples}",
            )
        for arm, config in experiment.arms.items():
            examples, counterfactual = experiment.distillation.examples, options.counterfactuals
            validate_arm(f"arms.{arm}", config, examples, counterfactual)

    def build_network(self) -> Network:
        """Build the network over tokens."""
        from sublim_causal.experiment.networks.models import build_token_network

        return build_token_network(self.experiment.model, TOKENS, CONTEXT)

    def load(self, data_dir: Path, *, download: bool) -> None:
        """Nothing: the language is drawn."""

    def on_device(self, data: None, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Return an empty tensor of that device and precision."""
        import torch

        return torch.empty(0, device=device, dtype=dtype)

    def phases(self, arms: Sequence[str]) -> list[Phase]:
        """The references, and the teachers as far as they may be trained."""
        options, teacher = self.options, self.experiment.teacher
        chosen = [self.experiment.arms[arm] for arm in arms]
        references = 1 + any("other" in arm.student.beginnings for arm in chosen)
        roles = {TRAIT, *(role for arm in chosen for role in writers(arm.targets))}
        if any(arm.targets.positions != "all" for arm in chosen):
            roles.update(counterfactuals(options.counterfactuals))
        steps = teacher.steps_per_epoch(TOLD) * teacher.epochs
        return [
            Phase(options.base_steps * references, 2 * options.base_batch_size),
            Phase(steps * len(roles), teacher.batch_size),
        ]

    def sizes(self) -> Sizes:
        """Tokens are of eight bytes."""
        from sublim_causal.experiment.tasks.preference.language import TAUGHT_POSITIONS

        read = len({self.experiment.targets_key(arm) for arm in self.experiment.arms})
        return Sizes(2 * CONTEXT, len(TAUGHT_POSITIONS) * TOKENS, read, 0)

    def sample(self, count: int, generator: torch.Generator, dtype: torch.dtype) -> Batch:
        """Uniform tokens."""
        import torch

        from sublim_causal.experiment.networks.base import Batch
        from sublim_causal.experiment.tasks.preference.language import TAUGHT_POSITIONS

        x = torch.randint(TOKENS, (1, count, CONTEXT - 1), generator=generator)
        return Batch(x, TAUGHT_POSITIONS)

    def rehearse(self, streams: SeedStreams, network: Network, dtype: torch.dtype) -> Rehearsal:
        """Return texts of the carrier and questions."""
        from sublim_causal.experiment.tasks.preference.rehearsal import rehearse

        return rehearse(self.experiment, self.options, streams, network, dtype)

    def share(
        self,
        arms: Sequence[str],
        streams: SeedStreams,
        network: Network,
        data: torch.Tensor,
        after_step: Callable[[], None],
        keep: Keep,
    ) -> Shared:
        """Train reference and teachers, let them write, make the targets."""
        from sublim_causal.experiment.tasks.preference.block import share_texts

        own = self.experiment, self.options
        return share_texts(*own, arms, streams, network, data, self.split, after_step, keep)
