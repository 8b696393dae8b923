"""The registry of interventions: one file a family, one row each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.imports import Contract, build_named
from sublim_causal.experiment.interventions.base import (
    Compound,
    Following,
    Intervention,
    OfLayers,
    Space,
)
from sublim_causal.experiment.interventions.baseline import Baseline
from sublim_causal.experiment.interventions.chain import Chain
from sublim_causal.experiment.interventions.liminal import Liminal
from sublim_causal.experiment.interventions.projection import Projection
from sublim_causal.experiment.interventions.set_cosine import SetCosine, SetCoverage
from sublim_causal.experiment.interventions.shuffled import Shuffled
from sublim_causal.experiment.interventions.train_only import TrainOnly
from sublim_causal.experiment.interventions.yoked import Clamp, Yoked

INTERVENTIONS: dict[str, type[Any]] = {
    "baseline": Baseline,
    "projection": Projection,
    "liminal": Liminal,
    "shuffled": Shuffled,
    "set_cosine": SetCosine,
    "set_coverage": SetCoverage,
    "train_only": TrainOnly,
    "clamp": Clamp,
    "yoked": Yoked,
    "chain": Chain,
}
"""By the name that a study file uses; a `Compound` consists of several in order."""


CONTRACT = Contract(
    "a class with space, uses_trait, init(context) and apply(vector, g_trait, state, context)",
    (frozenset({"init", "apply"}), frozenset({"expand"})),
)


def build_interventions(field: str, table: Mapping[str, Any]) -> tuple[Intervention, ...]:
    """Build what an arm's table names: one intervention, or the parts of a compound one.

    Parameters
    ----------
    field : str
        Name of the table (``arms.projection``), for error messages.
    table : mapping
        ``intervention`` and the options of that intervention.

    Raises
    ------
    RequestError
        If the intervention is unknown, refuses an option, or does not keep the contract.
    """
    return tuple(built for _, built in build_parts(field, table))


def build_parts(
    field: str, table: Mapping[str, Any]
) -> Iterator[tuple[Mapping[str, Any], Intervention]]:
    """Yield the table and the intervention of every part, as `build_interventions`."""
    built = build_named(INTERVENTIONS, CONTRACT, field, "intervention", table)
    if isinstance(built, Compound):
        for i, part in enumerate(built.expand()):
            yield from build_parts(f"{field}.{_place_of(part, built) or i}", part)
        return
    name = table["intervention"]
    if not isinstance(built, Intervention):
        raise RequestError(f"{field}.intervention", name, CONTRACT.words)
    _validate_members(f"{field}.intervention", name, built)
    yield table, built


def _place_of(part: Mapping[str, Any], built: Compound) -> str:
    """Return the option of `built` that holds the table `part`; empty if none does."""
    for name, value in getattr(built, "__dict__", {}).items():
        if value == part:
            return name
        if isinstance(value, list | tuple) and part in value:
            return f"{name}.{value.index(part)}"
    return ""


def _validate_members(field: str, name: str, built: Intervention) -> None:
    """Refuse members of an intervention that break the contract."""
    spaces = get_args(Space)
    if built.space not in spaces:
        allowed = f"space of {name}: {' or '.join(map(repr, spaces))}"
        raise RequestError(field, built.space, allowed, nearest(str(built.space), spaces))
    if not isinstance(built.uses_trait, bool):
        raise RequestError(field, built.uses_trait, f"uses_trait of {name}: True or False")
    for kind, member in ((Following, "follows"), (OfLayers, "layers")):
        value: Any = getattr(built, member) if isinstance(built, kind) else ()
        if not isinstance(value, tuple | list) or not all(isinstance(v, str) for v in value):
            raise RequestError(field, value, f"{member} of {name}: a tuple of names")


def validate_layers(
    interventions: Mapping[str, Sequence[Intervention]], layers: Iterable[str]
) -> None:
    """Refuse an arm whose interventions name a layer that the network does not have.

    Raises
    ------
    RequestError
    """
    known = list(layers)
    for arm, members in interventions.items():
        named = {layer for one in members if isinstance(one, OfLayers) for layer in one.layers}
        for layer in sorted(named):
            if layer not in known:
                raise RequestError(
                    f"arms.{arm}.layers",
                    layer,
                    f"layers of the model: {', '.join(known)}",
                    nearest(layer, known),
                )


def followed_arms(interventions: Sequence[Intervention]) -> set[str]:
    """Return the arms whose alignment the interventions of one arm follow."""
    return {arm for one in interventions if isinstance(one, Following) for arm in one.follows}
