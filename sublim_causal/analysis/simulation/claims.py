r"""How often the claims of the built-in plan get a wrong verdict, in worlds of known truth.

A simulated study has the arms of the study ``causal``. Each run acquires a share of what its seed
can acquire,

.. math:: Y_{sa} = c + \max(0, A_s \tau_a + \sigma_a e_{sa}), \qquad
    A_s \sim N(0.396, 0.102^2),

with c chance; a run's :math:`\tau_a` follows from the alignment of its arm, as the world says.
Sizes are those of MNIST (docs/findings.md): alignment a = 1 is the baseline's, 0 the exact null,
-1.5 that of projection before Adam.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pandas as pd

from sublim_causal.analysis.estimates.types import Floats
from sublim_causal.analysis.plan.declaration import Contrasted, Declared
from sublim_causal.analysis.plan.file import Plan, load_plan
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.plan.run import run_plan
from sublim_causal.analysis.plan.verdicts import Standing

SIZES = (8, 16)
"""Seeds of a simulated study."""
CHANCE, ACQUIRED, ACQUIRED_SD = 0.095, 0.396, 0.102
N_EPOCHS, STEPS_PER_EPOCH = 5, 8
_COSINE = 0.04
"""Mean cosine of the baseline's updates."""

ARMS: Mapping[str, Mapping[str, object]] = {
    "baseline": {"intervention": "baseline"},
    "projection": {"intervention": "projection"},
    "liminal": {"intervention": "liminal"},
    "shuffled": {"intervention": "shuffled"},
    "shuffled update": {"intervention": "shuffled", "space": "update"},
    "yoked": {"intervention": "yoked", "target": "baseline"},
    "reverse": {"intervention": "yoked", "target": "projection"},
    "null": {"intervention": "set_cosine", "cosine": 0.0},
    "projection null": {"intervention": "chain"},
    "update 0.25": {"intervention": "projection", "space": "update", "strength": 0.25},
    "update 0.5": {"intervention": "projection", "space": "update", "strength": 0.5},
    "update 1": {"intervention": "projection", "space": "update", "strength": 1.0},
    "update 2": {"intervention": "projection", "space": "update", "strength": 2.0},
}
PAPER_ARMS = ("baseline", "projection", "liminal", "shuffled")
ALIGNMENT = {
    **dict.fromkeys(ARMS, 1.0),
    **dict.fromkeys(("projection", "reverse"), -1.5),
    "liminal": 0.9,
    "null": 0.0,
    "projection null": 0.0,
    "update 0.25": 0.75,
    "update 0.5": 0.5,
    "update 1": 0.0,
    "update 2": -1.0,
}
"""Alignment of each arm, the baseline's as unit."""
NOISE = {**dict.fromkeys(ARMS, 0.045), "baseline": 0.0, "liminal": 0.035} | dict.fromkeys(
    ("shuffled", "shuffled update"), 0.012
)
"""Standard deviation of a run's accuracy around what its seed and arm say."""

Transfer = dict[str, float]
"""Share of what a seed can acquire that an arm acquires; below 0 it stays at chance."""


def _of_alignment(curve: Callable[[float], float], **own: float) -> Transfer:
    found = {arm: curve(a) for arm, a in ALIGNMENT.items()}
    return found | {"liminal": 0.904} | {arm.replace("_", " "): value for arm, value in own.items()}


def _measured(a: float) -> float:
    """Transfer at alignment `a` as on MNIST: convex, a seventh of it at 0."""
    return float(np.interp(a, [-1.5, -1, 0, 0.5, 0.75, 1], [0, 0.02, 0.147, 0.39, 0.62, 1]))


_UNMOVED: Transfer = dict.fromkeys(ARMS, 1.0)
_PROCEDURE = {"projection": 0.02, "yoked": 0.02, "projection null": 0.02, "liminal": 0.904} | {
    f"update {dose:g}": max(0.02, 1 - 0.85 * dose) for dose in (0.25, 0.5, 1, 2)
}
"""Projecting harms by itself, whatever the alignment; nothing else does anything."""


