"""The registry of interventions: one file a family, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from sublim_causal.declared import validate_declared
from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.imports import import_object
from sublim_causal.experiment.interventions.base import Intervention
from sublim_causal.experiment.interventions.baseline import Baseline
from sublim_causal.experiment.interventions.chain import Chain
from sublim_causal.experiment.interventions.liminal import Liminal
from sublim_causal.experiment.interventions.projection import Projection
from sublim_causal.experiment.interventions.shuffled import Shuffled

INTERVENTIONS: dict[str, type[Any]] = {
    "baseline": Baseline,
    "projection": Projection,
    "liminal": Liminal,
    "shuffled": Shuffled,
    "chain": Chain,
}


def build_intervention(field: str, table: Mapping[str, Any]) -> Intervention:
    """Build the intervention that an arm's table names, with its options.

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
    if name in INTERVENTIONS:
        factory = INTERVENTIONS[name]
    elif ":" in name:
        factory = import_object(f"{field}.intervention", name)
    else:
        raise RequestError(
            f"{field}.intervention",
            name,
            f"{', '.join(INTERVENTIONS)}, or module:Class",
            nearest(name, INTERVENTIONS),
        )
    try:
        if isinstance(factory, type) and issubclass(factory, BaseModel):
            built: Any = validate_declared(factory, options, field)
        else:
            built = factory(**options)
    except TypeError as error:
        raise RequestError(field, options, f"the options of {name}", str(error)) from error
    if not isinstance(built, Intervention):
        raise RequestError(
            f"{field}.intervention", name, "a class with space, uses_trait, init and apply"
        )
    return built
