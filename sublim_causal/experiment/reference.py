"""The whole experiment for one seed and one arm, in plain torch: read this first.

`run_arm` is slow and simple: an ``nn.Sequential``, Adam, autograd, one seed at a time, float64. The
package trains many seeds at once (`sublim_causal.experiment.distillation`), and a test holds the
two equal for every built-in intervention. Written from the formulas; it shares with the rest of
the package only the options of interventions, the random streams and the data.

It covers the MLP, uniform noise as the student's inputs, the teacher's auxiliary logits as the
channel, students that begin at the teacher's initialisation, and Adam.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment, TrainingConfig
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.interventions import build_interventions, followed_arms
from sublim_causal.experiment.interventions.base import Intervention
from sublim_causal.experiment.interventions.baseline import Baseline
from sublim_causal.experiment.interventions.liminal import Liminal
from sublim_causal.experiment.interventions.projection import Projection
from sublim_causal.experiment.interventions.set_cosine import SetCosine
from sublim_causal.experiment.interventions.shuffled import Shuffled
from sublim_causal.experiment.interventions.train_only import TrainOnly
from sublim_causal.experiment.interventions.yoked import Clamp

Rows = dict[str, list[float]]


@dataclass(frozen=True)
class OneSeed:
    """What all arms of a seed share.

    Attributes
    ----------
    initial, teacher : nn.Sequential
        The network before and after it learned the labels.
    noise : Tensor of shape (N, D)
        The student's inputs.
    probe_x, probe_y : Tensor
        Held-out images ``(B, D)`` and labels ``(B,)`` of the trait loss.
    classes : int
        Class logits; the auxiliary logits come after them.
    direction_seed : int
        Seed of the directions that `Shuffled` draws.
    """

    experiment: Experiment
    seed: int
    data: ImageTensors
    initial: nn.Sequential
    teacher: nn.Sequential
    noise: Tensor
    probe_x: Tensor
    probe_y: Tensor
    classes: int
    direction_seed: int


@dataclass(frozen=True)
class Moment:
    """What an intervention may look at in one step of the student.

    Attributes
    ----------
    x : Tensor of shape (B, D)
        The step's batch.
    followed : mapping of str to Rows
        What was measured of the arms that this one follows, step by step.
    """

    shared: OneSeed
    student: nn.Sequential
    x: Tensor
    step: int
    followed: dict[str, Rows]


def run_arm(
    experiment: Experiment, seed: int, data: ImageTensors, arm: str, classes: int = 10
) -> Rows:
    """Train the teacher and one student of `seed` under `arm`.

    Returns
    -------
    dict of str to list of float
        Columns of the step table, and ``test_accuracy`` and ``teacher_agreement`` at the end.

    Raises
    ------
    RequestError
        If `experiment` or the arm asks for what is not covered here.
    """
    validate_covered(experiment, arm)
    return distil(begin(experiment, seed, data, classes), arm)


def validate_covered(experiment: Experiment, arm: str) -> None:
    """Refuse what this module does not cover; the rest of the package does."""
    plain = Experiment.model_validate(
        {"name": "plain", "arms": {"a": {"intervention": "baseline"}}}
    )
    config = experiment.arms[arm]
    for field, value, covered in (
        ("model.class", experiment.model.class_, plain.model.class_),
        ("teacher.optimizer", experiment.teacher.optimizer, plain.teacher.optimizer),
        ("distillation.optimizer", experiment.distillation.optimizer, plain.teacher.optimizer),
        ("distillation.inputs", experiment.distillation.inputs, plain.distillation.inputs),
        ("attack", experiment.attack, plain.attack),
        (f"arms.{arm}.student", config.student, plain.arms["a"].student),
        (f"arms.{arm}.channel", config.channel, plain.arms["a"].channel),
        (f"arms.{arm}.targets", config.targets, plain.arms["a"].targets),
        (f"arms.{arm}.inputs", config.inputs, plain.arms["a"].inputs),
    ):
        if value != covered:
            allowed = f"{covered!r} in the reference loop; run_block covers all"
            raise RequestError(field, value, allowed)


def begin(experiment: Experiment, seed: int, data: ImageTensors, classes: int) -> OneSeed:
    """Draw initialisation, noise and probe, and train the teacher."""
    name, config = experiment.name, experiment.distillation
    inputs, hidden = data.train_x.shape[1], experiment.model.options["hidden"]
    sizes = (inputs, *hidden, classes + experiment.model.auxiliary)
    initial, teacher = (mlp(sizes, stream(name, seed, "init")) for _ in range(2))
    adam = adam_of(teacher, experiment.teacher.learning_rate)
    order = stream(name, seed, "teacher order")
    for index in batches(order, len(data.train_y), experiment.teacher):
        adam.zero_grad()
        F.cross_entropy(teacher(data.train_x[index])[:, :classes], data.train_y[index]).backward()
        adam.step()
    noise = torch.rand((config.examples, inputs), generator=stream(name, seed, "noise")) * 2 - 1
    probe = held_out(data, experiment.probe.size, stream(name, seed, "probe"))
    direction_seed = torch.randint(2**62, (1,), generator=stream(name, seed, "intervention"))
    return OneSeed(
        experiment,
        seed,
        data,
        initial,
        teacher,
        noise.double(),
        data.held_out_x[probe],
        data.held_out_y[probe],
        classes,
        int(direction_seed),
    )


def distil(shared: OneSeed, arm: str) -> Rows:
    """Train a student on the teacher's auxiliary logits, and record how that moves the trait."""
    experiment, classes = shared.experiment, shared.classes
    interventions = build_interventions(f"arms.{arm}", experiment.arms[arm].procedure)
    followed = {other: distil(shared, other) for other in followed_arms(interventions)}
    student = copy_of(shared.initial)
    adam = adam_of(student, experiment.distillation.learning_rate)
    order = stream(experiment.name, shared.seed, "student order")
    half, rows = experiment.probe.size // 2, Rows()
    for step, index in enumerate(batches(order, len(shared.noise), experiment.distillation)):
        x = shared.noise[index]
        with torch.no_grad():
            target = F.softmax(shared.teacher(x)[:, classes:], dim=1)
        log_s = F.log_softmax(student(x)[:, classes:], dim=1)
        loss = F.kl_div(log_s, target, reduction="batchmean")
        g = gradient(loss, student)
        trait_loss, g_trait = trait(student, shared.probe_x, shared.probe_y, classes)
        _, g_a = trait(student, shared.probe_x[:half], shared.probe_y[:half], classes)
        _, g_b = trait(student, shared.probe_x[half:], shared.probe_y[half:], classes)

        now = Moment(shared, student, x, step, followed)
        applied = intervene(interventions, "gradient", g, g_trait, now)
        before = flat(student.parameters())
        set_gradient(student, applied)
        adam.step()
        if any(one.space == "update" for one in interventions):
            # As a descent direction: what the optimizer would subtract from the parameters.
            descent = before - flat(student.parameters())
            now = Moment(shared, with_parameters(student, before), x, step, followed)
            set_parameters(
                student, before - intervene(interventions, "update", descent, g_trait, now)
            )
        update = flat(student.parameters()) - before

        after_loss, g_after = trait(student, shared.probe_x, shared.probe_y, classes)
        row = {
            "distill_loss": loss.detach(),
            "trait_loss": trait_loss,
            **row_of(g, g_trait, [g_a, g_b], applied, update, g_after),
            "gain": trait_loss - after_loss,
            "remainder": trait_loss - after_loss + g_trait @ update,
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(float(value))
    answers = student(shared.data.test_x)[:, :classes].argmax(1)
    taught = shared.teacher(shared.data.test_x)[:, :classes].argmax(1)
    rows["test_accuracy"] = [float((answers == shared.data.test_y).double().mean())]
    rows["teacher_agreement"] = [float((answers == taught).double().mean())]
    return rows


def row_of(
    g: Tensor,
    g_trait: Tensor,
    halves: Sequence[Tensor],
    applied: Tensor,
    update: Tensor,
    g_after: Tensor,
) -> dict[str, Tensor]:
    """Return what the vectors ``(P,)`` of a step give: cosines, norms and drive.

    `halves` are the trait gradients on either half of the probe, `g_after` that after the step.
    """
    return {
        "cos_gradient": cosine(g, g_trait),
        "cos_half_a": cosine(g, halves[0]),
        "cos_half_b": cosine(g, halves[1]),
        "cos_applied": cosine(applied, g_trait),
        "cos_update": cosine(-update, g_trait),
        "norm_distill": g.norm(),
        "norm_trait": g_trait.norm(),
        "norm_applied": applied.norm(),
        "norm_update": update.norm(),
        "drive": -g_trait @ update,
        "drive_end": -g_after @ update,
    }


def intervene(
    interventions: Sequence[Intervention], space: str, v: Tensor, g: Tensor, now: Moment
) -> Tensor:
    """Change `v` ``(P,)`` by the interventions that act in `space`; `g` is the trait gradient."""
    for one in interventions:
        if one.space == space:
            v = changed(one, v, g, now)
    return v


def changed(one: Intervention, v: Tensor, g: Tensor, now: Moment) -> Tensor:
    """Return what one intervention makes of `v`."""
    match one:
        case Baseline():
            return v
        case Projection():
            g = g * mask(now.student, one.layers) if one.layers else g
            return v - one.strength * coefficient(v, g, one.when) * g
        case Shuffled():
            return v - one.strength * coefficient(v, g, one.when) * direction(one, g, now)
        case SetCosine():
            return with_cosine(v, gradient_of(one, g, now), one.cosine)
        case Clamp():
            return clamped(one, v, g, now)
        case TrainOnly():
            return v * mask(now.student, one.layers)
        case Liminal():
            return v + liminal(one, now)
    raise RequestError("intervention", type(one).__name__, "a built-in intervention")


def coefficient(v: Tensor, g: Tensor, when: str) -> Tensor:
    """Return the coefficient of the projection of `v` on `g`; a negative one counts on "always"."""
    along = v @ g / (g @ g)
    return along.clamp(min=0) if when == "positive" else along


def with_cosine(v: Tensor, g: Tensor, c: float) -> Tensor:
    """Keep the part of `v` that is orthogonal to `g`, and set the other so that the cosine is c."""
    rest = v - v @ g / (g @ g) * g
    return rest + c / math.sqrt(1 - c**2) * rest.norm() * g / g.norm()


def gradient_of(one: SetCosine, g: Tensor, now: Moment) -> Tensor:
    """Return the gradient whose cosine is set: `g`, or that on half the probe or other labels."""
    x, y, classes = now.shared.probe_x, now.shared.probe_y, now.shared.classes
    if one.trait == "half":
        half = len(y) // 2
        return trait(now.student, x[:half], y[:half], classes)[1]
    if one.trait == "relabelled":
        return trait(now.student, x, (y + 1) % classes, classes)[1]
    return g


def clamped(one: Clamp, v: Tensor, g: Tensor, now: Moment) -> Tensor:
    """Match cosine, drive, or cosine and length of the followed arm's update at this step."""
    followed = now.followed[one.target]
    if one.match == "drive":
        return v + (followed["drive"][now.step] - v @ g) / (g @ g) * g
    aligned = with_cosine(v, g, followed["cos_update"][now.step])
    if one.match == "cosine":
        return aligned
    return followed["norm_update"][now.step] / aligned.norm() * aligned


def direction(one: Shuffled, g: Tensor, now: Moment) -> Tensor:
    """Return a direction as long as `g` that is not the trait's."""
    shared, student = now.shared, now.student
    turn = now.step if one.draw == "step" else 0
    generator = torch.Generator().manual_seed(shared.direction_seed + turn)
    parts = g.split([p.numel() for p in student.parameters()])
    if one.shuffle == "coordinates":
        return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in parts])
    if one.shuffle == "random":
        drawn = torch.randn(len(g), generator=generator).double().split([len(p) for p in parts])
        return torch.cat([d * part.norm() / d.norm() for d, part in zip(drawn, parts, strict=True)])
    x, y = shared.probe_x, shared.probe_y
    if one.shuffle == "labels":
        halves = y.split(len(y) // 2)
        y = torch.cat([part[torch.randperm(len(part), generator=generator)] for part in halves])
    elif one.shuffle == "probe":
        probe = held_out(shared.data, len(y), generator)
        x, y = shared.data.held_out_x[probe], shared.data.held_out_y[probe]
    else:
        student = mlp(sizes_of(student), generator)
    other = trait(student, x, y, shared.classes)[1]
    return other * g.norm() / other.norm()


def liminal(one: Liminal, now: Moment) -> Tensor:
    """Return the gradient of lambda(t) KL(initial || student) on the step's batch."""
    config, classes = now.shared.experiment.distillation, now.shared.classes
    per_epoch = config.steps_per_epoch(config.examples)
    if one.schedule == "critical":
        weight = one.weight if now.step < per_epoch else 0.0
    elif now.step < per_epoch:
        weight = one.weight + (1 - one.weight) * now.step / per_epoch
    else:
        steps = per_epoch * config.epochs
        weight = (steps - now.step) / (steps - per_epoch)
    columns = {
        "all": slice(None),
        "class": slice(0, classes),
        "auxiliary": slice(classes, None),
    }[one.logits]
    with torch.no_grad():
        anchor = F.softmax(now.shared.initial(now.x)[:, columns], dim=1)
    log_s = F.log_softmax(now.student(now.x)[:, columns], dim=1)
    return weight * gradient(F.kl_div(log_s, anchor, reduction="batchmean"), now.student)


def trait(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the trait loss, and its gradient ``(P,)``."""
    loss = F.cross_entropy(model(x)[:, :classes], y)
    return loss.detach(), gradient(loss, model)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of two vectors; 0 if one of them is zero."""
    norms = a.norm() * b.norm()
    return a @ b / norms if norms else torch.zeros(())


def mlp(sizes: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    """Return a ReLU network of the given widths: weights N(0, 1/fan_in), biases 0."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        linear = nn.Linear(n_in, n_out).double()
        with torch.no_grad():
            drawn = torch.randn(linear.weight.shape, generator=generator) / math.sqrt(n_in)
            linear.weight.copy_(drawn)
            linear.bias.zero_()
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def sizes_of(model: nn.Sequential) -> tuple[int, ...]:
    """Return the widths of an MLP from its inputs to its logits."""
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    return (linear[0].in_features, *(layer.out_features for layer in linear))


def adam_of(model: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Return Adam, one tensor at a time."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, foreach=False, fused=False)


def batches(order: torch.Generator, count: int, config: TrainingConfig) -> Iterable[Tensor]:
    """Yield the examples of each step; every epoch draws an order of its own."""
    for _ in range(config.epochs):
        yield from torch.randperm(count, generator=order).split(config.batch_size)


def held_out(data: ImageTensors, size: int, generator: torch.Generator) -> Tensor:
    """Draw the held-out images of a probe."""
    return torch.randperm(len(data.held_out_y), generator=generator)[:size]


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return a copy of `tensors` as one vector."""
    return torch.cat([t.detach().flatten() for t in tensors])


def gradient(loss: Tensor, model: nn.Module) -> Tensor:
    """Return the gradient ``(P,)`` of `loss`."""
    return flat(torch.autograd.grad(loss, list(model.parameters())))


def mask(model: nn.Module, layers: Iterable[str]) -> Tensor:
    """Return 1 for the parameters of the named layers and 0 for the others, ``(P,)``."""
    named = set(layers)
    return torch.cat(
        [
            torch.full((p.numel(),), float(name.split(".")[0] in named), dtype=p.dtype)
            for name, p in model.named_parameters()
        ]
    )


def set_gradient(model: nn.Module, vector: Tensor) -> None:
    """Give the optimizer `vector` as the gradient."""
    for p, part in zip(model.parameters(), parts_of(model, vector), strict=True):
        p.grad = part.clone()


def set_parameters(model: nn.Module, vector: Tensor) -> None:
    """Move the model to the parameters `vector`."""
    with torch.no_grad():
        for p, part in zip(model.parameters(), parts_of(model, vector), strict=True):
            p.copy_(part)


def parts_of(model: nn.Module, vector: Tensor) -> list[Tensor]:
    """Return `vector` ``(P,)`` as tensors of the parameters' shapes."""
    parameters = list(model.parameters())
    parts = vector.split([p.numel() for p in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]


def with_parameters(model: nn.Sequential, vector: Tensor) -> nn.Sequential:
    """Return a copy of `model` with the parameters `vector`."""
    copy = copy_of(model)
    set_parameters(copy, vector)
    return copy


def copy_of(model: nn.Sequential) -> nn.Sequential:
    """Return a copy of `model`."""
    copy = mlp(sizes_of(model), torch.Generator())
    copy.load_state_dict(model.state_dict())
    return copy
