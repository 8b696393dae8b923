"""What every registered task must keep, and a task of a user's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.networks.base import outputs
from sublim_causal.experiment.shared import Shared
from sublim_causal.experiment.tasks import TASKS, build_task, validate_task
from sublim_causal.experiment.tasks.trial import try_task, validate_columns
from sublim_causal.store.schema import EVALUATIONS, REPLICATES
from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.spec.study import Study
from tests.experiment.language_model import small_text
from tests.experiment.small import small_experiment, small_tensors
from tests.experiment.texts import small_texts
from tests.study.commands import sublim

EXAMPLE = Path(__file__).parents[2] / "examples" / "task"
OWN = "permutations:Permutations"
ARMS = {
    "baseline": {"intervention": "baseline"},
    "other": {"intervention": "baseline", "student": {"initialisation": "other"}},
}
TINY = ("teacher.epochs=1", "distillation.examples=64", "distillation.epochs=1")


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of the example can be imported."""
    monkeypatch.syspath_prepend(EXAMPLE)


def small(name: str, **sections: Any) -> Experiment:
    """Return a small experiment of a task."""
    if name == "images":
        return small_experiment(ARMS, data={"name": "digits"}, **sections)
    if name == "preference":
        return small_texts(ARMS, **sections)
    if name == "text":
        every = {arm: {**table, "channel": {"logits": "all"}} for arm, table in ARMS.items()}
        return small_text(every, task={"teacher": "tuned"}, **sections)
    return load_study(str(EXAMPLE / "permutations.toml"), settings=TINY)


def data(name: str) -> Any:
    """Return what `on_device` gives."""
    if name == "images":
        return small_tensors()
    task = build_task(small(name))
    return task.on_device(task.load(Path(), download=False), torch.device("cpu"), torch.float64)


@torch.no_grad()
def share(name: str, seeds: Sequence[int], after_step: Callable[[], None], keep: Any) -> Shared:
    """Let the task make what the arms of `seeds` share."""
    asked = small(name)
    task = build_task(asked)
    streams = SeedStreams(asked.name, seeds)
    with torch.random.fork_rng(devices=[]):
        network = task.build_network()
    return task.share(list(asked.arms), streams, network, data(name), after_step, keep)


def test_the_example_stands_for_those_of_users() -> None:
    assert ":" in OWN
    assert OWN not in TASKS


NAMES = pytest.mark.parametrize("name", [*TASKS, OWN])


@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_members_are_what_the_contract_says(name: str, dtype: torch.dtype) -> None:
    asked = small(name)
    task = build_task(asked)
    try_task(task, asked, task.build_network(), dtype)


@NAMES
def test_what_the_arms_of_a_seed_share_does_not_depend_on_its_block(name: str) -> None:
    before = torch.random.get_rng_state()
    steps, asked = 0, small(name)
    kept: list[tuple[str, int]] = []

    def count() -> None:
        nonlocal steps
        steps += 1

    def keep(role: str, generators: Any, train: Callable[[], Tensor]) -> Tensor:
        kept.append((role, len(generators)))
        return train()

    alone = share(name, [1], count, keep)
    phases = build_task(asked).phases(["baseline"])
    assert 0 < steps <= sum(phase.steps for phase in phases)
    assert all(count == 1 for _, count in kept)
    together = share(name, [0, 1], lambda: None, keep)
    for inputs, x in alone.inputs.items():
        assert torch.equal(together.inputs[inputs][1:], x)
        assert not torch.equal(together.inputs[inputs][0], x[0])
        for theta, other in ((together.theta_0, alone.theta_0), (together.teacher, alone.teacher)):
            # Logits, since Adam makes whole steps of the rounding of a derivative that is 0.
            z = outputs(alone.network, other, x, slice(None), alone.positions)
            both = outputs(alone.network, theta[1:], x, slice(None), alone.positions)
            torch.testing.assert_close(both, z, rtol=1e-7, atol=1e-9)
            assert not torch.equal(theta[:1], theta[1:])
    assert (together.theta_0 != together.teacher).any(dim=1).all()
    assert torch.equal(torch.random.get_rng_state(), before)


