"""What a plan can ask of the ledger: shares explained, and arm differences split exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from sublim_causal.analysis.estimates.settings import Settings
from sublim_causal.analysis.estimates.types import Estimand, NotEstimable, Result, too_few
from sublim_causal.analysis.plan.declaration import Contrasted, OfArm, WithInterval
from sublim_causal.analysis.plan.method import Method, Pair, absent, as_declared, by_pair
from sublim_causal.analysis.plan.record import Record
from sublim_causal.analysis.steps.ledger import Term, explained_shares, layer_shares
from sublim_causal.analysis.steps.ledger_split import (
    DriveFactors,
    LedgerSplit,
    drive_factors,
    split_difference,
)

_ENTRIES = ("drive", "drive_end", "gain")


class ExplainedShare(OfArm):
    """Share of the decrease in trait loss that a ledger entry sums to, a ratio of sums."""

    unit = "1"
    term: Term = "drive"
    """Entry of the ledger; ``drive_mid`` is the trapezoid rule. Layers have ``drive`` alone."""
    by: Literal["run", "epoch", "layer"] = "run"
    """One share per arm, or one for each of its epochs or layers."""

    def step_columns(self) -> tuple[str, ...]:
        """The entries, and the epoch."""
        return (*_ENTRIES, "epoch")

    def needs_layers(self) -> bool:
        """Where shares are by layer."""
        return self.by == "layer"

    def endings(self) -> tuple[str, ...] | None:
        """None for one arm's share; otherwise by arm, epoch or layer."""
        return super().endings() if self.by == "run" else None


class LedgerDifference(Contrasted, WithInterval):
    """Arm difference in total gain, split exactly into drive and remainder."""

    unit = "nats"
    parts = ("gain", "drive", "remainder")
    mid: bool = False
    """Whether the drive is taken by the trapezoid rule."""

    def step_columns(self) -> tuple[str, ...]:
        """The entries."""
        return _ENTRIES


class FactoredDrive(Contrasted, WithInterval):
    """Arm difference in total drive, split exactly over cosine and both lengths."""

    unit = "nats"
    parts = ("drive", "cosine", "norm_trait", "norm_update")

    def step_columns(self) -> tuple[str, ...]:
        """The factors."""
        return ("cos_update", "norm_trait", "norm_update")


def _explained_share(
    record: Record, declared: ExplainedShare, settings: Settings
) -> Sequence[Result]:
    arms = declared.chosen(record.arms)
    whole = _share(declared)
    if missing := absent(record, whole, *arms):
        return [missing]
    steps = record.steps[record.steps["arm"].isin(arms)]
    if refusal := too_few(whole, steps["seed"].nunique()):
        return [refusal]
    if declared.by == "layer":
        layers = record.layers[record.layers["arm"].isin(arms)] if len(record.layers) else None
        if layers is None:
            reason = "the run recorded no layers; set layers = true under [measure] in the study"
            return [NotEstimable(whole, reason)]
        found = layer_shares(layers, steps, settings=settings)
    else:
        found = explained_shares(
            steps, term=declared.term, epochs=declared.by == "epoch", settings=settings
        )
    shares = [_named(declared, one) for one in found]
    lost = [arm for arm in arms if arm not in set(steps["arm"])]
    return [*shares, *(NotEstimable(_share(declared, arm), "no complete seeds") for arm in lost)]


def _named(declared: ExplainedShare, found: Result) -> Result:
    """Return the share of an arm, or of one of its epochs or layers, under the plan's name."""
    arm, part = found.estimand.arm, found.estimand.part
    ending = "" if declared.endings() == ("",) else "_".join(filter(None, (arm, part)))
    return as_declared(declared, found, ending, arm=arm, part=part)


def _share(declared: ExplainedShare, arm: str = "") -> Estimand:
    contrast = f"sum({declared.term}) / sum(gain)"
    return declared.estimand("share of summed gain (1)", contrast, arm, arm=arm)


def _split(
    record: Record,
    declared: LedgerDifference | FactoredDrive,
    settings: Settings,
    split: Callable[..., LedgerSplit | DriveFactors],
) -> list[Result]:
    """Split every contrast by an estimator of `ledger_differences`."""

    def estimate(pair: Pair) -> list[Result]:
        found = split(record.steps, pair.arm, reference=pair.reference, settings=settings)
        return [
            as_declared(
                declared,
                one,
                declared.ending(pair.arm, part),
                arm=pair.arm,
                reference=pair.reference,
                part=part,
            )
            for part, one in vars(found).items()
        ]

    return by_pair(record, declared, "nats", estimate)


def _ledger_difference(
    record: Record, declared: LedgerDifference, settings: Settings
) -> Sequence[Result]:
    return _split(record, declared, settings, partial(split_difference, mid=declared.mid))


LEDGER_METHODS: Mapping[str, Method] = {
    "explained_share": Method(ExplainedShare, _explained_share),
    "ledger_difference": Method(LedgerDifference, _ledger_difference),
    "drive_factors": Method(FactoredDrive, partial(_split, split=drive_factors)),
}
