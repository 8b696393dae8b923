"""Every option of the interventions and channels that an arm's table names, defaults among them."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from sublim_causal.declared import flatten
from sublim_causal.experiment.config import ArmConfig, ChannelConfig, ModelConfig
from sublim_causal.experiment.interventions import INTERVENTIONS, build_interventions, build_parts
from sublim_causal.experiment.teaching.channels import CHANNELS

DEFAULT_CHANNEL = ChannelConfig().name


def with_defaults(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of an arm, or of a member of one, with all options written out.

    Those of its channel, of the members of a chain and of a yoked procedure are among them. Nothing
    is imported: a class of the study's own has its defaults if its module was imported before.
    """
    name = arm.get("intervention")
    full = {"intervention": name, **_defaults(INTERVENTIONS, name), **arm}
    if isinstance(full.get("members"), list | tuple):
        full["members"] = [with_defaults(member) for member in full["members"]]
    for key, complete in (("procedure", with_defaults), ("channel", _channel)):
        if isinstance(full.get(key), Mapping):
            full[key] = complete(full[key])
    return full


def default_options(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options that an arm's table may leave out are then, by dotted name.

    What has to be named, such as the members of a chain, is not among them. Those of the i-th part
    are named ``i.<option>`` too, so that an option that is newer than a run has its default.
    """
    name = arm.get("channel", {}).get("name", DEFAULT_CHANNEL)
    channel = {"name": DEFAULT_CHANNEL, **_defaults(CHANNELS, name)}
    return {
        **flatten(ArmConfig(intervention="").model_dump(mode="json")),
        **flatten({"channel": channel}),
        **_part_defaults(arm),
        **_default_options(arm),
    }


def part_options(arm: ArmConfig) -> dict[str, Any]:
    """Return all options of the parts of an arm's intervention: ``i.<option>``, flat.

    Of a class that is not a pydantic model, those that JSON can hold.
    """
    parts: dict[str, dict[str, Any]] = {}
    for i, (table, built) in enumerate(build_parts("arms", arm.procedure)):
        if isinstance(built, BaseModel):
            parts[str(i)] = built.model_dump(mode="json")
            continue
        given = {name: one for name, one in table.items() if name != "intervention"}
        if options := {**class_defaults(type(built)), **given}:
            parts[str(i)] = options
    return flatten(parts)


def channel_options(arm: ArmConfig) -> dict[str, Any]:
    """Return all options of an arm's channel that is a class of the study's own, flat."""
    if ":" not in arm.channel.name:
        return {}
    return flatten({"channel": _channel(arm.channel.model_dump(mode="json"))})


def model_options(model: ModelConfig) -> dict[str, Any]:
    """Return the defaults of a model that is a class of the study's own, by dotted name.

    None are known before its module is imported.
    """
    return {f"model.options.{name}": one for name, one in _defaults({}, model.class_).items()}


def _part_defaults(arm: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: one for key, one in arm.items() if key not in ArmConfig.model_fields}
    named = {"intervention": arm.get("intervention"), **options}
    parts = enumerate(build_interventions("arms", named))
    return flatten({str(i): class_defaults(type(part)) for i, part in parts})


def _default_options(table: Mapping[str, Any]) -> dict[str, Any]:
    name = {"intervention": table.get("intervention")}
    found = {key: one for key, one in with_defaults(name).items() if key != "intervention"}
    flat = flatten(found, lists=True)
    parts = {}
    if isinstance(table.get("procedure"), Mapping):
        parts["procedure"] = table["procedure"]
    for i, member in enumerate(table.get("members", ())):
        parts[f"members.{i}"] = member
    for prefix, part in parts.items():
        flat.update({f"{prefix}.{key}": one for key, one in _default_options(part).items()})
    return flat


def _channel(table: Mapping[str, Any]) -> dict[str, Any]:
    name = table.get("name", DEFAULT_CHANNEL)
    return {"name": name, **_defaults(CHANNELS, name), **table}


def _defaults(registry: Mapping[str, type[Any]], name: object) -> dict[str, Any]:
    """Return the defaults of a class by its name; none of an unknown one."""
    found = _class(registry, name)
    return {} if found is None else class_defaults(found)


def class_defaults(found: type[Any]) -> dict[str, Any]:
    """Return the options of a class that have defaults, as JSON has them.

    Of a class that is not a pydantic model, those that JSON can hold.
    """
    if issubclass(found, BaseModel):
        return found.model_construct().model_dump(mode="json", warnings=False)
    parameters = inspect.signature(found).parameters.values()
    plain = {one.name: one.default for one in parameters if _is_plain(one.default)}
    return dict(json.loads(json.dumps(plain)))


def _class(registry: Mapping[str, type[Any]], name: object) -> type[Any] | None:
    if not isinstance(name, str):
        return None
    module, _, own = name.partition(":")
    found = registry.get(name) or getattr(sys.modules.get(module), own, None)
    return found if isinstance(found, type) else None


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
