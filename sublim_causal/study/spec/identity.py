"""What identifies a study: the definition of its numbers, and the digest of that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sublim_causal.declared import flatten
from sublim_causal.experiment.tasks import build_task, is_part
from sublim_causal.study.spec.defaults import (
    channel_options,
    default_options,
    model_options,
    part_options,
)
from sublim_causal.study.spec.study import Study

NEWER = (
    "teacher.weight_decay",
    "teacher.decay",
    "distillation.weight_decay",
    "distillation.decay",
    "distillation.until_loss",
)
"""Fields that are newer than recorded runs; they define a study where they are set."""


def definition(study: Study, precision: str) -> dict[str, Any]:
    """Everything that determines the numbers of a replicate, flat, by dotted name.

    The number of seeds and the choice of arms are not part of it, so both can grow; nor are the arm
    with which the others are compared, a stopping rule, and whether texts and weights are kept; nor
    sections that the task does not use, nor an attack that there is not, the task `images` and
    `NEWER` fields that are not set, so that studies from before there were any keep theirs.
    """
    left_out = {"title", "seeds", "reference", "stopping", "arms"}
    if study.attack is None:
        left_out.add("attack")
    if study.task.name == "images":
        left_out.add("task")
    table = study.model_dump(mode="json", by_alias=True, exclude=left_out)
    for kept in ("texts", "weights"):
        del table["measure"][kept]
    task = build_task(study)
    options = task.options.model_dump(mode="json")
    own = model_options(study.model)
    table["model"]["options"] = {**own, **table["model"]["options"]}
    flat = {**flatten(table), **{f"task.{name}": value for name, value in options.items()}}
    unset = {*task.unused, *(name for name in NEWER if flat[name] is None)}
    used = {name: value for name, value in flat.items() if not is_part(name, unset)}
    return {**used, "precision": precision}


def arm_definition(study: Study, arm: str) -> dict[str, Any]:
    """The arm's intervention with its options, flat.

    The options of its i-th part are named ``i.<option>``, with all defaults filled in; the fields
    that the study file declares for the arm follow as written there. A default makes no difference,
    whether it is written out or not.
    """
    config = study.arms[arm]
    declared = flatten(config.model_dump(mode="json", exclude_defaults=True), lists=True)
    default = default_options(config.model_dump(mode="json"))
    options = {**part_options(config), **channel_options(config)}
    written = {
        name: one for name, one in declared.items() if name not in default or default[name] != one
    }
    return {**options, **written}


def digest(study: Study, precision: str) -> str:
    """Hash of what defines the experiment: 16 hexadecimal digits."""
    arms = {arm: arm_definition(study, arm) for arm in study.arms}
    return digest_of(definition(study, precision), arms)


def digest_of(definition: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of recorded definitions: of the experiment, and of its arms by name."""
    text = json.dumps([definition, arms], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
