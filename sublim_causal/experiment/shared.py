"""What all arms of a block share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from sublim_causal.experiment.alignment import Probe, draw_probe
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.contracts import ArmError, ArmFailure
from sublim_causal.experiment.data.inputs import INPUTS
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import SeedStreams, draw
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Network, outputs
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.teaching.channels import build_channel
from sublim_causal.experiment.teaching.targets import Targets, make_targets
from sublim_causal.experiment.teaching.teachers import Teachers


@dataclass(frozen=True)
class Shared:
    """What all arms of a block share.

    Attributes
    ----------
    theta_0, teacher : Tensor of shape (R, P)
        The initialisation, and the first teacher.
    inputs : mapping of str to Tensor of shape (R, N, D)
        The students' inputs, by name.
    targets : mapping of str to Targets
        By the key that `Experiment.targets_key` gives.
    probe : Probe
    failures : mapping of str to ArmFailure
        What ended the making of targets, by their key.
    """

    network: Network
    split: LogitSplit
    theta_0: Tensor
    teacher: Tensor
    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Targets]
    probe: Probe
    failures: Mapping[str, ArmFailure]
    _initial_logits: dict[str, Tensor] = field(default_factory=dict, init=False)

    def initial_logits(self, inputs: str) -> Tensor:
        """Return the logits ``(R, N, K)`` of the initialisation on the named inputs."""
        known = self._initial_logits
        if inputs not in known:
            columns = self.split.columns("all")
            known[inputs] = outputs(self.network, self.theta_0, self.inputs[inputs], columns)
        return known[inputs]


def prepare_shared(
    experiment: Experiment,
    arms: Iterable[str],
    streams: SeedStreams,
    network: Network,
    data: ImageTensors,
    split: LogitSplit,
    after_step: Callable[[], None],
) -> Shared:
    """Draw initialisation, inputs and probe, train the teachers, make the targets of `arms`."""
    theta_0 = initialise(network, streams("init"), like=data.train_x)
    classes = split.columns("class")
    teachers = Teachers(experiment, network, theta_0, data, classes, streams, after_step)
    names = {experiment.targets_key(arm): arm for arm in arms}
    inputs: dict[str, Tensor] = {
        name: draw_inputs(name, experiment.distillation.examples, data, streams)
        for name in dict.fromkeys(map(experiment.inputs_of, names.values()))
    }
    targets: dict[str, Targets] = {}
    failures: dict[str, ArmFailure] = {}
    for key, arm in names.items():
        config = experiment.arms[arm]
        channel = build_channel("channel", config.channel.model_dump(), split)
        x = inputs[experiment.inputs_of(arm)]
        try:
            targets[key] = make_targets(config.targets, channel, teachers, x, split, streams)
        except ArmError as error:
            failures[key] = error.failure()
    probe = draw_probe(experiment.probe.size, data, classes, streams("probe"))
    return Shared(network, split, theta_0, teachers.parameters(), inputs, targets, probe, failures)


def draw_inputs(name: str, count: int, data: ImageTensors, streams: SeedStreams) -> Tensor:
    """Draw `count` inputs ``(R, count, D)`` of the named kind."""
    return draw(partial(INPUTS[name], count, data), streams("noise"), data.train_x.device)
