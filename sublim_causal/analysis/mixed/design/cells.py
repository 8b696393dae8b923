"""Where each stratum of the data belongs: levels, groups, and cells within a group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.analysis.mixed.design.chunks import sorted_levels
from sublim_causal.analysis.mixed.formula.terms import MixedFormula
from sublim_causal.errors import DataError, RequestError

DEFAULT_REFERENCE = "baseline"


def ordered_levels(
    labels: pd.DataFrame, asked: Mapping[str, str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Reference levels first: asked for, else ``baseline``, else the first."""
    references = {}
    ordered = {}
    for name in labels:
        column = labels[name].cat.remove_unused_categories()
        levels = list(column.cat.categories)
        shown = [str(level) for level in levels]
        default = DEFAULT_REFERENCE if DEFAULT_REFERENCE in shown else shown[0]
        reference = asked.get(str(name), default)
        if reference not in shown:
            raise RequestError(f"formula: C({name}, reference)", reference, ", ".join(shown))
        first = levels[shown.index(reference)]
        rest = [level for level in levels if level != first]
        ordered[str(name)] = column.cat.reorder_categories([first, *rest])
        references[str(name)] = reference
    return pd.DataFrame(ordered, index=labels.index), references


def factor_combinations(factors: pd.DataFrame) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Number of each stratum's combination of levels, and the distinct combinations."""
    if factors.shape[1] == 0:
        return np.zeros(len(factors), dtype=np.int64), pd.DataFrame(index=[0])
    codes = np.column_stack([factors[name].cat.codes for name in factors])
    _, first, inverse = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    return inverse.reshape(-1).astype(np.int64), factors.iloc[first].reset_index(drop=True)


@dataclass(frozen=True)
class Cells:
    """Where each stratum goes: group and place of its cell within the group."""

    groups: list[object]
    group: NDArray[np.int64]
    place: NDArray[np.int64]
    count: int
    table: pd.DataFrame

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.groups), int(self.place.max()) + 1


def cell_keys(formula: MixedFormula, arm_variances: bool, serial: bool) -> list[str]:
    """Factors whose levels make cells; without a cell term, what the residuals need."""
    if formula.cell:
        return [formula.cell]
    return formula.factors if arm_variances or serial else []


def group_cells(labels: pd.DataFrame, keys: list[str], formula: MixedFormula) -> Cells:
    group = labels[formula.group].cat
    groups = sorted_levels(group.categories)
    position = {level: i for i, level in enumerate(groups)}
    if len(groups) < 2:
        raise DataError(f"{formula.group} has {len(groups)} level; at least 2 are needed")
    owner = np.array([position[level] for level in labels[formula.group]], dtype=np.int64)
    codes = np.column_stack([owner, *(labels[key].cat.codes for key in keys)])
    unique, inverse = np.unique(codes, axis=0, return_inverse=True)
    starts = np.searchsorted(unique[:, 0], np.arange(len(groups)))
    place = np.arange(len(unique)) - starts[unique[:, 0]]
    shown = [labels[key].cat.categories.astype(str).to_numpy(dtype=object) for key in keys]
    parts = [names[codes] for names, codes in zip(shown, unique.T[1:], strict=True)]
    label = [":".join(row) for row in zip(*parts, strict=True)] if keys else ""
    table = pd.DataFrame({"group": unique[:, 0], "place": place, "label": label})
    inverse = inverse.reshape(-1)
    return Cells(groups, owner, place[inverse].astype(np.int64), len(unique), table)


def residual_variances(
    labels: pd.DataFrame, cells: Cells, formula: MixedFormula, arm_variances: bool
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Levels of the factor whose residual variances differ, and the level of each cell."""
    stratum = np.zeros(cells.shape, dtype=np.int64)
    if not arm_variances:
        return ("",), stratum
    name = formula.cell or next(iter(formula.factors), "")
    if not name:
        raise RequestError(
            "arm_variances", True, "a formula with a factor", "add arm, or (1 | seed:arm)"
        )
    stratum[cells.group, cells.place] = labels[name].cat.codes
    return tuple(str(level) for level in labels[name].cat.categories), stratum