@dataclass(frozen=True)
class World:
    """What is true in a simulated world.

    Attributes
    ----------
    title : str
        In words.
    true : frozenset of str
        Claims of the plan that are true there.
    transfer : mapping of str to float
        tau of each arm.
    arms : tuple of str
        Arms that were run.
    no_goal : frozenset of str
        True claims that the run cannot or need not support: arms are missing, or the control fails.
    epochs : tuple of float
        The baseline's alignment by epoch, as a multiple of its usual one.
    collapse : mapping of str to float
        Share of an arm's seeds that acquire nothing.
    skewed : bool
        Whether the control's noise is exponential instead of normal.
    control_sd : float
        Standard deviation of the control's noise.
    """

    title: str
    true: frozenset[str]
    transfer: Transfer
    arms: tuple[str, ...] = tuple(ARMS)
    no_goal: frozenset[str] = frozenset()
    epochs: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    collapse: Mapping[str, float] = field(default_factory=dict)
    skewed: bool = False
    control_sd: float = 0.012


PERSISTS, CAUSES, LIMINAL, CONTROL = (
    "alignment_persists",
    "alignment_causes_transfer",
    "liminal_attenuates",
    "control_is_equivalent",
)
CLAIMS = (PERSISTS, CAUSES, LIMINAL, CONTROL)
_OTHERS = frozenset({PERSISTS, LIMINAL, CONTROL})
_FALLEN = 1 - 0.05 / ACQUIRED
"""Transfer of a control that is five points worse."""

WORLDS = (
    World("true, sizes of MNIST", _OTHERS | {CAUSES}, _of_alignment(_measured)),
    World("true and linear, floor at chance", _OTHERS | {CAUSES}, _of_alignment(float)),
    World(
        "true, the paper's four arms only",
        _OTHERS | {CAUSES},
        _of_alignment(_measured),
        PAPER_ARMS,
        no_goal=frozenset({CAUSES, CONTROL}),
    ),
    World("alignment is a by-product", _OTHERS, _UNMOVED | _PROCEDURE),
    World(
        "by-product, the paper's four arms only",
        _OTHERS,
        _UNMOVED | _PROCEDURE,
        PAPER_ARMS,
        no_goal=frozenset({CONTROL}),
    ),
    World(
        "40 % of the transfer takes another path",
        _OTHERS,
        _of_alignment(lambda a: 0.4 + 0.6 * a),
    ),
    World(
        "80 % of the transfer takes another path, floor",
        _OTHERS,
        _of_alignment(lambda a: 0.8 + 0.2 * a - 2.0 * max(0.0, -a)),
    ),
    World(
        "40 % of projection's effect is direct",
        _OTHERS,
        _of_alignment(_measured, yoked=0.6, reverse=0.4, projection_null=0.0),
    ),
    World("nothing matters", frozenset({PERSISTS, CONTROL}), _UNMOVED),
    World(
        "alignment gone after the second epoch",
        _OTHERS - {PERSISTS} | {CAUSES},
        _of_alignment(_measured),
        epochs=(1.0, 1.0, 0.0, 0.0, 0.0),
    ),
    World(
        "a tenth of the seeds collapses: liminal keeps half on average",
        frozenset({PERSISTS, CAUSES, CONTROL}),
        _of_alignment(_measured, liminal=0.5 / 0.9),
        collapse={"liminal": 0.1},
    ),
    World(
        "an eighth of the seeds collapses: the control loses five points on average",
        frozenset({PERSISTS, LIMINAL, CAUSES}),
        _of_alignment(_measured),
        no_goal=frozenset({CAUSES}),
        collapse=dict.fromkeys(("shuffled", "shuffled update"), 0.05 / ACQUIRED),
    ),
    World(
        "the control loses five points, skewed",
        frozenset({PERSISTS, LIMINAL, CAUSES}),
        no_goal=frozenset({CAUSES}),
        transfer=_of_alignment(_measured, shuffled=_FALLEN, shuffled_update=_FALLEN),
        skewed=True,
        control_sd=0.03,
    ),
)


