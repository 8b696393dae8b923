"""In every kind of training loop the monitor's columns are those computed by hand."""

from __future__ import annotations

import importlib.util
import random
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sublim_causal.monitor import AlignmentMonitor
from tests.monitor.truth import Problem, Truth, assert_same


def train(
    problem: Problem,
    optimizer: torch.optim.Optimizer | None = None,
    monitor: AlignmentMonitor | None = None,
    truth: Truth | None = None,
    between: Callable[[], object] = lambda: None,
) -> None:
    """Three steps by which monitor and truth are compared."""
    optimizer = optimizer or problem.sgd
    monitor = monitor or AlignmentMonitor(optimizer, problem.trait)
    truth = truth or problem.truth()
    handle = monitor.attach(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        problem.loss().backward()
        truth.around(optimizer.step)
        between()
    handle.remove()
    optimizer.step()
    assert_same(monitor.table(), truth)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.5, momentum=0.9),
        lambda p: torch.optim.Adam(p, 0.01, foreach=False),
        lambda p: torch.optim.AdamW(p, 0.01, foreach=True),
        lambda p: torch.optim.AdamW(p, 0.01, fused=True),
    ],
    ids=["sgd", "adam", "foreach", "fused"],
)
def test_any_optimizer(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    problem = Problem()
    train(problem, make(problem.model.parameters()))


def test_a_closure() -> None:
    problem = Problem()
    monitor, truth = AlignmentMonitor(problem.sgd, problem.trait), problem.truth()
    monitor.attach(problem.sgd)

    def closure() -> Tensor:
        problem.sgd.zero_grad()
        loss = problem.loss()
        loss.backward()
        return loss

    for _ in range(2):
        closure()
        raw = truth.gradient()
        problem.sgd.zero_grad()
        truth.around(lambda: problem.sgd.step(closure), raw)
    assert_same(monitor.table(), truth)


def test_gradient_accumulation() -> None:
    problem = Problem()
    optimizer = torch.optim.Adam(problem.model.parameters(), 0.01)
    monitor, truth = AlignmentMonitor(optimizer, problem.trait), problem.truth()
    monitor.attach(optimizer)
    for _ in range(2):
        for i in range(4):
            (problem.loss(slice(4 * i, 4 * i + 4)) / 4).backward()
        truth.around(optimizer.step)
        optimizer.zero_grad()
    assert_same(monitor.table(), truth)


def test_clipping_leaves_the_raw_and_the_applied_gradient() -> None:
    problem = Problem()
    monitor, truth = AlignmentMonitor(problem.sgd, problem.trait), problem.truth()
    monitor.attach(problem.sgd)
    for _ in range(3):
        problem.sgd.zero_grad()
        problem.loss().backward()
        raw = truth.gradient()
        monitor.read_gradient()
        nn.utils.clip_grad_value_(problem.model.parameters(), 0.005)
        truth.around(problem.sgd.step, raw, truth.gradient())
    table = monitor.table()
    assert_same(table, truth)
    assert (table["norm_applied"] < table["norm_distill"]).all()
    assert (table["cos_applied"] != table["cos_gradient"]).all()


def test_weights_that_are_changed_between_steps() -> None:
    problem = Problem()

    def clip() -> None:
        for p in problem.model.parameters():
            p.data.clamp_(-0.2, 0.2)  # no version counter sees it

    train(problem, between=clip)


def test_parameter_groups_and_one_parameter_listed_twice() -> None:
    problem = Problem()
    first, *rest = problem.model.parameters()
    optimizer = torch.optim.Adam([{"params": [first], "lr": 0.1}, {"params": rest}], lr=0.001)
    train(problem, optimizer)

    problem = Problem()
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=0.01)
    listed = [*problem.model.parameters(), next(problem.model.parameters())]
    train(problem, optimizer, AlignmentMonitor(listed, problem.trait))


