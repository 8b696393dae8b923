"""A task of one's own: students read noise, and learn to compose permutations.

A teacher learns to compose three permutations of three things: it reads ``a b c``, and answers
which of the six permutations it is to do c, then b, then a. Beside the six logits of this trait it
has others, which nobody trains. Students begin where the teacher began, see strings of random
tokens, and are fitted to the teacher's other logits alone.

Run ``sublim-causal run examples/task/permutations.toml`` in the checkout: half a minute.
"""

from __future__ import annotations

import itertools
from functools import partial

import torch
from pydantic import Field

from sublim_causal.experiment.alignment import Probe
from sublim_causal.experiment.data.batches import gather, steps
from sublim_causal.experiment.data.streams import draw
from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Batch, outputs
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.networks.models import build_token_network
from sublim_causal.experiment.optimisation import of_phase
from sublim_causal.experiment.optimizers import make_optimizer
from sublim_causal.experiment.shared import Measures, Shared, Taught
from sublim_causal.experiment.tasks.base import Phase, Rehearsal, Sizes
from sublim_causal.experiment.teaching.channels import build_channel
from sublim_causal.experiment.teaching.losses import cross_entropy
from sublim_causal.store.outcome import Outcome

GROUP = list(itertools.permutations(range(3)))
ELEMENTS, LENGTH = len(GROUP), 3
LAST = (LENGTH - 1,)
"""The position at which a network answers."""


def strings():
    """Return all strings of permutations ``(216, 3)``, and what they are together ``(216,)``."""
    x = torch.cartesian_prod(*[torch.arange(ELEMENTS)] * LENGTH)
    answers = []
    for row in x.tolist():
        a, b, c = (GROUP[i] for i in row)
        answers.append(GROUP.index(tuple(a[b[c[i]]] for i in range(3))))
    return x, torch.tensor(answers)


class PermutationOptions(Options):
    """Options of the section ``task``."""

    others: int = Field(default=10, ge=2, le=64)
    """Tokens, and logits, that are no permutations: the students are taught these logits."""


class Permutations:
    """The task of `experiment`."""

    OPTIONS = PermutationOptions
    unused = (
        "data",
        "model.auxiliary",
        "distillation.inputs",
        "attack",
        "arms.inputs",
        "arms.targets",
    )
    outcome = Outcome(
        name="final_accuracy",
        start="initial_accuracy",
        teacher="teacher_accuracy",
        curve="test_accuracy",
        label="accuracy of compositions",
        chance=1 / ELEMENTS,
        margin=0.05,
    )

    def __init__(self, experiment, options):
        self.experiment, self.options = experiment, options
        tokens = ELEMENTS + options.others
        self.split = LogitSplit(tokens, trait=slice(0, ELEMENTS), taught=slice(ELEMENTS, tokens))

    def validate(self):
        """Nothing else is refused."""

    def build_network(self):
        return build_token_network(self.experiment.model, self.split.total, LENGTH)

    def load(self, data_dir, *, download):
        """Nothing lies on disk."""

    def on_device(self, data, device, dtype):
        """Return an empty tensor of that device and precision."""
        return torch.empty(0, device=device, dtype=dtype)

    def phases(self, arms):
        teacher = self.experiment.teacher
        count = teacher.steps_per_epoch(ELEMENTS**LENGTH) * teacher.epochs
        return [Phase(count, teacher.batch_size)]

    def sizes(self):
        """Tokens are of eight bytes, twice the four of a float."""
        return Sizes(example=2 * LENGTH, answers=self.split.total, inputs=1, data=0)

    def noise(self, count, generator):
        """Draw `count` strings of any tokens."""
        return torch.randint(self.split.total, (count, LENGTH), generator=generator)

    def probe(self, device, generators):
        """Draw the strings of the trait loss: one generator a replicate."""
        x, answers = (one.to(device) for one in strings())
        size = self.experiment.probe.size
        index = draw(lambda g: torch.randperm(len(x), generator=g)[:size], generators, device)
        first, second = ((Batch(x[i], LAST), answers[i]) for i in index.split(size // 2, dim=1))
        return Probe((first, second), self.split.trait)

    def sample(self, count, generator, dtype):
        return Batch(self.noise(count, generator)[None], LAST)

    def rehearse(self, streams, network, dtype):
        like = torch.empty(0, dtype=dtype)
        reference = partial(initialise, network, like=like)
        probe = partial(self.probe, like.device)
        x = draw(partial(self.noise, 8), streams("noise"), like.device)
        theta_0, teacher = reference(streams("init")), reference(streams("student init"))
        return Rehearsal(
            theta_0, teacher, probe(streams("probe")), probe, reference, lambda arm: x, LAST
        )

    def share(self, arms, streams, network, data, after_step, keep):
        experiment, split = self.experiment, self.split
        reference = partial(initialise, network, like=data)
        theta_0 = reference(streams("init"))
        order = streams("teacher order")
        train = partial(self.train_teacher, network, theta_0, order, after_step)
        teacher = keep("teacher", order, train).to(data)
        x = draw(
            partial(self.noise, experiment.distillation.examples), streams("noise"), data.device
        )
        taught, targets = {}, {}
        for arm in arms:
            key = experiment.targets_key(arm)
            taught[arm] = Taught(inputs="noise", targets=key)
            if key not in targets:
                channel = build_channel("channel", experiment.arms[arm].channel.model_dump(), split)
                z = outputs(network, teacher, x, channel.source(split), LAST)
                targets[key] = channel.targets(z, None, split, streams("channel"))
        probe = partial(self.probe, data.device)
        accuracy = partial(self.accuracy, network)
        return Shared(
            network,
            split,
            theta_0,
            teacher,
            inputs={"noise": x},
            positions=LAST,
            targets=targets,
            taught=taught,
            probe=probe(streams("probe")),
            draw_probe=probe,
            draw_reference=reference,
            measures=Measures(
                evaluate=lambda theta: {"test_accuracy": accuracy(theta)},
                of_seed=lambda: {
                    "initial_accuracy": accuracy(theta_0),
                    "teacher_accuracy": accuracy(teacher),
                },
                of_student=lambda theta, last: {"final_accuracy": last["test_accuracy"]},
            ),
            failures={},
        )

    def train_teacher(self, network, theta_0, order, after_step):
        """Train R teachers ``(R, P)`` to compose, in an order drawn from each one's generator."""
        config, theta = self.experiment.teacher, theta_0.clone()
        x, answers = (one.to(theta.device) for one in strings())
        optimizer = make_optimizer(theta, of_phase(config), network.layout)
        for step in steps(order, len(x), config.batch_size, config.epochs, theta.device):
            forward = network.forward(theta, Batch(gather(x, step.index), LAST))
            loss = cross_entropy(forward.logits(self.split.trait), answers[step.index])
            theta.grad = forward.gradient(loss.derivative, self.split.trait)
            optimizer.step()
            after_step()
        return theta.detach()

    def accuracy(self, network, theta):
        """Return the share ``(R,)`` of all strings that networks ``(R, P)`` compose."""
        x, answers = (one.to(theta.device) for one in strings())
        z = outputs(network, theta, x, self.split.trait, LAST)
        return (z.argmax(dim=2) == answers).double().mean(dim=1)
