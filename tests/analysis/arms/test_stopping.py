"""Stopping rules: how they are read, and what is refused."""

import pytest

from sublim_causal.analysis.arms.stopping import (
    LOOKS,
    Goal,
    Stopping,
    parse_goal,
    recorded_rule,
    resolve_rule,
)
from sublim_causal.errors import RequestError

ARMS = ["baseline", "projection", "half (0.5)"]


def rule(until: str = "excludes 0", **fields):
    return resolve_rule(Stopping(until=until, **fields), ARMS, "baseline")


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("width(projection - baseline) < 0.04", Goal("width", 0.04, "projection - baseline")),
        ("width(half (0.5) - baseline)<4e-2", Goal("width", 0.04, "half (0.5) - baseline")),
        ("projection - baseline excludes -0.1", Goal("excludes", -0.1, "projection - baseline")),
        ("half (0.5) - baseline equivalent .05", Goal("equivalent", 0.05, "half (0.5) - baseline")),
        ("excludes 0", Goal("excludes", 0.0)),
        ("width < 1", Goal("width", 1.0)),
    ],
)
def test_a_goal_is_read(text, goal):
    assert parse_goal(text) == goal


@pytest.mark.parametrize(
    "text", ["", "p < 0.05", "width(a - b) > 0.1", "width < 0", "equivalent -1", "excludes nan"]
)
def test_another_goal_is_refused(text):
    with pytest.raises(RequestError, match=r"width\(ARM - REFERENCE\) < WIDTH"):
        parse_goal(text)


def test_a_rule_written_out_is_the_same_rule():
    found = rule("equivalent 0.05", max_seeds=64, boundary="anytime")
    assert found.until == "projection - baseline equivalent 0.05"
    assert found.looks == (*LOOKS, 64)
    assert rule(found.until, max_seeds=64, boundary="anytime") == found
    assert recorded_rule(found.record()) == found
    assert recorded_rule(found.record()).digest == found.record()["digest"]


def test_every_part_of_a_rule_changes_its_digest():
    others = [
        rule("excludes 0.1"),
        rule("width < 0.1"),
        rule("half (0.5) - baseline excludes 0"),
        rule(at=(8, 12)),
        rule(max_seeds=31),
        rule(boundary="anytime"),
        rule(level=0.9),
        rule(outcome="robust_accuracy"),
    ]
    assert len({rule().digest, *(one.digest for one in others)}) == len(others) + 1


def test_the_only_other_arm_is_meant_where_none_is_named():
    found = resolve_rule(Stopping(until="excludes 0"), ["plain", "other"], "plain")
    assert (found.arm, found.reference) == ("other", "plain")
    with pytest.raises(RequestError, match="name two of the study's arms: plain, a, b"):
        resolve_rule(Stopping(until="excludes 0"), ["plain", "a", "b"], "plain")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"until": "projektion - baseline excludes 0"}, "stopping.until"),
        ({"until": "baseline - baseline excludes 0"}, "stopping.until"),
        ({"at": (2, 8)}, "stopping.at"),
        ({"at": (8, 8)}, "stopping.at"),
        ({"max_seeds": 29}, "stopping.max_seeds"),
        ({"outcome": "accuracy"}, "stopping.outcome"),
    ],
)
def test_a_wrong_rule_is_refused_by_field(fields, field):
    with pytest.raises(RequestError) as error:
        rule(**fields)
    assert error.value.field == field