@cache
def claims_plan() -> Plan:
    """Return the built-in plan ``causal`` with the estimands that its claims stand on."""
    plan = load_plan("causal")
    named = [one.estimand for claim in plan.claims for one in claim.condition]
    kept = [each for one in plan.estimands for each in _named(one, named)]
    return plan.model_copy(update={"estimands": tuple(kept)})


def _named(one: Declared, names: Sequence[str]) -> Iterator[Declared]:
    """Yield `one` if a name is that of a result of it; of a contrast of each arm, those named."""
    if one.endings() is not None:
        if set(names) & {"_".join(filter(None, (one.name, end))) for end in one.endings() or ()}:
            yield one
        return
    for arm in ARMS:
        name = f"{one.name}_{arm}"
        if isinstance(one, Contrasted) and name in names:
            yield one.model_copy(update={"name": name, "contrast": f"{arm} - {one.reference}"})


def simulate_study(world: World, n_seeds: int, rng: np.random.Generator) -> Record:
    """Draw the replicates of every arm, and the baseline's alignment step by step."""
    acquired = np.maximum(0.1, ACQUIRED + ACQUIRED_SD * rng.standard_normal(n_seeds))
    runs = [_runs(world, arm, acquired, rng) for arm in world.arms]
    return Record(
        name="simulated",
        run_id="0" * 32,
        arms=world.arms,
        replicates=pd.concat(runs, ignore_index=True),
        steps=_steps(world, n_seeds, rng),
        layers=pd.DataFrame(),
        interventions={arm: ARMS[arm] for arm in world.arms},
        reference="baseline",
    )


def _runs(world: World, arm: str, acquired: Floats, rng: np.random.Generator) -> pd.DataFrame:
    n = len(acquired)
    control = arm in ("shuffled", "shuffled update")
    sd = world.control_sd if control else NOISE[arm]
    # The long tail of a skewed control points down.
    noise = sd * (1 - rng.exponential(size=n) if control and world.skewed else rng.normal(size=n))
    gained = acquired * world.transfer[arm] + noise
    gained = np.where(rng.random(n) < world.collapse.get(arm, 0.0), 0.0, gained)
    # At chance accuracy varies little.
    floor = 0.008 * rng.standard_normal(n)
    cosine = _COSINE * ALIGNMENT[arm] * (1 + 0.05 * rng.standard_normal(n))
    return pd.DataFrame(
        {
            "seed": np.arange(n),
            "arm": arm,
            "status": "complete",
            "reason": "",
            "initial_accuracy": CHANCE,
            "final_accuracy": CHANCE + np.where(gained > 0.02, gained, floor),
            "mean_cos_update": cosine,
        }
    )


def _steps(world: World, n_seeds: int, rng: np.random.Generator) -> pd.DataFrame:
    """Alignment of the baseline: 0.0082 (sd over seeds 0.0013), positive in 86 % of steps."""
    shape = (n_seeds, N_EPOCHS, STEPS_PER_EPOCH)
    level = (0.0082 + 0.0013 * rng.standard_normal((n_seeds, 1, 1))) * np.array(world.epochs)[
        None, :, None
    ]
    # Over an epoch of MNIST, 49 steps, the mean of the steps' noise has a seventh of its size.
    gradient = level + 0.0076 * np.sqrt(STEPS_PER_EPOCH / 49) * rng.standard_normal(shape)
    seed, epoch, _ = np.indices(shape)
    return pd.DataFrame(
        {
            "seed": seed.ravel(),
            "arm": "baseline",
            "step": np.tile(np.arange(N_EPOCHS * STEPS_PER_EPOCH), n_seeds),
            "epoch": epoch.ravel(),
            "cos_gradient": gradient.ravel(),
            "cos_update": 5 * gradient.ravel(),
        }
    )


@dataclass(frozen=True)
class Rates:
    """How often each verdict was given.

    Attributes
    ----------
    world, claim : str
        Names.
    n_seeds, n_sim : int
        Seeds of a study, and studies.
    true, has_goal : bool
        Whether the claim is true in the world, and whether it should be supported there.
    shares : mapping of str to float
        Share of the studies with each verdict.
    """

    world: str
    claim: str
    n_seeds: int
    n_sim: int
    true: bool
    has_goal: bool
    shares: Mapping[Standing, float]

    @property
    def wrong(self) -> bool:
        """Whether a rate misses its goal.

        False and supported above 5 % or partly above 10 %; true at 16 seeds, supported below 80 %.
        """
        supported, partly = self.shares["supported"], self.shares["partly supported"]
        if not self.true:
            return supported > 0.05 or partly > 0.1
        return self.has_goal and self.n_seeds >= max(SIZES) and supported < 0.8


