"""Study files: TOML tables that say what is run, validated into a frozen `Study`."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, Field

from sublim_causal.analysis.arms.stopping import Stopping
from sublim_causal.declared import (
    find_declared,
    flatten,
    list_declared,
    naming_file,
    read_toml,
    validate_declared,
)
from sublim_causal.errors import HIDDEN, RequestError, nearest
from sublim_causal.experiment.config import ArmConfig, Experiment
from sublim_causal.experiment.imports import named_classes
from sublim_causal.experiment.interventions import build_interventions, followed_arms
from sublim_causal.experiment.interventions.base import Intervention
from sublim_causal.experiment.tasks import build_task, is_part, validate_task
from sublim_causal.experiment.teaching.channels import Channel, build_channel

QUOTED = r"""\s*(?:"(?:[^"\\]|\\.)*"|'[^']*')\s*"""
PART = re.compile(rf"{QUOTED}|[^.=\"']+")
SETTING = re.compile(
    rf"(?P<key>(?:{PART.pattern})(?:\.(?:{PART.pattern}))*)=(?P<value>.*)", re.DOTALL
)
"""A change of a field, ``key.of.section = value``; parts of the key may be quoted."""
FILE_NAME_BYTES = 255
"""The longest name that the usual file systems take."""


def _is_file_name(name: str) -> str:
    if not re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,99}", name):
        raise ValueError(
            "1 to 100 characters, none of them a slash, a backslash or a control character, and "
            "no dot at the beginning"
        )
    return _is_visible(name)


def _is_visible(text: str) -> str:
    if HIDDEN.search(text):
        raise ValueError("no characters that command a terminal or change the direction of text")
    return text


def _fits(name: str, file: str) -> str:
    if (size := len(file.encode())) > FILE_NAME_BYTES:
        raise ValueError(
            f"a name that takes at most {FILE_NAME_BYTES} bytes in the file system; this one takes "
            f"{size}: shorten it, or use plain letters"
        )
    return name


Name = Annotated[
    str,
    AfterValidator(_is_file_name),
    AfterValidator(lambda name: _fits(name, name)),
]
"""A name that is a file name: no slash, no control character, no leading dot, 100 at most."""


def _is_arm_name(name: str) -> str:
    if name in ("each", "all", "reference") or " - " in name or name != name.strip():
        raise ValueError(
            "a name other than 'each', 'all' and 'reference', without ' - ' and without a space at "
            "either end: a plan writes contrasts as 'ARM - REFERENCE', every arm as 'each', and "
            "the arm of comparison as 'reference'"
        )
    return name


ArmName = Annotated[
    Name,
    AfterValidator(_is_arm_name),
    AfterValidator(lambda name: _fits(name, f"arm={quote(name, safe='')}")),
]
"""A name whose directory in the tables is a file name too: there ``ä`` takes six bytes."""


class Study(Experiment):
    """A study: an experiment, and for how many seeds it is run."""

    name: Name
    """Name of the study and, unless `--out` says otherwise, of its directory under `runs/`."""
    title: Annotated[str, AfterValidator(_is_visible)] = Field(default="", max_length=300)
    """What the study is about, in one line."""
    seeds: int = Field(default=8, ge=1, le=1_000_000)
    """Replicates: seeds 0 to seeds - 1, each run under every arm."""
    reference: str | None = None
    """The arm with which the others are compared; default: the first one whose intervention is
    `baseline`."""
    stopping: Stopping | None = None
    """Add seeds until something is seen, instead of running `seeds`; default: no rule."""
    arms: dict[ArmName, ArmConfig] = Field(min_length=1)
    """Arms by name; all arms of a seed share initialisation, teacher, inputs, order and probe."""

    def named_classes(self) -> list[str]:
        """Return the classes outside this package that the study names, as ``module:Class``."""
        arms = (arm.model_dump() for arm in self.arms.values())
        found = [*named_classes({"name": self.model.class_}), *named_classes(list(arms))]
        return list(dict.fromkeys(found))

    def interventions(self) -> dict[str, tuple[Intervention, ...]]:
        """Build every arm's interventions.

        Raises
        ------
        RequestError
            If an arm names an unknown intervention, a wrong option, or an arm it cannot follow.
        """
        built = {
            name: build_interventions(f"arms.{name}", arm.procedure)
            for name, arm in self.arms.items()
        }
        validate_followed(built)
        return built

    def channels(self) -> dict[str, Channel]:
        """Build every arm's channel.

        Raises
        ------
        RequestError
            If an arm names an unknown channel, or a wrong option.
        """
        split = build_task(self).split
        return {
            name: build_channel(f"arms.{name}.channel", arm.channel.model_dump(), split)
            for name, arm in self.arms.items()
        }

    def with_followed(self, arms: Iterable[str]) -> list[str]:
        """Return `arms` and the arms they follow, those first."""
        built, arms = self.interventions(), list(arms)
        first = set().union(*(followed_arms(built[arm]) for arm in arms))
        return [arm for arm in built if arm in first] + [arm for arm in arms if arm not in first]


