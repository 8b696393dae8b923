"""Several channels at once: the loss is the weighted sum of theirs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.teaching.targets import (
    ActivationTargets,
    CombinedTargets,
    LogitTargets,
)
from sublim_causal.study.planning.memory import activations_taught
from sublim_causal.study.spec.study import Study
from tests.experiment.small import run_small, small_experiment

LOGITS = {"name": "soft", "logits": "class"}
LAYER = {"name": "representation", "layer": "2"}


def arm(*members: dict[str, Any], **fields: Any) -> dict[str, Any]:
    channel = {"name": "combined", "members": list(members)}
    return {"intervention": "baseline", "channel": channel, **fields}


def test_loss_and_gradient_are_weighted_sums() -> None:
    network, draw = MLP((5, 7, 6)), torch.Generator().manual_seed(0)
    theta = torch.stack([network.initialise(stream("c", s, "init")) for s in (0, 1)]).double()
    x, h = (torch.randn(2, 9, n, generator=draw, dtype=torch.float64) for n in (5, 7))
    q = torch.rand(2, 9, 3, generator=draw, dtype=torch.float64).softmax(dim=2)
    logits = LogitTargets(slice(0, 3), 1.0, q)
    layer = ActivationTargets("0", h, h.square().sum(dim=2).mean(dim=1))
    index = torch.tensor([[3, 0, 8], [7, 7, 1]])
    both = CombinedTargets(((2.0, logits), (0.5, layer))).at(index)

    def of(targets: Any) -> tuple[Tensor, Tensor]:
        rows = torch.arange(2)[:, None]
        return targets.loss_and_gradient(network.forward(theta, Batch(x[rows, index])))

    for sum_, one, other in zip(of(both), of(logits.at(index)), of(layer.at(index)), strict=True):
        torch.testing.assert_close(sum_, 2 * one + 0.5 * other)


def test_one_member_is_that_channel_and_a_small_weight_hardly_counts() -> None:
    arms = {
        "logits": {"intervention": "baseline", "channel": LOGITS},
        "one": arm(LOGITS),
        "hardly": arm(LOGITS, {**LAYER, "weight": 1e-9}),
        "both": arm(LOGITS, LAYER),
        "nested": arm({**arm(LOGITS, LAYER)["channel"]}),
    }
    results = run_small(small_experiment(arms), [0, 1])
    loss = {name: torch.tensor(one.steps["distill_loss"]) for name, one in results.items()}
    assert torch.equal(loss["one"], loss["logits"])
    torch.testing.assert_close(loss["hardly"], loss["logits"], rtol=1e-4, atol=1e-8)
    assert torch.equal(loss["nested"], loss["both"])
    assert (loss["both"][0] > loss["logits"][0] + 0.01).all()


def test_the_memory_of_activations_is_counted_and_a_wrong_layer_is_named() -> None:
    arms = {
        "plain": {"intervention": "baseline"},
        "both": arm(LOGITS, LAYER, {**LAYER, "layer": "0"}),
    }
    study = Study.model_validate({**small_experiment(arms).model_dump(by_alias=True), "title": "t"})
    network = MLP((784, 16, 12, 13))
    assert activations_taught(study, network) == 16 + 12
    wrong = {"both": arm(LOGITS, {**LAYER, "layer": "4"})}
    study = Study.model_validate(
        {**small_experiment(wrong).model_dump(by_alias=True), "title": "t"}
    )
    with pytest.raises(RequestError) as refused:
        activations_taught(study, network)
    assert refused.value.field == "arms.both.channel.members.1.layer"