def study_world(world: World, n_seeds: int, n_sim: int, seed: int) -> tuple[Rates, ...]:
    """Simulate `n_sim` studies of `world` and judge the claims of each."""
    rng = np.random.default_rng([seed, WORLDS.index(world), n_seeds])
    counts: dict[str, Counter[Standing]] = {name: Counter() for name in CLAIMS}
    for _ in range(n_sim):
        found = run_plan(simulate_study(world, n_seeds, rng), claims_plan())
        for one in found.verdicts:
            counts[one.name][one.verdict] += 1
    return tuple(
        Rates(
            world=world.title,
            claim=name,
            n_seeds=n_seeds,
            n_sim=n_sim,
            true=name in world.true,
            has_goal=name in world.true - world.no_goal,
            shares={one: counts[name][one] / n_sim for one in STANDINGS},
        )
        for name in CLAIMS
    )


STANDINGS: tuple[Standing, ...] = (
    "supported",
    "partly supported",
    "undetermined",
    "not supported",
)


def claims_section(rates: Sequence[Rates]) -> Iterator[str]:
    """Return the section of the page: a table for each claim."""
    counts = sorted({one.n_sim for one in rates})
    most = counts[-1]
    fewer = " (fewer where a world says so)" * (len(counts) > 1)
    yield "## How often a claim gets a wrong verdict"
    yield ""
    yield (
        f"{most} simulated studies per world{fewer} with the arms of the study `causal` and the "
        "sizes of MNIST, judged by the rules of the plan `causal`. Each cell: supported / partly "
        "supported / undetermined / not supported, in % of the studies. Goals: a false claim is "
        "supported in at most 5 % and partly supported in at most 10 %; a true one is supported "
        "in at least 80 % with 16 seeds. Bold: the goal is missed."
    )
    yield ""
    yield (
        "Alike seeds do not exclude that some collapse: where an eighth of them does, "
        f"{100 * 0.875**8:.0f} % of studies of 8 seeds and {100 * 0.875**16:.0f} % of those of 16 "
        "see none, so that no rule which accepts 16 alike seeds of one arm can be wrong less "
        "often. `control_is_equivalent` therefore counts the runs of both controls, before and "
        "after the optimizer (`collapse_loss`), as draws of one probability: with 16 seeds it "
        f"needs 32 runs without a collapse, which {100 * 0.875**32:.0f} % of such studies have. "
        "With one control it needs 23 seeds and is undetermined with 16; where one control alone "
        "collapses, or both on the same seeds, counting both does not help. "
        "Claims of what remains on average carry a lower limit that allows "
        "for it (`retained_bound`)."
    )
    yield ""
    for claim in CLAIMS:
        mine = [one for one in rates if one.claim == claim]
        sizes = list(dict.fromkeys(one.n_seeds for one in mine))
        yield f"### `{claim}`"
        yield ""
        yield f"| world | the claim is | {' | '.join(f'{n} seeds' for n in sizes)} |"
        yield "| --- | --- |" + " --- |" * len(sizes)
        cells = {(one.world, one.n_seeds): one for one in mine}
        for world in dict.fromkeys(one.world for one in mine):
            row = [cells[world, n] for n in sizes]
            truth = ("true" if row[0].has_goal else "true, no goal") if row[0].true else "false"
            said = f", {row[0].n_sim} studies" * (row[0].n_sim < most)
            yield f"| {world}{said} | {truth} | {' | '.join(map(_cell, row))} |"
        yield ""


def _cell(one: Rates) -> str:
    text = " / ".join(f"{100 * one.shares[name]:.0f}" for name in STANDINGS)
    return f"**{text}**" if one.wrong else text