def validate_followed(interventions: Mapping[str, Sequence[Intervention]]) -> None:
    """Refuse an arm that follows one that is missing, or one that follows another.

    Raises
    ------
    RequestError
    """
    follows = {arm: followed_arms(members) for arm, members in interventions.items()}
    leaders = [arm for arm, followed in follows.items() if not followed]
    for arm, followed in follows.items():
        for one in sorted(followed.difference(leaders)):
            raise RequestError(
                f"arms.{arm}",
                one,
                f"an arm of the study that follows no other: {', '.join(leaders)}",
                nearest(one, leaders) or "add it to the study's arms",
            )


def load_study(
    name: str,
    *,
    settings: Iterable[str] = (),
    seeds: int | None = None,
    arms: Iterable[str] | None = None,
    before_import: Callable[[Study], None] | None = None,
) -> Study:
    """Read and validate a study file, and import the classes that it names as ``module:Class``.

    Parameters
    ----------
    name : str
        A path, or the name of a built-in study.
    settings : iterable of str
        Changes ``field.of.section=value``; values are TOML, anything else is a string.
    seeds : int, optional
        Replaces the file's number of seeds.
    arms : iterable of str, optional
        The arms to keep, in this order.
    before_import : callable, optional
        Called with the study before anything that it names is imported.

    Raises
    ------
    RequestError
        If the file, a field, an arm or an intervention is wrong.
    """
    settings = list(settings)
    study = read_study(name, settings=settings, seeds=seeds, arms=arms)
    if before_import is not None:
        before_import(study)
    with naming_file(_told(name, settings)):
        study.interventions()
        study.channels()
    return study


def _told(name: str, settings: Sequence[str]) -> str:
    """Return what errors call the source of a study's fields."""
    path = find_declared("studies", name)
    return f"{path} with --set" if settings else str(path)


def read_study(
    name: str,
    *,
    settings: Iterable[str] = (),
    seeds: int | None = None,
    arms: Iterable[str] | None = None,
) -> Study:
    """Read a study file as `load_study` does; nothing is imported, so options stay unvalidated.

    Raises
    ------
    RequestError
        If the file, a field or an arm is wrong.
    """
    settings = list(settings)
    path = find_declared("studies", name)
    table = read_toml(path, "studies")
    for setting in settings:
        apply_setting(table, setting)
    if seeds is not None:
        table["seeds"] = seeds
    told = _told(name, settings)
    with naming_file(told):
        validate_reference(table.get("reference"), table.get("arms"))
    if arms is not None:
        table["arms"] = select_arms(table.get("arms", {}), list(arms))
        if table.get("reference") not in table["arms"]:
            table.pop("reference", None)
    with naming_file(told):
        study = validate_declared(Study, table, "")
        validate_task(study)
    return study


def apply_setting(table: dict[str, Any], setting: str) -> None:
    """Write one ``key=value`` into the nested `table`.

    A key is dotted; a part that holds a dot or a ``=`` stands in quotes, as in TOML. Shells take
    quotes away, so the name of a field that is there may hold dots without them.

    Raises
    ------
    RequestError
        If it has no ``=``, or its path runs through a plain value.
    """
    found = SETTING.fullmatch(setting)
    if not found:
        raise RequestError(
            "--set", setting, "field=value, as in distillation.epochs=2 or arms.'a.b'.strength=2"
        )
    try:
        value = tomllib.loads(f"value = {found['value']}")["value"]
    except (ValueError, RecursionError):
        value = found["value"].strip()
    path = [_unquoted(part) for part in re.findall(PART, found["key"])]
    while path:
        size = next((n for n in range(len(path), 0, -1) if ".".join(path[:n]) in table), 1)
        key, path = ".".join(path[:size]), path[size:]
        if not path:
            table[key] = value
            return
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RequestError("--set", setting, f"a field; {key!r} has no fields")


