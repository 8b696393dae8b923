"""The monitor measures in a user's loop what the experiment records."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from sublim_causal.errors import SublimError
from sublim_causal.experiment.alignment import cosine
from sublim_causal.monitor import AlignmentMonitor
from sublim_causal.store.schema import STEPS


def problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)).double()
    return model, torch.randn(16, 6).double(), torch.randn(32, 6).double(), torch.arange(32) % 3


def train(monitored: bool) -> tuple[AlignmentMonitor, nn.Module]:
    model, x, probe_x, probe_y = problem()
    monitor = AlignmentMonitor(
        model.parameters(), lambda: F.cross_entropy(model(probe_x)[:, :3], probe_y)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(6):
        optimizer.zero_grad()
        model(x)[:, 3:].square().mean().backward()
        if monitored:
            with monitor.step():
                optimizer.step()
        else:
            optimizer.step()
    return monitor, model


def test_it_records_the_ledger_under_the_step_tables_names() -> None:
    monitor, model = train(monitored=True)
    table = monitor.table()
    assert len(table) == 6
    assert set(table.columns) - {"skipped"} <= {column.name for column in STEPS}
    np.testing.assert_allclose(table["gain"], table["drive"] + table["remainder"], atol=1e-15)
    _, _, probe_x, probe_y = problem()
    end = F.cross_entropy(model(probe_x)[:, :3], probe_y).item()
    np.testing.assert_allclose(table["gain"].sum(), table["trait_loss"][0] - end, atol=1e-12)
    mid = (table["drive"] + table["drive_end"]) / 2
    assert (abs(table["gain"] - mid) < abs(table["remainder"])).all()  # the trapezoid is closer
    assert table["cos_update"].between(-1, 1).all()


def test_it_changes_nothing() -> None:
    (_, one), (_, other) = train(monitored=True), train(monitored=False)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_table_can_be_asked_for_at_any_time() -> None:
    monitor, model = train(monitored=True)
    before = monitor.table()
    assert before.equals(monitor.table())
    model(torch.ones(1, 6).double()).sum().backward()
    with monitor.step():
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert monitor.table()[:6].equals(before)
    assert len(monitor.table()) == 7


def test_a_step_without_gradients_is_refused() -> None:
    model, _, probe_x, _ = problem()
    monitor = AlignmentMonitor(model.parameters(), lambda: model(probe_x).mean())
    with pytest.raises(SublimError, match="backward"), monitor.step():
        pass


def test_the_cosine_with_a_zero_vector_is_zero_as_in_the_step_table() -> None:
    model, x, probe_x, _ = problem()
    monitor = AlignmentMonitor(model.parameters(), lambda: 0 * model(probe_x).sum())
    model(x).square().mean().backward()
    with monitor.step():
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    with monitor.step():  # an optimizer step that moves nothing
        torch.optim.SGD(model.parameters(), lr=0.0).step()
    table = monitor.table()
    assert (table[["cos_gradient", "cos_update"]] == 0).all(axis=None)
    assert list(table["norm_update"] == 0) == [False, True]
    products, norms = torch.zeros(2), torch.tensor([0.0, torch.nan])
    assert cosine(products, norms).isnan().tolist() == [False, True]


def test_a_table_of_no_steps_is_empty() -> None:
    model, _, probe_x, _ = problem()
    assert AlignmentMonitor(model.parameters(), lambda: model(probe_x).mean()).table().empty
