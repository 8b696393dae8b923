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

from sublim_causal.errors import RequestError, SublimError
from sublim_causal.monitor import AlignmentMonitor
from tests.monitor.truth import Truth, assert_same


class Problem:
    """A small network, batches without labels of the trait, and a probe."""

    def __init__(self, model: nn.Module | None = None, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(0)
        self.model = model or nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
        self.model.to(dtype)
        self.x = torch.randn(16, 6).to(dtype)
        self.probe_x, self.probe_y = torch.randn(32, 6).to(dtype), torch.arange(32) % 3

    def loss(self, part: slice = slice(None)) -> Tensor:
        return self.model(self.x[part])[:, 3:].square().mean()

    def trait(self) -> Tensor:
        return F.cross_entropy(self.model(self.probe_x)[:, :3], self.probe_y)

    def trait_by_hand(self) -> Tensor:
        """The trait loss in eval mode."""
        training = {m: m.training for m in self.model.modules()}
        self.model.eval()
        try:
            return self.trait()
        finally:
            for m, was in training.items():
                m.training = was

    def truth(self, parameters: list[Tensor] | None = None) -> Truth:
        return Truth(parameters or list(self.model.parameters()), self.trait_by_hand)


def train(
    problem: Problem,
    monitor: AlignmentMonitor,
    truth: Truth,
    optimizer: torch.optim.Optimizer,
    between: Callable[[], object] = lambda: None,
) -> None:
    """Three steps by which monitor and truth are compared."""
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
    optimizer = make(problem.model.parameters())
    train(problem, AlignmentMonitor(optimizer, problem.trait), problem.truth(), optimizer)


def test_a_closure() -> None:
    problem = Problem()
    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    monitor, truth = AlignmentMonitor(optimizer, problem.trait), problem.truth()
    monitor.attach(optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = problem.loss()
        loss.backward()
        return loss

    for _ in range(2):
        closure()
        raw = truth.gradient()
        optimizer.zero_grad()
        truth.around(lambda: optimizer.step(closure), raw)
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
    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    monitor, truth = AlignmentMonitor(optimizer, problem.trait), problem.truth()
    monitor.attach(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        problem.loss().backward()
        raw = truth.gradient()
        monitor.read_gradient()
        nn.utils.clip_grad_value_(problem.model.parameters(), 0.005)
        truth.around(optimizer.step, raw, truth.gradient())
    table = monitor.table()
    assert_same(table, truth)
    assert (table["norm_applied"] < table["norm_distill"]).all()
    assert (table["cos_applied"] != table["cos_gradient"]).all()


def test_weights_that_are_changed_between_steps() -> None:
    problem = Problem()

    def clip() -> None:
        for p in problem.model.parameters():
            p.data.clamp_(-0.2, 0.2)  # no version counter sees it

    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    train(problem, AlignmentMonitor(optimizer, problem.trait), problem.truth(), optimizer, clip)


def test_parameter_groups_and_one_parameter_listed_twice() -> None:
    problem = Problem()
    first, *rest = problem.model.parameters()
    optimizer = torch.optim.Adam([{"params": [first], "lr": 0.1}, {"params": rest}], lr=0.001)
    train(problem, AlignmentMonitor(optimizer, problem.trait), problem.truth(), optimizer)

    problem = Problem()
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=0.01)
    listed = [*problem.model.parameters(), next(problem.model.parameters())]
    train(problem, AlignmentMonitor(listed, problem.trait), problem.truth(), optimizer)


def test_frozen_and_unused_parameters() -> None:
    problem = Problem()
    unused = nn.Parameter(torch.ones(3).double())
    first, *rest = problem.model.parameters()
    first.requires_grad_(False)
    optimizer = torch.optim.SGD([first, *rest, unused], 0.5)
    truth = problem.truth([*rest, unused])
    train(problem, AlignmentMonitor(optimizer, problem.trait), truth, optimizer)


def test_tied_weights() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    problem = Problem(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    train(problem, AlignmentMonitor(optimizer, problem.trait), problem.truth(), optimizer)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_module(backend: str) -> None:
    if backend == "inductor" and not (
        importlib.util.find_spec("torch._inductor") and shutil.which("g++")
    ):
        warnings.warn("no C++ compiler: torch.compile is NOT tested", stacklevel=1)
        pytest.skip("torch.compile needs g++, which is missing")
    problem = Problem(dtype=torch.float32)
    plain = problem.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem.model = torch.compile(plain, backend=backend)
        optimizer = torch.optim.SGD(plain.parameters(), 0.5)
        monitor = AlignmentMonitor(optimizer, problem.trait, layers="module")
        train(problem, monitor, problem.truth(), optimizer)
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
    optimizer = torch.optim.SGD(problem.model.parameters(), 0.1)
    train(problem, AlignmentMonitor(optimizer, problem.trait), problem.truth(), optimizer)
    assert [m.training for m in problem.model] == [True, False, True, True, True]

    problem = Problem(noisy())
    optimizer = torch.optim.SGD(problem.model.parameters(), 0.1)
    train(problem, AlignmentMonitor(optimizer, problem.trait), problem.truth(), optimizer)


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

    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    monitor, truth = AlignmentMonitor(optimizer, trait, every=3), problem.truth()
    monitor.attach(optimizer)
    for _ in range(5):
        optimizer.zero_grad()
        problem.loss().backward()
        truth.around(optimizer.step)
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

    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    train(problem, AlignmentMonitor(optimizer, trait), problem.truth(), optimizer)
    assert len(calls) == 4


def test_half_probes_are_those_of_the_step_table() -> None:
    problem = Problem()

    def halves() -> tuple[Tensor, Tensor]:
        z = problem.model(problem.probe_x)[:, :3]
        y = problem.probe_y
        return F.cross_entropy(z[:16], y[:16]), F.cross_entropy(z[16:], y[16:])

    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    monitor = AlignmentMonitor(optimizer, halves, half_probes=True)
    truths = [Truth(list(problem.model.parameters()), lambda i=i: halves()[i]) for i in (0, 1)]
    optimizer.zero_grad()
    problem.loss().backward()
    for truth in truths:
        truth.around(lambda: None)
    train(problem, monitor, problem.truth(), optimizer)
    first = monitor.table().iloc[0]
    for name, truth in zip(("cos_half_a", "cos_half_b"), truths, strict=True):
        assert first[name] == pytest.approx(truth.rows[0]["cos_gradient"], abs=1e-12)


def test_layers_sum_to_the_whole() -> None:
    problem = Problem()
    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    monitor = AlignmentMonitor(optimizer, problem.trait, layers="module")
    train(problem, monitor, problem.truth(), optimizer)
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
        optimizer.step()
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
    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    monitor = AlignmentMonitor(optimizer, problem.trait)
    problem.loss().backward()
    with pytest.raises(ZeroDivisionError), monitor.step():
        raise ZeroDivisionError
    assert monitor.table().empty
    train(problem, monitor, problem.truth(), optimizer)


class Kept:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def log(self, step: int, **columns: Any) -> None:
        self.rows.append({"step": step, **columns})


def test_rows_are_sent_on_as_they_are_measured() -> None:
    problem = Problem()
    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    rows: list[dict[str, Any]] = []
    kept, metrics = Kept(), []

    class Metrics:
        def log_metrics(self, values: dict[str, float], step: int | None = None) -> None:
            metrics.append((step, values))

    monitor = AlignmentMonitor(optimizer, problem.trait, sink=rows.append)
    monitor.log_to(kept)
    monitor.log_to(Metrics()).remove()
    monitor.log_to(Metrics())
    train(problem, monitor, problem.truth(), optimizer)
    assert kept.rows == rows == monitor.table().to_dict("records")
    assert [step for step, _ in metrics] == [0, 1, 2]
    assert metrics[1][1]["drive"] == rows[1]["drive"]
    with pytest.raises(RequestError, match="mlflow"):
        monitor.log_to(3)


def test_a_trait_loss_of_another_network_is_refused() -> None:
    problem, other = Problem(), Problem()
    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    problem.loss().backward()
    for wrong in (other.trait, lambda: problem.trait().detach()):
        monitor = AlignmentMonitor(optimizer, wrong)
        with pytest.raises(SublimError, match="no parameter that is trained"), monitor.step():
            optimizer.step()
        assert monitor.table().empty
    monitor = AlignmentMonitor(optimizer, lambda: problem.trait().item())
    with pytest.raises(SublimError, match="a float, not a scalar tensor"), monitor.step():
        optimizer.step()


def test_hidden_gradients_are_refused() -> None:
    problem = Problem()
    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    monitor = AlignmentMonitor(optimizer, problem.trait)
    monitor.attach(optimizer)
    with pytest.raises(SublimError, match="DistributedDataParallel or FSDP2"):
        optimizer.step()
    next(problem.model.parameters()).ds_id = 0
    with pytest.raises(SublimError, match="hidden by DeepSpeed ZeRO-3"):
        optimizer.step()


def test_wrong_options_are_refused() -> None:
    problem = Problem()
    for wrong in ({"every": 0}, {"every": 1.5}, {"layers": True}, {"sink": 1}):
        with pytest.raises(RequestError, match=next(iter(wrong))):
            AlignmentMonitor(problem.model.parameters(), problem.trait, **wrong)
    optimizer = torch.optim.SGD(problem.model.parameters(), 0.5)
    monitor = AlignmentMonitor(optimizer, problem.trait)
    with pytest.raises(SublimError, match="none of the monitor's parameters"):
        monitor.attach(torch.optim.SGD(Problem().model.parameters(), 0.5))
    monitor.attach(optimizer)
    with pytest.raises(SublimError, match="attached"):
        monitor.attach(optimizer)
    with pytest.raises(SublimError, match="attached"), monitor.step():
        pass
