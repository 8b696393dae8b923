"""The experiment as one would first write it: one seed, nn.Module, Adam, autograd, DataLoader-free.

Written from the formulas alone; it shares nothing with the package but the random streams and the
initial parameters.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.sources import ImageTensors
from sublim_causal.experiment.data.streams import stream


def network(sizes: tuple[int, ...]) -> nn.Sequential:
    """ReLU network of the given widths."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def initialised(sizes: tuple[int, ...], experiment: Experiment, seed: int) -> nn.Sequential:
    """N(0, 1/fan_in) weights and zero biases from the seed's stream."""
    generator = stream(experiment.name, seed, "init")
    model = network(sizes).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.zero_()
            else:
                draw = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(draw / math.sqrt(parameter.shape[1]))
    return model


def flat(tensors: tuple[Tensor, ...]) -> Tensor:
    """Concatenate gradients."""
    return torch.cat([t.flatten() for t in tensors])


def optimizer(model: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Adam, one tensor at a time."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, foreach=False, fused=False)


def run_reference(
    experiment: Experiment, seed: int, data: ImageTensors, arm: str, classes: int = 10
) -> dict[str, list[float]]:
    """Train teacher and one student of `seed` under `arm`; return the recorded columns."""
    sizes = (data.train_x.shape[1], *experiment.model.options["hidden"], classes + 3)
    teacher, student, reference = (initialised(sizes, experiment, seed) for _ in range(3))
    config = experiment.teacher
    adam = optimizer(teacher, config.learning_rate)
    generator = stream(experiment.name, seed, "teacher order")
    for _ in range(config.epochs):
        for index in torch.randperm(len(data.train_y), generator=generator).split(
            config.batch_size
        ):
            adam.zero_grad()
            z = teacher(data.train_x[index])[:, :classes]
            F.cross_entropy(z, data.train_y[index]).backward()
            adam.step()

    config = experiment.distillation
    shape = (config.examples, data.train_x.shape[1])
    noise = torch.rand(shape, generator=stream(experiment.name, seed, "noise")).double() * 2 - 1
    held_out = torch.randperm(
        len(data.held_out_y), generator=stream(experiment.name, seed, "probe")
    )[: experiment.probe.size]
    probe_x, probe_y = data.held_out_x[held_out], data.held_out_y[held_out]

    def trait(columns: slice = slice(None)) -> tuple[Tensor, Tensor]:
        loss = F.cross_entropy(student(probe_x[columns])[:, :classes], probe_y[columns])
        return loss, flat(torch.autograd.grad(loss, tuple(student.parameters())))

    adam = optimizer(student, config.learning_rate)
    generator = stream(experiment.name, seed, "student order")
    rows: dict[str, list[float]] = {}
    step = 0
    for epoch in range(config.epochs):
        for index in torch.randperm(config.examples, generator=generator).split(config.batch_size):
            x = noise[index]
            with torch.no_grad():
                target = F.softmax(teacher(x)[:, classes:], dim=1)
                anchor = F.softmax(reference(x), dim=1)
            z = student(x)
            loss = F.kl_div(F.log_softmax(z[:, classes:], 1), target, reduction="batchmean")
            g = flat(torch.autograd.grad(loss, tuple(student.parameters()), retain_graph=True))
            trait_loss, g_trait = trait()
            half = experiment.probe.size // 2
            g_a, g_b = trait(slice(0, half))[1], trait(slice(half, None))[1]
            applied = g
            if arm == "projection":
                applied = g - (g @ g_trait).clamp(min=0) / (g_trait @ g_trait) * g_trait
            if arm == "liminal" and epoch == 0:
                penalty = F.kl_div(F.log_softmax(z, 1), anchor, reduction="batchmean")
                applied = g + flat(torch.autograd.grad(penalty, tuple(student.parameters())))
            before = flat(tuple(p.detach().clone() for p in student.parameters()))
            start = 0
            for p in student.parameters():
                p.grad = applied[start : start + p.numel()].view_as(p).clone()
                start += p.numel()
            adam.step()
            update = flat(tuple(p.detach() for p in student.parameters())) - before
            after_loss, after_trait = trait()
            row = {
                "distill_loss": loss,
                "trait_loss": trait_loss,
                "cos_gradient": F.cosine_similarity(g, g_trait, 0),
                "cos_half_a": F.cosine_similarity(g, g_a, 0),
                "cos_half_b": F.cosine_similarity(g, g_b, 0),
                "cos_applied": F.cosine_similarity(applied, g_trait, 0),
                "cos_update": F.cosine_similarity(-update, g_trait, 0),
                "norm_distill": g.norm(),
                "norm_trait": g_trait.norm(),
                "norm_applied": applied.norm(),
                "norm_update": update.norm(),
                "drive": -g_trait @ update,
                "drive_end": -after_trait @ update,
                "gain": trait_loss - after_loss,
            }
            for name, value in row.items():
                rows.setdefault(name, []).append(float(value.detach()))
            step += 1
    test = student(data.test_x)[:, :classes].argmax(1)
    rows["test_accuracy"] = [float((test == data.test_y).double().mean())]
    answers = teacher(data.test_x)[:, :classes].argmax(1)
    rows["teacher_agreement"] = [float((test == answers).double().mean())]
    return rows