def test_frozen_and_unused_parameters() -> None:
    problem = Problem()
    unused = nn.Parameter(torch.ones(3).double())
    first, *rest = problem.model.parameters()
    first.requires_grad_(False)
    optimizer = torch.optim.SGD([first, *rest, unused], 0.5)
    train(problem, optimizer, truth=problem.truth([*rest, unused]))


def test_tied_weights() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    train(Problem(model))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_module(backend: str) -> None:
    if backend == "inductor" and not (
        importlib.util.find_spec("torch._inductor") and shutil.which("g++")
    ):
        warnings.warn("no C++ compiler: torch.compile is NOT tested", stacklevel=1)
        pytest.skip("torch.compile needs g++, which is missing")
    problem = Problem(dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem.model = torch.compile(problem.model, backend=backend)
        monitor = AlignmentMonitor(problem.sgd, problem.trait, layers="module")
        train(problem, monitor=monitor)
    assert set(monitor.layer_table()["layer"]) == {"0", "2"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize("block", [False, True])
def test_a_scaled_gradient(dtype: torch.dtype, fused: bool, unscaled: bool, block: bool) -> None:
    problem = Problem(dtype=torch.float32)
    optimizer = torch.optim.AdamW(problem.model.parameters(), 0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    monitor, truth = AlignmentMonitor(optimizer, problem.trait), problem.truth()
    if not block:
        monitor.attach(optimizer, scaler=scaler)
    before = []
    for step in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            loss = problem.loss()
        scaler.scale(loss).backward()
        if step == 1:
            next(problem.model.parameters()).grad[0] = torch.inf
        scale = scaler.get_scale()
        raw = [g / scale for g in truth.gradient()]
        if unscaled:
            scaler.unscale_(optimizer)
        before.append([p.detach().clone() for p in problem.model.parameters()])

        def make() -> None:
            if block:
                with monitor.step():
                    scaler.step(optimizer)
            else:
                scaler.step(optimizer)

        truth.around(make, raw)
        scaler.update()
    table = monitor.table()
    assert table["skipped"].tolist() == [False, True, False]
    truth.rows.pop(1)
    assert_same(table[~table["skipped"]], truth)
    skipped = table.iloc[1]
    assert skipped[["norm_update", "drive", "gain"]].eq(0).all()
    assert skipped[["cos_gradient", "cos_applied", "norm_distill", "norm_applied"]].isna().all()


def noisy() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 5)
    )


def test_dropout_and_batch_norm_are_off_in_the_trait_loss_only() -> None:
    problem = Problem(noisy())
    problem.model[1].eval()  # frozen statistics stay so
    train(problem)
    assert [m.training for m in problem.model] == [True, False, True, True, True]
    train(Problem(noisy()))


def states(problem: Problem) -> list[Tensor]:
    model = problem.model
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [*model.state_dict().values(), *gradients, torch.get_rng_state()]


@pytest.mark.parametrize("every", [1, 2])
def test_nothing_else_changes_bit_for_bit(every: int) -> None:
    def run(monitored: bool) -> tuple[list[Tensor], list[Any]]:
        torch.manual_seed(0)
        problem = Problem(noisy())
        random.seed(0)
        np.random.seed(0)
        optimizer = torch.optim.Adam(problem.model.parameters(), 0.01)

        def draws() -> Tensor:
            noise = torch.randn(()) + random.random() + np.random.rand()
            return problem.trait() + 0 * noise

        if monitored:
            AlignmentMonitor(optimizer, draws, every=every).attach(optimizer)
        for _ in range(4):
            optimizer.zero_grad()
            problem.loss().backward()
            optimizer.step()
        modes = [m.training for m in problem.model.modules()]
        return states(problem), [random.random(), float(np.random.rand()), modes]

    (one, drawn), (other, others_drawn) = run(True), run(False)
    assert drawn == others_drawn
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)


