"""What a field of a declared file allows, in words: read from the model that validates it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PLAIN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    dict: "a table",
    list: "a list",
    tuple: "a list",
}
PLURAL: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "strings", dict: "tables"}
LIMITS: dict[type, str] = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt", MultipleOf: "multiple_of"}
COMPARED: dict[type, str] = {
    Ge: "at least",
    Gt: "above",
    Le: "at most",
    Lt: "below",
    MultipleOf: "a multiple of",
}


@dataclass(frozen=True)
class Place:
    """What may stand at one place of a file: a type, and the constraints on it."""

    annotation: Any
    constraints: tuple[object, ...] = ()


def place_of(field: FieldInfo) -> Place:
    """Return what `field` takes."""
    return Place(field.annotation, tuple(field.metadata))


def place_at(model: type[BaseModel], path: Iterable[object]) -> Place | None:
    """Return what may stand at `path` of a table that `model` validates; None if unknown."""
    place = Place(model)
    for key in path:
        inner = _inner(place, key)
        if inner is None:
            return None
        place = inner
    return place


def _inner(place: Place, key: object) -> Place | None:
    """Return what stands under `key` of what may stand at `place`."""
    for kind in _alternatives(place.annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                if key in (name, field.alias):
                    return place_of(field)
        arguments = get_args(kind)
        if get_origin(kind) in (dict, Mapping):
            return Place(arguments[1])
        if get_origin(kind) in (list, tuple, Sequence) and isinstance(key, int):
            return Place(arguments[0])
    return None


def takes_numbers_only(place: Place) -> bool:
    """Return whether only numbers, or nothing at all, may stand at `place`."""
    kinds = {*_alternatives(place.annotation)}
    return bool(kinds) and kinds <= {int, float}


def models_at(place: Place | None) -> Iterator[type[BaseModel]]:
    """Yield the models whose fields may stand at `place`."""
    for kind in _alternatives(place.annotation) if place else ():
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, without None: a file leaves out what is not given."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for part in get_args(annotation) for one in _alternatives(part)]
    return [] if annotation is NoneType else [annotation]


def choices(place: Place) -> list[str]:
    """Return the values that a field of listed values takes; none for any other field."""
    kinds = _alternatives(place.annotation)
    if not kinds or any(get_origin(kind) is not Literal for kind in kinds):
        return []
    return list(dict.fromkeys(str(value) for kind in kinds for value in get_args(kind)))


def in_words(place: Place) -> str:
    """Describe what may stand at `place`: ``"a number from 0 to 10"``; empty if unknown."""
    if listed := choices(place):
        return either(map(repr, listed))
    words = [_kind_in_words(kind) for kind in _alternatives(place.annotation)]
    if not all(words):
        return ""
    unit = "character" if words == [PLAIN[str]] else "entry"
    return f"{either(dict.fromkeys(words))} {_bounds(place.constraints, unit)}".rstrip()


def either(values: Iterable[str]) -> str:
    """Write ``"a, b or c"``."""
    *before, last = values
    return f"{', '.join(before)} or {last}" if before else last


def _kind_in_words(kind: Any) -> str:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return either(map(repr, get_args(kind)))
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        return "a table"
    if origin in (list, tuple):
        element: Any = next(iter(get_args(kind)), None)
        several = PLURAL.get(get_origin(element) or element)
        return f"a list of {several}" if several else "a list"
    return PLAIN.get(origin, "")


def _bounds(constraints: Sequence[object], unit: str) -> str:
    """Describe what `constraints` demand: ``"from 0 to 10"``, ``"with at least 1 entry"``."""
    limits: dict[type, Any] = {}
    parts = []
    for one in constraints:
        if isinstance(one, Len | MinLen) and one.min_length:
            parts.append(f"with at least {_count(one.min_length, unit)}")
        if isinstance(one, Len | MaxLen) and one.max_length is not None:
            parts.append(f"with at most {_count(one.max_length, unit)}")
        for kind, name in LIMITS.items():
            if isinstance(one, kind):
                limits[kind] = getattr(one, name)
    if Ge in limits and Le in limits:
        parts.append(f"from {_number(limits.pop(Ge))} to {_number(limits.pop(Le))}")
    compared = [f"{COMPARED[kind]} {_number(limit)}" for kind, limit in limits.items()]
    if compared:
        parts.append(f"that is {' and '.join(compared)}")
    return ", ".join(parts)


def _count(number: int, unit: str) -> str:
    several = f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"
    return f"{number:,} {unit if number == 1 else several}"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
