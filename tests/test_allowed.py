"""What fields allow, in words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from sublim_causal.allowed import choices, in_words, place_at


class Inner(BaseModel):
    layers: tuple[str, ...] = Field(default=(), min_length=1)
    label: str = Field(max_length=300, default="")


class Outer(BaseModel):
    strength: float = Field(ge=0, le=10)
    rate: float | None = Field(gt=0, le=1000)
    size: Annotated[int, Field(ge=2, multiple_of=2)]
    kind: Literal["a", "b"] | Literal["c"]
    entries: list[dict[str, Any]]
    flag: bool
    class_: str = Field(alias="class")
    inner: dict[str, Inner]
    either: int | str


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("strength", "a number from 0 to 10"),
        ("rate", "a number that is above 0 and at most 1,000"),
        ("size", "a whole number that is at least 2 and a multiple of 2"),
        ("kind", "'a', 'b' or 'c'"),
        ("entries", "a list of tables"),
        ("flag", "true or false"),
        ("class", "a string"),
        ("inner", "a table"),
        ("inner.any name", "a table"),
        ("inner.x.layers", "a list of strings with at least 1 entry"),
        ("inner.x.label", "a string with at most 300 characters"),
        ("either", "a whole number or a string"),
    ],
)
def test_what_is_allowed_is_described_in_words(path: str, words: str) -> None:
    place = place_at(Outer, path.split("."))
    assert place
    assert in_words(place) == words


def test_a_place_that_no_field_has_is_unknown() -> None:
    assert place_at(Outer, ["inner", "x", "colour"]) is None
    assert place_at(Outer, ["strength", "x"]) is None


def test_listed_values_of_a_union_are_its_choices() -> None:
    kind, strength = place_at(Outer, ["kind"]), place_at(Outer, ["strength"])
    assert kind
    assert strength
    assert choices(kind) == ["a", "b", "c"]
    assert choices(strength) == []
