"""The picture of many claims, its text, and the command that makes both."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sublim_causal.analysis.estimates.types import Estimand, Estimate
from sublim_causal.analysis.plan.claims.rules import Condition
from sublim_causal.analysis.plan.claims.verdicts import ClaimVerdict, Finding, Standing
from sublim_causal.analysis.plan.results.results import Results
from sublim_causal.errors import RequestError
from sublim_causal.report.figures.claims import claims_figure, claims_text
from sublim_causal.study.commands.claims import claims


def judged(plan: str, name: str, verdict: Standing, unit: str = "", value: float = 0.0) -> Results:
    """Return results with one claim; without a unit it was not estimated."""
    condition = Condition(estimand="effect", holds="low > 0", fails="high < 0", essential=True)
    one = Estimand("effect", "An effect.", unit=unit)
    found = Estimate(one, value, 0.1, value - 0.2, value + 0.2, 0.95, 7.0, None, "t", 8)
    finding = Finding(condition, "open", found if unit else None, "")
    verdicts = (ClaimVerdict(name, "It is so.", verdict, (finding,)),)
    results = (found,) if unit else ()
    return Results(plan, "0" * 16, 0.95, "runs/a", "", ("a",), 8, {}, "0", results, verdicts)


@pytest.fixture
def several() -> list[Results]:
    """Claims in percent, points and nats, and one that was not estimated."""
    return [
        judged("decay", "share", "supported", "fraction", 0.5),
        judged("decay", "lost", "not supported", "difference of fractions", -0.3),
        judged("numbers", "odds", "partly supported", "nats", 2.0),
        judged("noise", "open", "undetermined"),
    ]


def test_claims_stand_below_their_plan_in_the_column_of_their_unit(several: list[Results]) -> None:
    percent, nats = claims_figure(several).axes
    assert [text.get_text() for text in percent.get_yticklabels()] == [
        *("decay, 8 seeds", "share"),
        *("decay, 8 seeds", "lost"),
        *("numbers, 8 seeds", "odds"),
        *("noise, 8 seeds", "open"),
    ]
    assert [ax.get_xlabel() for ax in (percent, nats)] == ["% or points", "nats"]
    numbers = {round(text.get_position()[1]): text.get_text() for text in nats.texts}
    assert numbers == {
        **dict.fromkeys((7, 5, 3, 1), ""),
        6: "50 % [30, 70]",
        4: "\N{MINUS SIGN}30 points [\N{MINUS SIGN}50, \N{MINUS SIGN}10]",
        2: "2.00 [1.80, 2.20]",
        0: "not estimated",
    }


def test_marks_have_the_colour_and_the_shape_of_their_verdict(several: list[Results]) -> None:
    marks = [
        {
            (float(line.get_xdata()[0]), float(line.get_ydata()[0])): (
                line.get_color(),
                line.get_marker(),
            )
            for line in ax.lines
            if line.get_marker() != "None" and math.isfinite(line.get_xdata()[0])
        }
        for ax in claims_figure(several).axes
    ]
    assert marks == [
        {(50.0, 6): ("#009E73", "o"), (-30.0, 4): ("#D55E00", "X")},
        {(2.0, 2): ("#E69F00", "s")},
    ]


def test_the_text_says_what_is_drawn(several: list[Results]) -> None:
    text = claims_text(several)
    assert text.startswith("4 claims, each with")
    assert "decay, share: supported, 50 % [30, 70], 8 seeds" in text
    assert "noise, open: undetermined, not estimated" in text


def test_the_command_writes_the_picture_with_its_text(
    several: list[Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    for number, one in enumerate(several):
        one.write(run / "report" / f"results-{number}.json")
    picture = tmp_path / "claims.svg"
    claims([run], picture)
    said = capsys.readouterr().out
    assert claims_text(several) in said
    assert f"<desc>{claims_text(several)}</desc>" in picture.read_text(encoding="utf-8")
    claims([run / "report" / "results-0.json"], tmp_path / "claims.pdf")
    assert (tmp_path / "claims.pdf").read_bytes().startswith(b"%PDF")


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"svg or \.pdf"):
        claims([tmp_path], tmp_path / "claims.png")
    with pytest.raises(RequestError, match="sublim-causal analyse"):
        claims([tmp_path], tmp_path / "claims.svg")
    without = judged("decay", "share", "supported", "fraction", math.nan)
    with pytest.raises(RequestError, match="one plan with claims"):
        claims_figure([Results(*[getattr(without, name) for name in list(vars(without))[:-1]])])
