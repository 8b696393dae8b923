"""What every registered intervention must keep, and what each family promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.alignment import Probe, UpdateMeasure, measure_trait
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.interventions import INTERVENTIONS, build_interventions
from sublim_causal.experiment.interventions.base import BlockContext, Intervention
from sublim_causal.experiment.logits import LogitSplit, of_classes
from sublim_causal.experiment.networks.base import Batch, Forward
from sublim_causal.experiment.networks.initialisation import initialise
from sublim_causal.experiment.networks.mlp import MLP

NETWORK = MLP((6, 5, 9))
SPLIT = of_classes(6, 3)
P = NETWORK.layout.size
R = 3

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "baseline": [{}],
    "projection": [
        {},
        {"strength": 0.5, "when": "always"},
        {"space": "update", "strength": 2},
        {"layers": ["2"]},
    ],
    "shuffled": [
        {},
        {"draw": "run"},
        {"space": "update"},
        {"shuffle": "random"},
        {"shuffle": "labels"},
        {"shuffle": "probe"},
        {"shuffle": "network"},
    ],
    "train_only": [{"layers": ["0"]}],
    "set_cosine": [
        {"cosine": 0.05},
        {"cosine": -0.5, "space": "gradient"},
        {"cosine": 0.0, "trait": "half"},
        {"cosine": 0.0, "trait": "relabelled"},
    ],
    "set_coverage": [{"coverage": 0.2}, {"coverage": -0.5, "space": "gradient"}],
    "liminal": [{}, {"logits": "class", "schedule": "anneal", "weight": 3}],
    "clamp": [{}, {"match": "drive"}, {"match": "cosine and length"}],
    "yoked": [{}, {"target": "other", "procedure": {"intervention": "baseline"}}],
    "chain": [{"members": [{"intervention": "projection"}, {"intervention": "shuffled"}]}],
}
CASES = [
    pytest.param({"intervention": name, **options}, id=f"{name}-{i}")
    for name in INTERVENTIONS
    for i, options in enumerate(EXAMPLES[name])
]


def uses_trait(table: dict[str, Any]) -> bool:
    """Whether every intervention of `table` needs the trait gradient."""
    return all(one.uses_trait for one in build_interventions("arms.a", table))


TRAIT_CASES = [case for case in CASES if uses_trait(case.values[0])]


@dataclass(frozen=True)
class Seen:
    """A `StepContext` of made-up students with parameters `theta`."""

    step: int
    forward: Forward
    theta: Tensor
    initial: Tensor
    teaching: Tensor
    steps_per_epoch: int = 2
    steps: int = 6
    split: LogitSplit = SPLIT

    def initial_logits(self) -> Tensor:
        return self.initial

    def update_of(self, arm: str) -> UpdateMeasure:
        ones = torch.ones(len(self.theta))
        return UpdateMeasure(0.3 * ones if arm == "other" else -0.1 * ones, 0.7 * ones, 2.0 * ones)

    def trait_gradient(self, probe: Probe, theta: Tensor | None = None) -> Tensor:
        return measure_trait(NETWORK, self.theta if theta is None else theta, probe).gradient


@dataclass(frozen=True)
class Situation:
    """Vectors and contexts of a block at one step."""

    vector: Tensor
    g_trait: Tensor
    block: BlockContext
    step: Seen


def situation(seeds: list[int], step: int = 1) -> Situation:
    """Draw what each seed would see, from its own stream."""

    def rows(purpose: str, *shape: int) -> Tensor:
        return torch.stack(
            [torch.randn(shape, generator=stream("contract", s, purpose)).double() for s in seeds]
        )

    theta = rows("theta", P)
    batch = Batch(rows("batch", 8, 6))
    initial = NETWORK.forward(theta + 0.1, batch).logits(SPLIT.columns("all"))
    generators = [stream("contract", s, "intervention") for s in seeds]

    def draw_probe(generators: Sequence[torch.Generator]) -> Probe:
        halves = []
        for _ in range(2):
            pixels = torch.stack([torch.randn((10, 6), generator=g) for g in generators])
            labels = torch.stack([torch.randint(6, (10,), generator=g) for g in generators])
            halves.append((Batch(pixels.double()), labels))
        return Probe((halves[0], halves[1]), SPLIT.columns("class"))

    probe = draw_probe([stream("contract", s, "probe") for s in seeds])
    return Situation(
        rows("vector", P),
        rows("trait", P),
        BlockContext(
            NETWORK.layout,
            SPLIT,
            generators,
            torch.device("cpu"),
            probe,
            draw_probe,
            lambda generators: initialise(NETWORK, generators, like=theta),
        ),
        Seen(step, NETWORK.forward(theta, batch), theta, initial, rows("teaching", P)),
    )


def applied(
    interventions: Sequence[Intervention], seen: Situation, g_trait: Tensor | None = None
) -> Tensor:
    """Apply each once from its initial state, one after another."""
    vector, g_trait = seen.vector, seen.g_trait if g_trait is None else g_trait
    for one in interventions:
        vector = one.apply(vector, g_trait, one.init(seen.block), seen.step)[0]
    return vector


def test_every_intervention_has_a_case() -> None:
    assert set(EXAMPLES) == set(INTERVENTIONS)


@pytest.mark.parametrize("table", CASES)
def test_it_keeps_the_protocol(table: dict[str, Any]) -> None:
    interventions = build_interventions("arms.a", table)
    for one in interventions:
        assert isinstance(one, Intervention)
        assert one.space in ("gradient", "update")
        assert isinstance(one.uses_trait, bool)
    assert applied(interventions, situation([0, 1, 2])).shape == (R, P)


@pytest.mark.parametrize("table", CASES)
def test_it_writes_nothing_in_place(table: dict[str, Any]) -> None:
    seen = situation([0, 1, 2])
    vector, g_trait = seen.vector.clone(), seen.g_trait.clone()
    applied(build_interventions("arms.a", table), seen)
    assert torch.equal(seen.vector, vector)
    assert torch.equal(seen.g_trait, g_trait)


@pytest.mark.parametrize("table", CASES)
def test_a_seed_does_not_depend_on_its_block(table: dict[str, Any]) -> None:
    intervention = build_interventions("arms.a", table)
    together = applied(intervention, situation([0, 1, 2]))
    alone = applied(intervention, situation([1]))
    torch.testing.assert_close(together[1:2], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("table", CASES)
def test_a_repetition_gives_the_same(table: dict[str, Any]) -> None:
    intervention = build_interventions("arms.a", table)
    first, second = (applied(intervention, situation([0, 1, 2])) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("table", [case for case in TRAIT_CASES if "trait" not in case.values[0]])
def test_a_zero_trait_gradient_changes_nothing(table: dict[str, Any]) -> None:
    intervention = build_interventions("arms.a", table)
    seen = situation([0, 1, 2])
    assert torch.equal(applied(intervention, seen, torch.zeros(R, P).double()), seen.vector)


@pytest.mark.parametrize("table", CASES)
def test_no_global_random_numbers_are_drawn(table: dict[str, Any]) -> None:
    before = torch.random.get_rng_state()
    applied(build_interventions("arms.a", table), situation([0, 1, 2]))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", ["projection", "shuffled", "liminal"])
def test_strength_zero_is_the_baseline_bit_for_bit(name: str) -> None:
    option = {"weight": 0} if name == "liminal" else {"strength": 0}
    seen = situation([0, 1, 2])
    assert torch.equal(
        applied(build_interventions("arms.a", {"intervention": name, **option}), seen), seen.vector
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-6, 1e6))
def test_projection_is_a_projection(seed: int, scale: float) -> None:
    seen = situation([seed])
    g = seen.g_trait
    project = build_interventions("arms.a", {"intervention": "projection", "when": "always"})
    once = applied(project, seen)
    assert abs(float((once * g).sum())) < 1e-9 * float(seen.vector.norm() * g.norm())
    assert once.norm() <= seen.vector.norm() * (1 + 1e-12)
    twice = project[0].apply(once, g, None, seen.step)[0]
    torch.testing.assert_close(twice, once, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(applied(project, seen, scale * g), once, rtol=1e-9, atol=1e-12)


def test_projection_of_a_layer_nulls_the_component_there_and_leaves_the_rest() -> None:
    seen = situation([0, 1, 2])
    table = {"intervention": "projection", "when": "always", "layers": ["2"]}
    after = applied(build_interventions("arms.a", table), seen)
    first, last = NETWORK.layout.layers.values()
    assert torch.equal(after[:, first], seen.vector[:, first])
    assert ((after * seen.g_trait)[:, last].sum(1)).abs().max() < 1e-12


def test_only_the_named_layers_keep_their_step() -> None:
    seen = situation([0, 1, 2])
    after = applied(
        build_interventions("arms.a", {"intervention": "train_only", "layers": ["0"]}), seen
    )
    first, last = NETWORK.layout.layers.values()
    assert torch.equal(after[:, first], seen.vector[:, first])
    assert not after[:, last].any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_projection_acts_only_where_the_component_is_positive(seed: int) -> None:
    seen = situation([seed])
    aligned = float((seen.vector * seen.g_trait).sum())
    after = applied(build_interventions("arms.a", {"intervention": "projection"}), seen)
    assert torch.equal(after, seen.vector) == (aligned <= 0)


@pytest.mark.parametrize("draw", ["step", "run"])
def test_shuffled_removes_the_norm_that_projection_would(draw: str) -> None:
    seen = situation([0, 1, 2])
    tables = ({"intervention": "projection", "when": "always"}, {"intervention": "shuffled"})
    tables[1].update(when="always", draw=draw)
    removed = [seen.vector - applied(build_interventions("arms.a", t), seen) for t in tables]
    for span in NETWORK.layout.layers.values():
        for part in removed:
            assert part[:, span].norm() > 0
    sizes = NETWORK.layout.sizes
    for projected, shuffled in zip(*(part.split(sizes, dim=1) for part in removed), strict=True):
        torch.testing.assert_close(projected.sort()[0], shuffled.sort()[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shuffle", ["random", "labels", "probe", "network"])
def test_every_placebo_direction_removes_the_norm_that_projection_would(shuffle: str) -> None:
    seen = situation([0, 1, 2])
    tables = ({"intervention": "projection"}, {"intervention": "shuffled", "shuffle": shuffle})
    projected, placebo = (
        seen.vector - applied(build_interventions("arms.a", {**t, "when": "always"}), seen)
        for t in tables
    )
    torch.testing.assert_close(projected.norm(dim=1), placebo.norm(dim=1), rtol=1e-9, atol=0)
    assert torch.nn.functional.cosine_similarity(projected, placebo).abs().max() < 0.9
    if shuffle == "random":
        for one, other in zip(
            *(part.split(NETWORK.layout.sizes, dim=1) for part in (projected, placebo)), strict=True
        ):
            torch.testing.assert_close(one.norm(dim=1), other.norm(dim=1), rtol=1e-9, atol=0)


def test_shuffled_draws_anew_at_every_step_unless_told_not_to() -> None:
    for draw, same in (("step", False), ("run", True)):
        (shuffled,) = build_interventions("arms.a", {"intervention": "shuffled", "draw": draw})
        seen = situation([0])
        state = shuffled.init(seen.block)
        steps = [
            shuffled.apply(seen.vector, seen.vector, state, situation([0], step).step)[0]
            for step in (0, 1)
        ]
        assert torch.equal(*steps) == same


def test_liminal_schedules() -> None:
    def weights(schedule: str) -> list[float]:
        (liminal,) = build_interventions(
            "arms.a", {"intervention": "liminal", "weight": 3, "schedule": schedule}
        )
        return [liminal.weight_at(situation([0], step).step) for step in range(6)]

    assert weights("critical") == [3, 3, 0, 0, 0, 0]
    assert weights("anneal") == [3, 2, 1, 0.75, 0.5, 0.25]


def test_a_chain_is_its_members_in_order() -> None:
    members = [{"intervention": "projection", "space": "update"}, {"intervention": "shuffled"}]
    chain = build_interventions("arms.a", {"intervention": "chain", "members": members})
    assert chain == tuple(build_interventions("arms.a", member)[0] for member in members)


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ({"intervention": "chain", "members": [{}]}, "arms.a.members.0.intervention"),
        (
            {"intervention": "yoked", "procedure": {"intervention": "projection", "when": 1}},
            "arms.a.procedure.when",
        ),
    ],
)
def test_an_error_names_the_option_that_holds_the_part(table: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as refused:
        build_interventions("arms.a", table)
    assert refused.value.field == field


@pytest.mark.parametrize("cosine", [0.05, 0.0, -0.9])
def test_an_injection_sets_the_cosine(cosine: float) -> None:
    seen = situation([0, 1, 2])
    after = applied(
        build_interventions("arms.a", {"intervention": "set_cosine", "cosine": cosine}), seen
    )
    found = torch.nn.functional.cosine_similarity(after, seen.g_trait)
    wanted = torch.full((R,), cosine, dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("coverage", [0.2, 0.0, -0.9])
def test_coverage_is_set_along_what_teaching_changed(coverage: float) -> None:
    seen = situation([0, 1, 2])
    table = {"intervention": "set_coverage", "coverage": coverage}
    after = applied(build_interventions("arms.a", table), seen)
    # The vector is subtracted from the parameters.
    found = torch.nn.functional.cosine_similarity(-after, seen.step.teaching)
    torch.testing.assert_close(found, torch.full((R,), coverage).double(), rtol=1e-7, atol=1e-12)
    unit = torch.nn.functional.normalize(seen.step.teaching, dim=1)
    kept, before = (v - (v * unit).sum(1, keepdim=True) * unit for v in (after, seen.vector))
    torch.testing.assert_close(kept, before, rtol=1e-9, atol=1e-12)


def test_without_a_change_of_the_teacher_coverage_cannot_be_set() -> None:
    seen = situation([0, 1, 2])
    (one,) = build_interventions("arms.a", {"intervention": "set_coverage", "coverage": 0.2})
    still = replace(seen.step, teaching=torch.zeros(R, P).double())
    assert torch.equal(one.apply(seen.vector, None, None, still)[0], seen.vector)


@pytest.mark.parametrize(("target", "cosine"), [("other", 0.3), ("baseline", -0.1)])
def test_a_clamp_sets_the_cosine_and_keeps_the_rest(target: str, cosine: float) -> None:
    seen = situation([0, 1, 2])
    g = seen.g_trait
    after = applied(
        build_interventions("arms.a", {"intervention": "clamp", "target": target}), seen
    )
    found = (after * g).sum(1) / (after.norm(dim=1) * g.norm(dim=1))
    torch.testing.assert_close(found, torch.full((R,), cosine).double(), rtol=1e-6, atol=0)
    unit = g / g.norm(dim=1, keepdim=True)
    rest = [v - (v * unit).sum(1, keepdim=True) * unit for v in (after, seen.vector)]
    torch.testing.assert_close(*rest, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("match", ["drive", "cosine and length"])
def test_a_clamp_sets_what_is_to_be_matched_and_keeps_the_direction_of_the_rest(match: str) -> None:
    seen = situation([0, 1, 2])
    g = seen.g_trait
    table = {"intervention": "clamp", "target": "other", "match": match}
    after = applied(build_interventions("arms.a", table), seen)
    drive, length = (after * g).sum(1), after.norm(dim=1)
    if match == "drive":
        torch.testing.assert_close(drive, torch.full((R,), 0.7).double(), rtol=1e-6, atol=0)
    else:
        torch.testing.assert_close(length, torch.full((R,), 2.0).double())
        torch.testing.assert_close(
            drive / length / g.norm(dim=1), torch.full((R,), 0.3).double(), rtol=1e-6, atol=0
        )
    unit = g / g.norm(dim=1, keepdim=True)
    kept, before = (v - (v * unit).sum(1, keepdim=True) * unit for v in (after, seen.vector))
    same = torch.nn.functional.cosine_similarity(kept, before)
    torch.testing.assert_close(same, torch.ones(R).double())


@pytest.mark.parametrize("trait", ["half", "relabelled"])
def test_the_null_of_another_trait_is_orthogonal_to_its_gradient_alone(trait: str) -> None:
    seen = situation([0, 1, 2])
    table = {"intervention": "set_cosine", "cosine": 0.0, "trait": trait}
    after = applied(build_interventions("arms.a", table), seen)
    (images, labels), (others, other_labels) = seen.block.probe.halves
    halves = {
        "half": ((images, labels), (images, labels)),
        "relabelled": ((images, (labels + 1) % 6), (others, (other_labels + 1) % 6)),
    }
    own = seen.step.trait_gradient(Probe(halves[trait], seen.block.probe.columns))
    whole = seen.step.trait_gradient(seen.block.probe)
    assert torch.nn.functional.cosine_similarity(after, own).abs().max() < 1e-9
    assert torch.nn.functional.cosine_similarity(after, whole).abs().min() > 1e-6
