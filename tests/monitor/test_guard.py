"""Interventions on an optimizer of one's own do what they do in a study."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sublim_causal.errors import RequestError, SublimError
from sublim_causal.experiment.block import run_block
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.sources import ImageTensors, load_images, to_tensors
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.interventions import INTERVENTIONS, build_interventions
from sublim_causal.experiment.networks.models import build_network
from sublim_causal.experiment.outcome import ArmResult
from sublim_causal.experiment.reference.images import begin
from sublim_causal.experiment.reference.vectors import adam_of, batches
from sublim_causal.experiment.tasks import build_task
from sublim_causal.monitor import AlignmentMonitor, guard
from tests.monitor.truth import Problem, Truth, assert_same, cos

STEPS = 8


def digits() -> tuple[Experiment, ImageTensors]:
    experiment = Experiment.model_validate(
        {
            "name": "digits",
            "data": {"name": "digits"},
            "teacher": {"epochs": 1, "batch_size": 64},
            "model": {"options": {"hidden": [32]}},
            "distillation": {"examples": 256, "epochs": 1, "batch_size": 32},
            "probe": {"size": 64},
            "arms": {
                space: {"intervention": "projection", "space": space, "when": "always"}
                for space in ("gradient", "update")
            },
        }
    )
    return experiment, to_tensors(
        load_images(experiment.data, Path()), torch.device("cpu"), torch.float64
    )


@pytest.mark.parametrize("space", ["gradient", "update"])
def test_a_guarded_torch_loop_gives_the_numbers_of_the_study_runner(space: Any) -> None:
    experiment, data = digits()
    classes, seed = 10, 3
    arms = {space: build_interventions("arms.a", experiment.arms[space].procedure)}
    side = round(data.train_x.shape[1] ** 0.5)
    network = build_network(experiment.model, (1, side, side), classes)
    task = build_task(experiment)
    results = run_block(experiment, [seed], arms, task, network, data, after_step=lambda: None)
    result = results[space]
    assert isinstance(result, ArmResult)

    shared = begin(experiment, seed, data, classes)
    student, task = deepcopy(shared.initial), shared.task
    optimizer = adam_of(student, experiment.distillation.learning_rate)

    def trait() -> Tensor:
        return task.trait_loss(student)

    monitor = AlignmentMonitor(optimizer, trait)
    monitor.attach(optimizer)
    guard(optimizer, trait, space=space, when="always")
    order = stream(experiment.name, seed, "student order")
    for index in batches(order, len(shared.examples), experiment.distillation):
        optimizer.zero_grad()
        task.distillation_loss(student, shared.examples[index], "soft").backward()
        optimizer.step()
    table = monitor.table()
    assert len(table) == STEPS
    for name in table.columns.drop(["step", "skipped"]):
        expected = result.steps[name][:, 0]
        assert table[name].to_numpy() == pytest.approx(expected, rel=1e-9, abs=1e-9), name
    changed = table["cos_applied"] if space == "gradient" else table["cos_update"]
    assert changed.abs().max() < 1e-9


def projected(v: list[Tensor], g: list[Tensor], strength: float = 1.0) -> list[Tensor]:
    along = sum(float((a * b).sum()) for a, b in zip(v, g, strict=True))
    square = sum(float((b * b).sum()) for b in g)
    return [a - strength * along / square * b for a, b in zip(v, g, strict=True)]


@pytest.mark.parametrize("first", ["monitor", "guard"])
@pytest.mark.parametrize("space", ["gradient", "update"])
def test_it_composes_in_either_order_with_clipping_and_a_schedule(first: str, space: Any) -> None:
    problem = Problem()
    model = problem.model
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    monitor, truth = AlignmentMonitor(optimizer, problem.trait), problem.truth()
    if first == "monitor":
        monitor.attach(optimizer)
    guard(optimizer, problem.trait, space=space, strength=0.5, when="always")
    if first == "guard":
        monitor.attach(optimizer)
    for i in range(3):
        optimizer.zero_grad()
        problem.loss().backward()
        raw = truth.gradient()
        monitor.read_gradient()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        _, g = truth.trait()
        clipped = truth.gradient()
        half = projected(clipped, g, 0.5)
        before = [p.detach().clone() for p in model.parameters()]
        truth.around(optimizer.step, raw, half if space == "gradient" else clipped)
        for p, q, d in zip(model.parameters(), before, half, strict=True):
            torch.testing.assert_close(p.detach(), q - 0.5 * 0.5**i * d, rtol=1e-12, atol=1e-14)
        schedule.step()
    assert_same(monitor.table(), truth, 1e-9)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("space", ["gradient", "update"])
def test_a_scaled_loss_is_guarded_as_an_unscaled_one(space: Any, fused: bool) -> None:
    found = []
    for scaled in (False, True):
        problem = Problem(dtype=torch.float32)
        optimizer = torch.optim.AdamW(problem.model.parameters(), 0.01, fused=fused)
        guard(optimizer, problem.trait, "set_cosine", cosine=-0.2, space=space)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, enabled=scaled)
        for step in range(3):
            optimizer.zero_grad()
            scaler.scale(problem.loss()).backward()
            if scaled and step == 1:  # an overflow: the same step again
                problem.model[0].weight.grad[0] = torch.inf
                kept = [p.detach().clone() for p in problem.model.parameters()]
                scaler.step(optimizer)
                scaler.update()
                assert all(map(torch.equal, kept, problem.model.parameters()))
                optimizer.zero_grad()
                scaler.scale(problem.loss()).backward()
            scaler.step(optimizer)
            scaler.update()
        found.append([p.detach() for p in problem.model.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


EXAMPLES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "projection": {"layers": ("0",), "when": "always"},
    "shuffled": {"shuffle": "random", "when": "always"},
    "set_cosine": {"cosine": 0.3},
    "train_only": {"layers": ("0",)},
    "chain": {
        "members": [{"intervention": n, "when": "always"} for n in ("projection", "shuffled")]
    },
}


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_every_built_in_intervention_acts_or_is_refused(name: str) -> None:
    problem = Problem()
    if name not in EXAMPLES:
        options = {"coverage": 0.3} if name == "set_coverage" else {}
        with pytest.raises(RequestError, match=r"guard\.intervention"):
            guard(problem.sgd, problem.trait, name, **options)
        return
    handle = guard(problem.sgd, problem.trait, name, **EXAMPLES[name])
    before = [p.detach().clone() for p in problem.model.parameters()]
    problem.loss().backward()
    gradient = [p.grad.clone() for p in problem.model.parameters()]
    problem.sgd.step()
    plain = [q - 0.5 * d for q, d in zip(before, gradient, strict=True)]
    same = all(map(torch.allclose, plain, problem.model.parameters()))
    assert same == (name == "baseline")
    assert all(torch.isfinite(p).all() for p in problem.model.parameters())
    handle.remove()
    now = [p.detach().clone() for p in problem.model.parameters()]
    problem.sgd.step()
    for p, q in zip(problem.model.parameters(), now, strict=True):
        torch.testing.assert_close(p.detach(), q - 0.5 * p.grad)


def test_every_other_step_is_unchanged() -> None:
    problem = Problem()
    guard(problem.sgd, problem.trait, "set_cosine", cosine=0.9, every=2)
    monitor = AlignmentMonitor(problem.sgd, problem.trait)
    monitor.attach(problem.sgd)
    for _ in range(4):
        problem.sgd.zero_grad()
        problem.loss().backward()
        problem.sgd.step()
    cosines = monitor.table()["cos_update"]
    assert cosines[::2].to_numpy() == pytest.approx([0.9, 0.9])
    assert (cosines[1::2].abs() < 0.8).all()


class Halve:
    """Half of the step, by the contract."""

    space = "update"
    uses_trait = False

    def init(self, context: Any) -> int:
        return 0

    def apply(self, vector: Tensor, g_trait: Tensor, state: int, context: Any) -> Any:
        assert context.step == state
        assert cos([vector], [vector]) == pytest.approx(1)
        return vector / 2, state + 1


def test_an_object_that_keeps_the_contract() -> None:
    problem = Problem()
    guard(problem.sgd, problem.trait, Halve())
    truth = Truth(list(problem.model.parameters()), problem.trait)
    for _ in range(2):
        problem.sgd.zero_grad()
        problem.loss().backward()
        truth.around(problem.sgd.step)
    for row in truth.rows:
        assert row["norm_update"] == pytest.approx(row["norm_distill"] / 4)


def test_a_closure_is_guarded_too() -> None:
    problem = Problem()
    guard(problem.sgd, problem.trait, space="gradient", when="always")
    monitor = AlignmentMonitor(problem.sgd, problem.trait)
    monitor.attach(problem.sgd)

    def closure() -> Tensor:
        problem.sgd.zero_grad()
        loss = problem.loss()
        loss.backward()
        return loss

    problem.sgd.step(closure)
    assert abs(monitor.table()["cos_applied"][0]) < 1e-12
    several = torch.optim.LBFGS(problem.model.parameters())
    guard(several, problem.trait)
    with pytest.raises(SublimError, match="several times"):
        several.step(closure)


class Nosy(Halve):
    def apply(self, vector: Tensor, g_trait: Tensor, state: int, context: Any) -> Any:
        return vector * context.steps, state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intervention": "projektion"}, "did you mean 'projection'"),
        ({"intervention": 3}, r"init\(context\)"),
        ({"intervention": Halve(), "space": "gradient"}, "without further options"),
        ({"intervention": "shuffled", "shuffle": "labels"}, "'coordinates' or 'random'"),
        ({"intervention": "set_cosine", "cosine": 0.1, "trait": "half"}, "'taught'; others need"),
        ({"intervention": "set_cosine", "cosine": 0.1, "strength": 2}, "strength"),
        ({"space": "weights"}, "space"),
        ({"every": 0}, "every"),
        ({"strength": -1}, "strength"),
    ],
)
def test_what_is_not_allowed_is_refused(options: dict[str, Any], message: str) -> None:
    problem = Problem()
    with pytest.raises(RequestError, match=message):
        guard(problem.sgd, problem.trait, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ("first",)}, "layers of the model: 0, 2"),
        ({"intervention": Nosy()}, "asks for 'steps', which only a study has"),
    ],
)
def test_what_shows_at_a_later_step_only_is_refused_there(
    options: dict[str, Any], message: str
) -> None:
    problem = Problem()
    guard(problem.sgd, problem.trait, **options)
    problem.loss().backward()
    with pytest.raises(SublimError, match=message):
        problem.sgd.step()