def _unquoted(part: str) -> str:
    """Return the key that `part` of a dotted key means."""
    part = part.strip()
    if not part.startswith(('"', "'")):
        return part
    try:
        return str(next(iter(tomllib.loads(f"{part} = 0"))))
    except tomllib.TOMLDecodeError as error:
        raise RequestError("--set", part, f"a key as in a TOML file ({error})") from None


def validate_reference(reference: object, arms: object) -> None:
    """Refuse a reference that is no arm of the study.

    Raises
    ------
    RequestError
    """
    if reference is None or not isinstance(arms, Mapping):
        return
    if not isinstance(reference, str) or reference not in arms:
        allowed = f"an arm of the study: {', '.join(arms)}"
        raise RequestError("reference", reference, allowed, nearest(str(reference), arms))


def select_arms(arms: object, names: list[str]) -> dict[str, Any]:
    """Return the named arms.

    Raises
    ------
    RequestError
        If the study has no such arm, or its `arms` are no table.
    """
    if not isinstance(arms, Mapping):
        raise RequestError("arms", arms, "a table of arms by name")
    for name in names:
        if name not in arms:
            raise RequestError(
                "--arms", name, f"arms of the study: {', '.join(arms)}", nearest(name, arms)
            )
    return {name: arms[name] for name in names}


def definition(study: Study, precision: str) -> dict[str, Any]:
    """Everything that determines the numbers of a replicate, flat, by dotted name.

    The number of seeds and the choice of arms are not part of it, so both can grow; nor are the arm
    with which the others are compared, a stopping rule, and whether weights are kept; nor sections
    that the task does not use, nor an attack that there is not and the task `images`, so that
    studies from before there were any keep their definition.
    """
    left_out = {"title", "seeds", "reference", "stopping", "arms"}
    if study.attack is None:
        left_out.add("attack")
    if study.task.name == "images":
        left_out.add("task")
    table = study.model_dump(mode="json", by_alias=True, exclude=left_out)
    del table["measure"]["weights"]
    task = build_task(study)
    options = task.options.model_dump(mode="json")
    flat = {**flatten(table), **{f"task.{name}": value for name, value in options.items()}}
    kept = {name: value for name, value in flat.items() if not is_part(name, task.unused)}
    return {**kept, "precision": precision}


def arm_definition(study: Study, arm: str) -> dict[str, Any]:
    """The arm's intervention with its options, flat.

    The options of its i-th part stand under ``i.<option>`` with all defaults filled in, and what
    the study file declares for the arm as it is written there.
    """
    built = study.interventions()[arm]
    options = {
        str(i): one.model_dump(mode="json")
        for i, one in enumerate(built)
        if isinstance(one, BaseModel)
    }
    return flatten({**options, **study.arms[arm].model_dump(mode="json", exclude_defaults=True)})


def digest(study: Study, precision: str) -> str:
    """Hash of what defines the experiment: 16 hexadecimal digits."""
    arms = {arm: arm_definition(study, arm) for arm in study.arms}
    return digest_of(definition(study, precision), arms)


def digest_of(definition: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of recorded definitions: of the experiment, and of its arms by name."""
    text = json.dumps([definition, arms], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def built_in_studies() -> dict[str, str]:
    """Return the titles of the built-in studies by name."""
    return {
        name: str(read_toml(path, "studies").get("title", ""))
        for name, path in list_declared("studies").items()
    }


def study_folder(name: str) -> Path:
    """Return the folder of a study's own modules: that of its file, or the working directory.

    The latter is for a built-in study, whose file names no module.
    """
    if name in list_declared("studies"):
        return Path.cwd()
    return find_declared("studies", name).resolve().parent
