"""The monitor measures in a user's loop what the experiment records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sublim_causal.errors import RequestError, SublimError
from sublim_causal.experiment.alignment import cosine
from sublim_causal.monitor import AlignmentMonitor
from sublim_causal.store.schema import STEPS
from tests.monitor.truth import Problem


def train(monitored: bool) -> tuple[AlignmentMonitor, Problem]:
    problem = Problem()
    monitor = AlignmentMonitor(problem.model.parameters(), problem.trait)
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=1e-3)
    for _ in range(6):
        optimizer.zero_grad()
        problem.loss().backward()
        if monitored:
            with monitor.step():
                optimizer.step()
        else:
            optimizer.step()
    return monitor, problem


def test_it_records_the_ledger_under_the_step_tables_names() -> None:
    monitor, problem = train(monitored=True)
    table = monitor.table()
    assert len(table) == 6
    assert set(table.columns) - {"skipped"} <= {column.name for column in STEPS}
    np.testing.assert_allclose(table["gain"], table["drive"] + table["remainder"], atol=1e-15)
    end = problem.trait().item()
    np.testing.assert_allclose(table["gain"].sum(), table["trait_loss"][0] - end, atol=1e-12)
    mid = (table["drive"] + table["drive_end"]) / 2
    assert (abs(table["gain"] - mid) < abs(table["remainder"])).all()  # the trapezoid is closer
    assert table["cos_update"].between(-1, 1).all()


def test_it_changes_nothing() -> None:
    (_, one), (_, other) = train(monitored=True), train(monitored=False)
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_table_can_be_asked_for_at_any_time() -> None:
    monitor, problem = train(monitored=True)
    before = monitor.table()
    assert before.equals(monitor.table())
    problem.model(torch.ones(1, 6).double()).sum().backward()
    with monitor.step():
        problem.sgd.step()
    assert monitor.table()[:6].equals(before)
    assert len(monitor.table()) == 7


def test_a_step_without_gradients_is_refused() -> None:
    problem = Problem()
    monitor = AlignmentMonitor(problem.sgd, problem.trait)
    with pytest.raises(SublimError, match="backward"), monitor.step():
        pass


def test_the_cosine_with_a_zero_vector_is_zero_as_in_the_step_table() -> None:
    problem = Problem()
    monitor = AlignmentMonitor(problem.sgd, lambda: 0 * problem.trait())
    problem.loss().backward()
    with monitor.step():
        problem.sgd.step()
    with monitor.step():  # an optimizer step that moves nothing
        torch.optim.SGD(problem.model.parameters(), lr=0.0).step()
    table = monitor.table()
    assert (table[["cos_gradient", "cos_update"]] == 0).all(axis=None)
    assert list(table["norm_update"] == 0) == [False, True]
    products, norms = torch.zeros(2), torch.tensor([0.0, torch.nan])
    assert cosine(products, norms).isnan().tolist() == [False, True]


def test_a_table_of_no_steps_is_empty() -> None:
    problem = Problem()
    assert AlignmentMonitor(problem.sgd, problem.trait).table().empty


class Kept:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def log(self, step: int, **columns: Any) -> None:
        self.rows.append({"step": step, **columns})


def test_rows_are_sent_on_as_they_are_measured() -> None:
    problem = Problem()
    rows: list[dict[str, Any]] = []
    kept, metrics = Kept(), []

    class Metrics:
        def log_metrics(self, values: dict[str, float], step: int | None = None) -> None:
            metrics.append((step, values))

    monitor = AlignmentMonitor(problem.sgd, problem.trait, sink=rows.append)
    monitor.log_to(kept)
    monitor.log_to(Metrics()).remove()
    monitor.log_to(Metrics())
    monitor.attach(problem.sgd)
    for _ in range(3):
        problem.loss().backward()
        problem.sgd.step()
    assert kept.rows == rows == monitor.table().to_dict("records")
    assert [step for step, _ in metrics] == [0, 1, 2]
    assert metrics[1][1]["drive"] == rows[1]["drive"]
    with pytest.raises(RequestError, match="mlflow"):
        monitor.log_to(3)


def test_a_trait_loss_of_another_network_is_refused() -> None:
    problem, other = Problem(), Problem()
    problem.loss().backward()
    for wrong in (other.trait, lambda: problem.trait().detach()):
        monitor = AlignmentMonitor(problem.sgd, wrong)
        with pytest.raises(SublimError, match="no parameter that is trained"), monitor.step():
            problem.sgd.step()
        assert monitor.table().empty
    monitor = AlignmentMonitor(problem.sgd, lambda: problem.trait().item())
    with pytest.raises(SublimError, match="a float, not a scalar tensor"), monitor.step():
        problem.sgd.step()


def test_hidden_gradients_are_refused() -> None:
    problem = Problem()
    monitor = AlignmentMonitor(problem.sgd, problem.trait)
    monitor.attach(problem.sgd)
    with pytest.raises(SublimError, match="DistributedDataParallel or FSDP2"):
        problem.sgd.step()
    next(problem.model.parameters()).ds_id = 0
    with pytest.raises(SublimError, match="hidden by DeepSpeed ZeRO-3"):
        problem.sgd.step()


def test_wrong_options_are_refused() -> None:
    problem = Problem()
    for wrong in ({"every": 0}, {"every": 1.5}, {"layers": True}, {"sink": 1}):
        with pytest.raises(RequestError, match=next(iter(wrong))):
            AlignmentMonitor(problem.model.parameters(), problem.trait, **wrong)
    monitor = AlignmentMonitor(problem.sgd, problem.trait)
    with pytest.raises(SublimError, match="none of the monitor's parameters"):
        monitor.attach(torch.optim.SGD(Problem().model.parameters(), 0.5))
    monitor.attach(problem.sgd)
    with pytest.raises(SublimError, match="attached"):
        monitor.attach(problem.sgd)
    with pytest.raises(SublimError, match="attached"), monitor.step():
        pass
