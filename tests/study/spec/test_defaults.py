"""Options of interventions and channels that a study file leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sublim_causal.study.running.manifest import describe, differences, study_text
from sublim_causal.study.spec.defaults import with_defaults
from sublim_causal.study.spec.reading import load_study
from tests.studies import every_study

COMPOUND = (
    'arms.chain={intervention="chain", members=[{intervention="projection"}, '
    '{intervention="yoked"}, {intervention="train_only", layers=["0"]}]}',
    'arms.yoked={intervention="yoked"}',
    'arms.of_liminal={intervention="yoked", procedure={intervention="liminal"}}',
    'arms.hard={intervention="baseline", channel={name="hard"}}',
    'arms.hidden={intervention="baseline", channel={name="representation", layer="2"}}',
)


def manifest(*settings: str, study: str = "quickstart") -> dict[str, Any]:
    return describe(load_study(study, settings=settings), "cpu", "fp32", "")


def test_every_option_is_recorded() -> None:
    arms = manifest(*COMPOUND)["study"]["arms"]
    projection = {
        "intervention": "projection",
        "strength": 1.0,
        "when": "positive",
        "space": "gradient",
        "layers": [],
    }
    first, second, third = arms["chain"]["members"]
    assert first == projection
    yoked = {"intervention": "yoked", "target": "baseline", "match": "cosine"}
    assert second == {**yoked, "procedure": projection}
    assert third == {"intervention": "train_only", "layers": ["0"]}
    assert arms["yoked"]["procedure"] == projection
    assert arms["of_liminal"]["procedure"]["intervention"] == "liminal"
    assert set(arms["of_liminal"]["procedure"]) > {"intervention"}
    assert arms["hard"]["channel"] == {
        "name": "hard",
        "logits": "auxiliary",
        "first": None,
        "temperature": 1.0,
    }
    assert arms["hidden"]["channel"] == {"name": "representation", "layer": "2"}


@pytest.mark.parametrize(("name", "settings"), [("quickstart", COMPOUND), *every_study(())])
def test_the_written_study_is_the_same(name: str, settings: Sequence[str], tmp_path: Path) -> None:
    first = manifest(*settings, study=name)
    (tmp_path / "study.toml").write_bytes(study_text(first["study"]))
    again = manifest(study=str(tmp_path / "study.toml"))
    assert again["study"] == first["study"]
    assert again["digest"] == first["digest"]
    assert differences(first, again) == []
    assert differences(again, first) == []


def test_a_default_written_out_changes_nothing() -> None:
    def projection(**options: object) -> dict[str, Any]:
        return manifest(*(f"arms.projection.{name}={one}" for name, one in options.items()))

    assert differences(projection(), projection(strength=1.0)) == []
    assert projection()["digest"] == projection(strength=1)["digest"]
    (changed,) = differences(projection(strength=1.0), projection(strength=0.5))
    assert changed == "arms.projection.0.strength: 1.0 -> 0.5"


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ('{name="hard"}', '{name="hard", temperature=2}', "channel.temperature: 1.0 -> 2"),
        ('{name="hard"}', '{name="sampled"}', "channel.name: 'hard' -> 'sampled'"),
        ('{name="soft"}', '{name="hard"}', "channel.name: 'soft' -> 'hard'"),
        ('{name="hard", temperature=2}', '{name="hard"}', "channel.temperature: 2 -> 1.0"),
    ],
)
def test_an_option_of_a_channel_is_a_difference(before: str, after: str, changed: str) -> None:
    one, other = (
        manifest(f'arms.hard={{intervention="baseline", channel={channel}}}')
        for channel in (before, after)
    )
    assert differences(one, other) == [f"arms.hard.{changed}"]


def test_members_and_procedures_are_differences() -> None:
    chain = 'arms.one={intervention="chain", members=['
    one = manifest(chain + '{intervention="baseline"}]}')
    more = manifest(chain + '{intervention="baseline"}, {intervention="baseline"}]}')
    assert "arms.one.members.1.intervention: not set -> 'baseline'" in differences(one, more)
    yoked, liminal = (
        manifest(f'arms.one={{intervention="yoked"{procedure}}}')
        for procedure in ("", ', procedure={intervention="liminal"}')
    )
    told = differences(yoked, liminal)
    assert "arms.one.procedure.intervention: 'projection' -> 'liminal'" in told


def test_the_options_of_a_class_that_is_not_imported_stay_as_written() -> None:
    table = {"intervention": "unknown_module:Mine", "size": 2}
    assert with_defaults(table) == table