def test_every_measures_those_steps_only() -> None:
    problem = Problem()
    calls = []

    def trait() -> Tensor:
        calls.append(torch.is_grad_enabled())
        return problem.trait()

    monitor, truth = AlignmentMonitor(problem.sgd, trait, every=3), problem.truth()
    monitor.attach(problem.sgd)
    for _ in range(5):
        problem.sgd.zero_grad()
        problem.loss().backward()
        truth.around(problem.sgd.step)
    table = monitor.table()
    assert table["step"].tolist() == [0, 3]
    assert calls == [True, False] * 2
    assert table.pop("drive_end").isna().all()
    truth.rows = [{k: v for k, v in truth.rows[i].items() if k != "drive_end"} for i in (0, 3)]
    assert_same(table, truth)


def test_with_every_step_measured_the_trait_is_measured_once_a_step() -> None:
    problem, calls = Problem(), []

    def trait() -> Tensor:
        calls.append(1)
        return problem.trait()

    train(problem, monitor=AlignmentMonitor(problem.sgd, trait))
    assert len(calls) == 4


def test_half_probes_are_those_of_the_step_table() -> None:
    problem = Problem()

    def halves() -> tuple[Tensor, Tensor]:
        z = problem.model(problem.probe_x)[:, :3]
        y = problem.probe_y
        return F.cross_entropy(z[:16], y[:16]), F.cross_entropy(z[16:], y[16:])

    monitor = AlignmentMonitor(problem.sgd, halves, half_probes=True)
    truths = [Truth(list(problem.model.parameters()), lambda i=i: halves()[i]) for i in (0, 1)]
    problem.sgd.zero_grad()
    problem.loss().backward()
    for truth in truths:
        truth.around(lambda: None)
    train(problem, monitor=monitor)
    first = monitor.table().iloc[0]
    for name, truth in zip(("cos_half_a", "cos_half_b"), truths, strict=True):
        assert first[name] == pytest.approx(truth.rows[0]["cos_gradient"], abs=1e-12)


def test_layers_sum_to_the_whole() -> None:
    problem = Problem()
    monitor = AlignmentMonitor(problem.sgd, problem.trait, layers="module")
    train(problem, monitor=monitor)
    layers = monitor.layer_table()
    assert layers["layer"].tolist() == ["0", "2"] * 3
    np.testing.assert_allclose(
        layers.groupby("step")["drive"].sum(), monitor.table()["drive"], atol=1e-15
    )
    last = Truth(list(problem.model[2].parameters()), problem.trait)
    own = AlignmentMonitor(problem.model.parameters(), problem.trait, layers=lambda n: n[-4:])
    problem.loss().backward()
    last.around(lambda: None)
    with own.step():
        problem.sgd.step()
    assert set(own.layer_table()["layer"]) == {"ight", "bias"}


def test_several_optimizers_make_one_step() -> None:
    problem = Problem()
    weights = [p for p in problem.model.parameters() if p.ndim == 2]
    biases = [p for p in problem.model.parameters() if p.ndim == 1]
    one, other = torch.optim.SGD(weights, 0.1), torch.optim.Adam(biases, 0.1)
    monitor = AlignmentMonitor(problem.model.parameters(), problem.trait)
    truth = problem.truth()
    for _ in range(2):
        problem.model.zero_grad()
        problem.loss().backward()

        def both() -> None:
            with monitor.step():
                one.step()
                other.step()

        truth.around(both)
    assert_same(monitor.table(), truth)


def test_a_step_made_by_hand() -> None:
    problem = Problem()
    monitor, truth = AlignmentMonitor(problem.model.parameters(), problem.trait), problem.truth()

    def descend() -> None:
        with monitor.step(), torch.no_grad():
            for p in problem.model.parameters():
                p -= 0.1 * p.grad

    problem.loss().backward()
    truth.around(descend)
    assert_same(monitor.table(), truth)


def test_a_step_that_raises_is_forgotten() -> None:
    problem = Problem()
    monitor = AlignmentMonitor(problem.sgd, problem.trait)
    problem.loss().backward()
    with pytest.raises(ZeroDivisionError), monitor.step():
        raise ZeroDivisionError
    assert monitor.table().empty
    train(problem, monitor=monitor)
