"""Read study files: TOML tables, and changes of their fields by ``--set``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sublim_causal.declared import (
    find_declared,
    list_declared,
    naming_file,
    read_toml,
    validate_declared,
)
from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.optimisation import validate_optimisation
from sublim_causal.experiment.tasks import validate_task
from sublim_causal.study.spec.study import Study

QUOTED = r"""\s*(?:"(?:[^"\\]|\\.)*"|'[^']*')\s*"""


PART = re.compile(rf"{QUOTED}|[^.=\"']+")


SETTING = re.compile(
    rf"(?P<key>(?:{PART.pattern})(?:\.(?:{PART.pattern}))*)=(?P<value>.*)", re.DOTALL
)
"""A change of a field, ``key.of.section = value``; parts of the key may be quoted."""


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
    with naming_file(_source(name, settings)):
        validate_task(study)
        study.interventions()
        study.channels()
    return study


@contextmanager
def naming_study_file(name: str, settings: Sequence[str]) -> Iterator[None]:
    """Name the file of a study in errors about its fields that are found once it is loaded."""
    try:
        yield
    except RequestError as error:
        if error.field.partition(".")[0] not in Study.model_fields:
            raise
        raise error.in_file(_source(name, settings)) from error.__cause__


def _source(name: str, settings: Sequence[str]) -> str:
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
    source = _source(name, settings)
    with naming_file(source):
        validate_reference(table.get("reference"), table.get("arms"))
    if arms is not None:
        table["arms"] = select_arms(table.get("arms", {}), list(arms))
        if table.get("reference") not in table["arms"]:
            table.pop("reference", None)
    with naming_file(source):
        study = validate_declared(Study, table, "")
        validate_optimisation(study)
        if ":" not in study.task.name:  # a class of one's own is imported later
            validate_task(study)
    return study


def apply_setting(table: dict[str, Any], setting: str) -> None:
    """Write one ``key=value`` into the nested `table`.

    A key is dotted; a part with a dot or a ``=`` is quoted, as in TOML. Shells remove quotes, so
    the name of an existing field may contain dots without them.

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
    """Refuse a reference that is not an arm of the study.

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
        If the study has no such arm, or its `arms` are not a table.
    """
    if not isinstance(arms, Mapping):
        raise RequestError("arms", arms, "a table of arms by name")
    for name in names:
        if name not in arms:
            raise RequestError(
                "--arms", name, f"arms of the study: {', '.join(arms)}", nearest(name, arms)
            )
    return {name: arms[name] for name in names}


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
