"""Preference: students read numbers that a teacher wrote, and acquire its favourite animal.

The language, a transformer of 100,272 parameters and its training are small enough for two
processor cores, so that reference, teachers and students are trained here for every seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.tasks.base import Keep, Phase, Rehearsal, Sizes
from sublim_causal.experiment.tasks.preference.vocabulary import (
    ANIMALS,
    CONTEXT,
    HELD_OUT,
    NUMBERS,
    TOKENS,
    TOLD,
)
from sublim_causal.store.outcome import Outcome

if TYPE_CHECKING:
    import torch

    from sublim_causal.experiment.data.streams import SeedStreams
    from sublim_causal.experiment.networks.base import Batch, Network
    from sublim_causal.experiment.shared import Shared

CHANNELS = ("soft", "hard", "sampled")
"""Channels of logits whose answers texts have; `sampled` is the next token of the text."""


class PreferenceOptions(Options):
    """Options of the task, in the section `task` of a study."""

    carrier: Literal["walks", "runs"] = "walks"
    """What texts hold: `walks`, numbers that rise or fall with noise, or `runs`, counts of five
    numbers from random ones, in which most positions leave no choice."""
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
    counterfactuals: int = Field(default=2, ge=1, le=15)
    """Teachers of other animals that say where answers diverge."""


def tables_of(value: Mapping[str, Any] | Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a table and those within it: the parts of a compound intervention."""
    if isinstance(value, Mapping):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value:
        if isinstance(inner, Mapping | list | tuple):
            yield from tables_of(inner)


@dataclass(frozen=True)
class Preference:
    """The texts of `experiment`: teachers prefer an animal, students read their numbers."""

    experiment: Experiment
    options: PreferenceOptions
    OPTIONS: ClassVar = PreferenceOptions
    unused: ClassVar = (
        "data",
        "model.auxiliary",
        "distillation.inputs",
        "attack",
        "arms.inputs",
        "arms.targets.teachers",
        "arms.targets.teacher_input_noise",
        "arms.targets.images",
    )
    outcome: ClassVar = Outcome(
        name="trait_log_odds",
        start="initial_trait_log_odds",
        teacher="teacher_trait_log_odds",
        curve="trait_log_odds",
        label="log-odds of the trait",
        chance=0.0,
        margin=0.2,
    )
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
            if config.channel.name not in CHANNELS:
                raise RequestError(
                    f"arms.{arm}.channel.name",
                    config.channel.name,
                    f"{', '.join(CHANNELS)}: the answers that texts have",
                )
            for table in tables_of(config.procedure):
                shuffle = table.get("shuffle")
                if table.get("intervention") == "shuffled" and shuffle in ("labels", "network"):
                    raise RequestError(
                        f"arms.{arm}.shuffle",
                        shuffle,
                        "coordinates, random or probe: all labels of a probe are the same animal, "
                        "and another network is trained for minutes",
                    )
            if config.student.initialisation == "perturbed":
                raise RequestError(
                    f"arms.{arm}.student.initialisation",
                    "perturbed",
                    "shared or other: noise on a trained reference has no natural scale",
                )

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
        references = 1 + any(arm.student.initialisation == "other" for arm in chosen)
        teachers = len({"trait", *(arm.targets.teacher for arm in chosen)})
        if any(arm.targets.positions != "all" for arm in chosen):
            teachers += options.counterfactuals
        steps = teacher.steps_per_epoch(TOLD) * teacher.epochs
        return [
            Phase(options.base_steps * references, 2 * options.base_batch_size),
            Phase(steps * teachers, teacher.batch_size),
        ]

    def sizes(self) -> Sizes:
        """Tokens are of eight bytes."""
        from sublim_causal.experiment.tasks.preference.language import TAUGHT_POSITIONS

        teachers = len({arm.targets.teacher for arm in self.experiment.arms.values()})
        return Sizes(2 * CONTEXT, len(TAUGHT_POSITIONS) * TOKENS, teachers, 0)

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

        return share_texts(
            self.experiment,
            self.options,
            arms,
            streams,
            network,
            data,
            self.split,
            after_step,
            keep,
        )
