"""Images: students see noise, and acquire the classes of real images (Cloud et al. 2025)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment, Teaching
from sublim_causal.experiment.data.sources import (
    SOURCES,
    ImageData,
    division,
    load_images,
    to_tensors,
    validate_data,
)
from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.logits import LogitSplit, of_classes
from sublim_causal.experiment.tasks.base import Keep, Phase, Rehearsal, Sizes
from sublim_causal.store.outcome import ACCURACY

if TYPE_CHECKING:
    import torch

    from sublim_causal.experiment.data.sources import ImageTensors
    from sublim_causal.experiment.data.streams import SeedStreams
    from sublim_causal.experiment.networks.base import Batch, Network
    from sublim_causal.experiment.shared import Shared


@dataclass(frozen=True)
class Images:
    """The images of `experiment`: teachers learn their classes, students their auxiliary logits."""

    experiment: Experiment
    options: Options
    OPTIONS: ClassVar = Options
    unused: ClassVar = (
        "model.path",
        "model.gguf",
        "model.adapter",
        "measure.texts",
        "arms.targets.teacher",
        "arms.targets.strength",
        "arms.targets.material",
        "arms.targets.positions",
        "arms.targets.texts",
        "arms.targets.paraphrase",
    )
    outcome: ClassVar = ACCURACY

    @cached_property
    def split(self) -> LogitSplit:
        """The class logits, and the auxiliary ones after them."""
        return of_classes(
            SOURCES[self.experiment.data.name].classes, self.experiment.model.auxiliary
        )

    def validate(self) -> None:
        """Refuse sizes and inputs that the data sets cannot give."""
        validate_data(self.experiment)
        examples = self.experiment.distillation.examples
        for arm, config in self.experiment.arms.items():
            if (unique := config.targets.unique) is not None and unique > examples:
                allowed = f"at most distillation.examples = {examples}"
                raise RequestError(f"arms.{arm}.targets.unique", unique, allowed)

    def build_network(self) -> Network:
        """Build the network with a logit a class and the auxiliary ones."""
        from sublim_causal.experiment.networks.models import build_network

        source = SOURCES[self.experiment.data.name]
        return build_network(self.experiment.model, source.shape, source.classes)

    def load(self, data_dir: Path, *, download: bool) -> ImageData:
        """Load and divide the data set, and those that only students see."""
        others = self.experiment.other_data()
        return load_images(self.experiment.data, data_dir, others=others, download=download)

    def on_device(self, data: ImageData, device: torch.device, dtype: torch.dtype) -> ImageTensors:
        """Scale and flatten the images."""
        return to_tensors(data, device, dtype)

    def phases(self, arms: Sequence[str]) -> list[Phase]:
        """The teachers, which an attack makes slower."""
        experiment = self.experiment
        images = division(experiment.data).train
        trained: dict[Teaching, list[str]] = {experiment.teaching: []}
        for arm in arms:
            trained.setdefault(experiment.teaching_of(arm), []).append(arm)
        return [
            Phase(
                one.steps_per_epoch(images) * one.epochs * experiment.teachers_of(of_arms),
                one.batch_size,
                1 + (attack.steps if attack is not None else 0),
            )
            for (one, attack), of_arms in trained.items()
        ]

    def sizes(self) -> Sizes:
        """The images that students see, also those with noise, and the data sets."""
        experiment, source = self.experiment, SOURCES[self.experiment.data.name]
        pixels = math.prod(source.shape)
        inputs = len({experiment.inputs_of(arm) for arm in experiment.arms})
        inputs += any(arm.targets.teacher_input_noise for arm in experiment.arms.values())
        others = sum(SOURCES[name].images for name in experiment.other_data())
        images = source.images + source.test + others
        return Sizes(pixels, self.split.total, inputs, images * pixels)

    def sample(self, count: int, generator: torch.Generator, dtype: torch.dtype) -> Batch:
        """Uniform noise on [-1, 1]."""
        import torch

        from sublim_causal.experiment.networks.base import Batch

        pixels = math.prod(SOURCES[self.experiment.data.name].shape)
        return Batch(torch.rand((1, count, pixels), generator=generator).mul_(2).sub_(1).to(dtype))

    def rehearse(self, streams: SeedStreams, network: Network, dtype: torch.dtype) -> Rehearsal:
        """Return 16 images of noise for each part of the data."""
        from sublim_causal.experiment.tasks.images.rehearsal import rehearse

        return rehearse(self.experiment, streams, network, self.split, dtype)

    def share(
        self,
        arms: Sequence[str],
        streams: SeedStreams,
        network: Network,
        data: ImageTensors,
        after_step: Callable[[], None],
        keep: Keep,
    ) -> Shared:
        """Draw initialisation, inputs and probe, train the teachers, make the targets."""
        from sublim_causal.experiment.tasks.images.block import share_images

        return share_images(self.experiment, arms, streams, network, data, self.split, after_step)
