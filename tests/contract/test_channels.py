"""What every registered channel must keep, and what each promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.data.batches import gather
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.logits import of_classes
from sublim_causal.experiment.networks.base import Batch
from sublim_causal.experiment.networks.mlp import MLP
from sublim_causal.experiment.teaching.channels import CHANNELS, Channel, build_channel
from sublim_causal.experiment.teaching.targets import LogitTargets
from tests.experiment.small import run_small, small_experiment

SPLIT = of_classes(10, 6)
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "soft": [{}, {"temperature": 3.0}, {"logits": "all"}, {"first": 2}],
    "hard": [{}, {"logits": "class"}],
    "sampled": [{}, {"logits": "all", "temperature": 0.5}],
}
CASES = [
    pytest.param({"name": name, **options}, id=f"{name}-{i}")
    for name in EXAMPLES
    for i, options in enumerate(EXAMPLES[name])
]


def answers(channel: Channel, seeds: list[int], count: int = 40) -> tuple[Tensor, Tensor]:
    """Return the teacher's logits and the channel's answers."""
    columns = channel.source(SPLIT)
    assert isinstance(columns, slice)
    shape = (count, columns.stop - columns.start)
    z = torch.stack([torch.randn(shape, generator=stream("c", s, "z")) for s in seeds])
    targets = channel.targets(z, None, SPLIT, [stream("c", s, "channel") for s in seeds])
    assert isinstance(targets, LogitTargets)
    return z, targets.target


def test_every_channel_has_a_case() -> None:
    # `representation` gives no answers: tests/experiment/teaching/test_representation.py; what
    # `combined` gives is a sum: tests/experiment/teaching/test_combined.py.
    assert {*EXAMPLES, "representation", "combined"} == set(CHANNELS)


@pytest.mark.parametrize(
    "table", [*CASES, pytest.param({"name": "representation", "layer": "0"}, id="representation")]
)
def test_it_keeps_the_contract_and_its_targets_are_gathered_by_example(
    table: dict[str, Any],
) -> None:
    channel = build_channel("channel", table, SPLIT)
    assert isinstance(channel, Channel)
    source = channel.source(SPLIT)
    width = source.stop - source.start if isinstance(source, slice) else 7
    taught = torch.randn(2, 30, width, generator=torch.Generator().manual_seed(0))
    weight = (torch.arange(30) % 3 > 0).double().expand(2, -1)
    streams = [stream("c", s, "channel") for s in (0, 1)]
    network = MLP((5, width, 16) if isinstance(source, str) else (5, 16))
    theta = torch.stack([network.initialise(stream("c", s, "init")) for s in (0, 1)])
    x = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(1))
    index = torch.tensor([[3, 0, 29], [7, 7, 1]])
    targets = channel.targets(taught, weight.to(taught), SPLIT, streams)
    one = targets.at(index)
    loss, gradient = one.loss_and_gradient(network.forward(theta, Batch(gather(x, index))))
    assert loss.shape == (2,)
    assert gradient.shape == theta.shape
    assert (loss >= 0).all()
    for replicate, examples in enumerate(index):
        for example in examples[weight[replicate, examples] == 0]:
            alone = targets.at(torch.stack([example, example])[:, None])
            forward = network.forward(theta, Batch(x[:, example : example + 1]))
            ignored, no_gradient = alone.loss_and_gradient(forward)
            assert not ignored.any()
            assert not no_gradient.any()


@pytest.mark.parametrize("table", CASES)
def test_answers_are_distributions_of_each_seed_alone(table: dict[str, Any]) -> None:
    channel = build_channel("channel", table, SPLIT)
    z, q = answers(channel, [0, 1, 2])
    before = z.clone()
    assert q.shape == z.shape
    assert (q >= 0).all()
    torch.testing.assert_close(q.sum(dim=2), torch.ones(q.shape[:2]))
    assert torch.equal(z, before)
    torch.testing.assert_close(q[1:2], answers(channel, [1])[1])


@pytest.mark.parametrize("table", CASES)
def test_no_global_random_numbers_are_drawn(table: dict[str, Any]) -> None:
    before = torch.random.get_rng_state()
    answers(build_channel("channel", table, SPLIT), [0])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_hard_answers_are_the_largest_logit() -> None:
    z, q = answers(build_channel("channel", {"name": "hard"}, SPLIT), [0, 1])
    assert torch.equal(q.argmax(dim=2), z.argmax(dim=2))
    assert torch.equal(q.amax(dim=2), torch.ones(q.shape[:2]))


def test_sampled_answers_have_the_teachers_frequencies() -> None:
    channel = build_channel("channel", {"name": "sampled"}, SPLIT)
    z = torch.tensor([2.0, 0, 0, 0, 0, -3]).expand(1, 20_000, -1)
    q = channel.targets(z, None, SPLIT, [stream("c", 0, "channel")]).target
    # 20,000 draws: the standard error of a frequency is at most 0.0036.
    torch.testing.assert_close(q.mean(dim=1), z[:, 0].softmax(dim=1), rtol=0, atol=0.015)


def test_a_high_temperature_makes_soft_answers_uniform() -> None:
    q = answers(build_channel("channel", {"temperature": 100.0}, SPLIT), [0])[1]
    torch.testing.assert_close(q, torch.full_like(q, 1 / 6), rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("table", "field", "hint"),
    [
        ({"name": "sofd"}, "channel.name", "soft"),
        ({"name": "soft", "temprature": 2}, "channel.temprature", "temperature"),
        ({"first": 7}, "channel.first", "at most 6"),
        ({"name": "builtins:dict"}, "channel.name", "answers"),
        ({"name": "representation"}, "channel.layer", "layer"),
        ({"name": "combined"}, "channel.members", "members"),
        ({"name": "combined", "members": []}, "channel.members", "1"),
        ({"name": "combined", "members": [{"weight": 0}]}, "channel.members.0.weight", "above 0"),
        ({"name": "combined", "members": [{}, {"first": 7}]}, "channel.members.1.first", "most 6"),
        ({"name": "combined", "members": [{"name": "sofd"}]}, "channel.members.0.name", "soft"),
    ],
)
def test_a_wrong_channel_is_refused(table: dict[str, Any], field: str, hint: str) -> None:
    with pytest.raises(RequestError) as refused:
        build_channel("channel", table, SPLIT)
    assert refused.value.field == field
    assert hint in str(refused.value)


def test_a_channel_may_be_a_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smoothed.py").write_text(
        "class Smoothed:\n"
        "    temperature = 1.0\n"
        "    def __init__(self, share=0.1):\n"
        "        self.share = share\n"
        "    def columns(self, split):\n"
        "        return split.columns('auxiliary')\n"
        "    def answers(self, logits, generators):\n"
        "        uniform = 1 / logits.shape[2]\n"
        "        return (1 - self.share) * logits.softmax(dim=2) + self.share * uniform\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arm = {"intervention": "baseline", "channel": {"name": "smoothed:Smoothed", "share": 1.0}}
    steps = run_small(small_experiment({"own": arm}), [0])["own"].steps
    # The student starts near uniform answers, and is taught exactly those.
    assert steps["distill_loss"][-1, 0] < 0.5 * steps["distill_loss"][0, 0]
    with pytest.raises(RequestError, match=r"unexpected keyword argument .shar."):
        build_channel("channel", {"name": "smoothed:Smoothed", "shar": 1}, SPLIT)
