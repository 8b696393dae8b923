"""The registry of interventions: one file a family, one row each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from sublim_causal.declared import validate_declared
from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.imports import import_object
from sublim_causal.experiment.interventions.base import Intervention
from sublim_causal.experiment.interventions.baseline import Baseline
from sublim_causal.experiment.interventions.chain import Chain
from sublim_causal.experiment.interventions.inject import Inject
from sublim_causal.experiment.interventions.liminal import Liminal
from sublim_causal.experiment.interventions.only import Only
from sublim_causal.experiment.interventions.projection import Projection
from sublim_causal.experiment.interventions.shuffled import Shuffled
from sublim_causal.experiment.interventions.yoked import Clamp, Yoked

INTERVENTIONS: dict[str, type[Any]] = {
    "baseline": Baseline,
    "projection": Projection,
    "liminal": Liminal,
    "shuffled": Shuffled,
    "inject": Inject,
    "only": Only,
    "clamp": Clamp,
    "yoked": Yoked,
    "chain": Chain,
}
"""By the name that a study file uses; those with ``parts`` stand for several in order."""


def build_interventions(field: str, table: Mapping[str, Any]) -> tuple[Intervention, ...]:
    """Build what an arm's table names: one intervention, or the parts of a compound one.

    Parameters
    ----------
    field : str
        Where the table stands (``arms.projection``), for error messages.
    table : mapping
        ``intervention`` and the options of that intervention.

    Raises
    ------
    RequestError
        If the intervention is unknown, refuses an option, or does not keep the contract.
    """
    options = dict(table)
    name = str(options.pop("intervention", ""))
    factory = find_intervention(field, name)
    try:
        if isinstance(factory, type) and issubclass(factory, BaseModel):
            built: Any = validate_declared(factory, options, field)
        else:
            built = factory(**options)
    except TypeError as error:
        raise RequestError(field, options, f"the options of {name}", str(error)) from error
    if hasattr(built, "parts"):
        return tuple(
            intervention
            for i, part in enumerate(built.parts())
            for intervention in build_interventions(f"{field}.{i}", part)
        )
    if not isinstance(built, Intervention):
        raise RequestError(
            f"{field}.intervention", name, "a class with space, uses_trait, init and apply"
        )
    return (built,)


def find_intervention(field: str, name: str) -> Any:
    """Return the registered class, or the user's own ``module:Class``.

    Raises
    ------
    RequestError
        If there is none of this name.
    """
    if name in INTERVENTIONS:
        return INTERVENTIONS[name]
    if ":" in name:
        return import_object(f"{field}.intervention", name)
    raise RequestError(
        f"{field}.intervention",
        name,
        f"{', '.join(INTERVENTIONS)}, or module:Class",
        nearest(name, INTERVENTIONS),
    )


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
        for layer in {layer for one in members for layer in getattr(one, "layers", ())}:
            if layer not in known:
                raise RequestError(
                    f"arms.{arm}.layers",
                    layer,
                    f"layers of the model: {', '.join(known)}",
                    nearest(layer, known),
                )


def followed_arms(interventions: Sequence[Intervention]) -> set[str]:
    """Return the arms whose alignment the interventions of one arm follow."""
    return {arm for one in interventions for arm in getattr(one, "follows", ())}
