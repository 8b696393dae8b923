r"""Worlds in which claims are judged: what is true of alignment, noise and acquisition.

A simulated study has the arms of the study ``causal``. Each run acquires a share of what its seed
can acquire,

.. math:: Y_{sa} = c + \max(0, A_s \tau_a + \sigma_a e_{sa}), \qquad
    A_s \sim N(0.396, 0.102^2),

with c chance; a run's :math:`\tau_a` follows from the alignment of its arm, as the world says.
Sizes are those of MNIST (docs/findings.md): alignment a = 1 is the baseline's, 0 the exact null,
-1.5 that of projection before Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

SIZES = (8, 16)
"""Seeds of a simulated study."""
CHANCE, ACQUIRED, ACQUIRED_SD = 0.095, 0.396, 0.102
N_EPOCHS, STEPS_PER_EPOCH = 5, 8
COSINE = 0.04
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
"""Standard deviation of a run's accuracy given its seed and arm."""

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
"""Transfer where projecting harms by itself, whatever the alignment, and nothing else matters."""


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
        "40 % of the transfer takes another path", _OTHERS, _of_alignment(lambda a: 0.4 + 0.6 * a)
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