@NAMES
def test_all_that_a_block_needs_is_shared(name: str) -> None:
    shared = share(name, [0, 1], lambda: None, lambda role, generators, train: train())
    task, asked = build_task(small(name)), small(name)
    assert set(shared.taught) == set(asked.arms)
    for arm, taught in shared.taught.items():
        assert shared.inputs[taught.inputs].shape[:2] == (2, asked.distillation.examples), arm
        index = torch.tensor([[0, 5], [3, 3]])
        with torch.no_grad():
            forward = shared.network.forward(shared.theta_0, shared.batch(taught.inputs, index))
            loss, gradient = shared.targets[taught.targets].at(index).loss_and_gradient(forward)
        assert loss.shape == (2,)
        assert gradient.shape == shared.theta_0.shape
        assert (gradient != 0).any(dim=1).all()
    streams = SeedStreams(asked.name, [0, 1])
    other = shared.draw_reference(streams("student init"))
    assert other.shape == shared.theta_0.shape
    assert not torch.equal(other, shared.theta_0)
    first, again = (shared.draw_probe(streams("other probe")).halves[0][0].x for _ in range(2))
    assert torch.equal(first, again)
    with torch.no_grad():
        evaluated = shared.measures.evaluate(shared.theta_0)
        of_seed = shared.measures.of_seed()
        of_student = shared.measures.of_student(shared.theta_0, evaluated)
    validate_columns([*evaluated], EVALUATIONS, "evaluate", "evaluations")
    validate_columns([*of_seed, *of_student], REPLICATES, "of_seed", "replicates")
    outcome = task.outcome
    assert outcome.curve in evaluated
    assert outcome.name in of_student
    assert {outcome.start, outcome.teacher} <= set(of_seed)
    torch.testing.assert_close(of_student[outcome.name], of_seed[outcome.start].to(torch.float64))
    for figures in (evaluated, of_seed, of_student):
        assert all(values.shape == (2,) for values in figures.values())


def faulty(monkeypatch: pytest.MonkeyPatch, **members: Any) -> None:
    """Give the example's task other members."""
    validate_task(small(OWN))
    kind = sys.modules["permutations"].Permutations
    for name, member in members.items():
        monkeypatch.setattr(kind, name, member, raising=False)


def other_rehearsal(**fields: Any) -> Callable[..., Any]:
    """Return a `rehearse` whose material has other fields."""
    validate_task(small(OWN))
    rehearse = sys.modules["permutations"].Permutations.rehearse
    return lambda self, *given: replace(rehearse(self, *given), **fields)


@pytest.mark.parametrize(
    ("members", "expected", "came"),
    [
        (lambda: {"unused": "data"}, "unused is a tuple", "str"),
        (lambda: {"unused": ("pixels",)}, "fields of a study file", "names 'pixels'"),
        (lambda: {"outcome": "accuracy"}, "outcome gives a Outcome", "a str"),
        (lambda: {"phases": lambda self, arms: 3}, "phases returns a list", "a int"),
        (lambda: {"sizes": lambda self: None}, "sizes gives a Sizes", "None"),
        (
            lambda: {"sample": lambda self, count, g, dtype: torch.zeros(1, count, 3)},
            "sample gives a Batch",
            "a float32 tensor of shape (1, 8, 3)",
        ),
        (lambda: {"sample": lambda self, count: None}, "members of a task", "sample failed with"),
        (
            lambda: {"rehearse": other_rehearsal(theta_0=torch.zeros(2, 5))},
            "theta_0 is a float32 tensor of shape (2, ",
            "shape (2, 5)",
        ),
        (
            lambda: {"rehearse": other_rehearsal(inputs=lambda arm: torch.zeros(2, 3))},
            "inputs gives examples (2, D)",
            "shape (2, 3)",
        ),
        (lambda: {"rehearse": other_rehearsal(positions=(7,))}, "positions from 0 to 2", "(7,)"),
        (
            lambda: {"noise": lambda self, count, g: torch.randint(16, (count, 3))},
            "random numbers from the generators",
            "sample draws those of torch",
        ),
    ],
)
def test_a_wrong_member_is_refused_with_what_came(
    members: Callable[[], dict[str, Any]], expected: str, came: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty(monkeypatch, **members())
    asked = small(OWN)
    task = build_task(asked)
    with pytest.raises(RequestError) as refused:
        try_task(task, asked, task.build_network(), torch.float32)
    assert refused.value.field == "task.name"
    assert refused.value.value == OWN
    assert expected in str(refused.value)
    assert came in str(refused.value)


@pytest.mark.parametrize(
    ("name", "options", "field", "hint"),
    [
        ("permutations:Permutation", {}, "task.name", "did you mean 'Permutations'"),
        ("permutations:PermutationOptions", {}, "task.name", "a class with the methods of a task"),
        (OWN, {"other": 3}, "task.other", "others"),
        (OWN, {"others": 1}, "task.others", "from 2 to 64"),
        ("preferences", {}, "task.name", "images, preference, text, or module:Class"),
    ],
)
def test_a_wrong_task_is_refused(name: str, options: dict[str, Any], field: str, hint: str) -> None:
    table = small(OWN).model_dump(by_alias=True)
    with pytest.raises(RequestError) as refused:
        validate_task(Study.model_validate({**table, "task": {"name": name, **options}}))
    assert refused.value.field == field
    assert hint in str(refused.value)


@pytest.mark.end_to_end
def test_the_example_is_announced_and_run(tmp_path: Path) -> None:
    settings = [part for one in TINY for part in ("--set", one)]
    options = (*settings, "--seeds", "1", "--arms", "baseline,null", "--tracking-uri", "none")
    done = sublim("run", EXAMPLE / "permutations.toml", *options, "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"its own code: {OWN} in {EXAMPLE / 'permutations.py'}" in done.stderr
    assert "Accuracy of compositions" in done.stdout
    run = tmp_path / "runs" / "permutations"
    assert len(list(run.glob("networks/teacher/*"))) == 1
    again = sublim("status", run, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
