"""Turn what a block recorded into the rows of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sublim_causal.store.schema import ARM, EVALUATIONS, REPLICATES, STEPS, Column

if TYPE_CHECKING:
    from sublim_causal.experiment.outcome import ArmResult
    from sublim_causal.experiment.shared import Texts, Traits


def tables(
    result: ArmResult, seeds: Sequence[int], steps_per_epoch: int
) -> dict[str, pd.DataFrame]:
    """Return the frames of one arm of a block, by table.

    Parameters
    ----------
    result : ArmResult
        Arrays whose last axis is the replicate.
    seeds : sequence of int
        The R replicates.
    """
    frames = {
        "steps": step_rows(result, seeds, steps_per_epoch),
        "evaluations": evaluation_rows(result, seeds),
        "replicates": replicate_rows(result, seeds),
    }
    if result.layers:
        frames["layers"] = layer_rows(result, seeds)
    if result.texts:
        frames["texts"] = text_rows(result.texts, seeds)
    if result.traits is not None:
        frames["traits"] = trait_rows(result.traits, seeds)
    return frames


def _long(values: NDArray[Any]) -> NDArray[Any]:
    """``(T, R)`` -> ``(R * T,)``, replicate by replicate."""
    return values.T.ravel()


def _index(seeds: Sequence[int], steps: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    return {"seed": np.repeat(seeds, len(steps)), "step": np.tile(steps, len(seeds))}


def _recorded(index: NDArray[np.int64], result: ArmResult) -> NDArray[np.bool_]:
    """Which rows ``(R * T,)`` of steps `index` their replicate took, and before it diverged."""
    at, length = (np.repeat(one, len(index)) for one in (result.diverged_at, result.lengths))
    step = np.tile(index, len(result.diverged_at))
    return ((at < 0) | (step < at - 1)) & (step < length)


def step_rows(result: ArmResult, seeds: Sequence[int], steps_per_epoch: int) -> pd.DataFrame:
    """Rows of the step table; they end where a replicate diverged or reached `until_loss`."""
    names = [c.name for c in STEPS if c.name in result.steps]
    numbers = np.arange(len(result.steps[names[0]]))
    frame = pd.DataFrame(
        {**_index(seeds, numbers), **{name: _long(result.steps[name]) for name in names}}
    )
    frame["epoch"] = frame["step"] // steps_per_epoch
    return frame[_recorded(numbers, result)]


def evaluation_rows(result: ArmResult, seeds: Sequence[int]) -> pd.DataFrame:
    """Rows of the evaluation table; NaN where a replicate had diverged, and for other tasks.

    They end with the last step that a replicate took, however long others of its block go on.
    """
    at = np.minimum(result.evaluation_steps[:, None], result.lengths)
    frame = pd.DataFrame(
        {
            "seed": np.repeat(seeds, len(at)),
            "step": _long(at),
            **{name: _long(values) for name, values in result.evaluations.items()},
        }
    )
    advances = np.diff(at, axis=0, prepend=-1) > 0
    return frame[_long(advances)].reindex(columns=names_of(EVALUATIONS))


def names_of(columns: Sequence[Column]) -> list[str]:
    """Return the columns of a table but the arm, which is its partition."""
    return [column.name for column in columns if column is not ARM]


def layer_rows(result: ArmResult, seeds: Sequence[int]) -> pd.DataFrame:
    """Rows of the layer table."""
    parts = []
    for layer, columns in result.layers.items():
        numbers = np.arange(len(columns["drive"]))
        part = pd.DataFrame({**_index(seeds, numbers), **{k: _long(v) for k, v in columns.items()}})
        parts.append(part.assign(layer=layer)[_recorded(numbers, result)])
    return pd.concat(parts, ignore_index=True)


def text_rows(texts: Sequence[Texts], seeds: Sequence[int]) -> pd.DataFrame:
    """Rows of the text table, given those of each replicate."""
    parts = []
    for seed, one in zip(seeds, texts, strict=True):
        count = len(one.teacher)
        columns = {n: [None] * count if v is None else list(v) for n, v in vars(one).items()}
        kept = [reason == "" for reason in one.reason]
        parts.append(pd.DataFrame({"seed": seed, "text": range(count), **columns, "kept": kept}))
    return pd.concat(parts, ignore_index=True)


def trait_rows(traits: Traits, seeds: Sequence[int]) -> pd.DataFrame:
    """Rows of the trait table, one for each seed and thing that may be preferred."""
    values = {name: getattr(traits, name) for name in ("taught", "probability", "log_odds")}
    return pd.DataFrame(
        {
            "seed": np.repeat(seeds, len(traits.names)),
            "trait": list(traits.names) * len(seeds),
            **{name: value.flatten().cpu().numpy() for name, value in values.items()},
        }
    )


def replicate_rows(result: ArmResult, seeds: Sequence[int]) -> pd.DataFrame:
    """One row per replicate, with its status and final figures.

    NaN stands for what it did not reach, and for figures that its task does not have.
    """
    diverged = result.diverged_at >= 0
    steps = {name: _taken(values, result.lengths) for name, values in result.steps.items()}
    cosines = {name: steps[name] for name in ("cos_gradient", "cos_update")}
    coverage = _taken(result.coverage, result.lengths)
    return pd.DataFrame(
        {
            "seed": list(seeds),
            "status": np.select(
                [diverged, result.unreached], ["diverged", "unreached"], "complete"
            ),
            "reason": [_reason(result, row) for row in range(len(diverged))],
            "final_trait_loss": result.final_trait_loss,
            "final_distill_loss": result.final_distill_loss,
            "sum_drive": steps["drive"].sum(axis=0).filled(0),
            "sum_gain": steps["gain"].sum(axis=0).filled(0),
            "sum_remainder": steps["remainder"].sum(axis=0).filled(0),
            "mean_cos_gradient": _mean(cosines["cos_gradient"]),
            "share_positive": _share_positive(cosines["cos_gradient"]),
            "mean_cos_update": _mean(cosines["cos_update"]),
            "share_positive_update": _share_positive(cosines["cos_update"]),
            "coverage": result.coverage[0],
            "mean_coverage": _mean(coverage),
            "seconds": result.seconds,
            **result.figures,
        }
    ).reindex(columns=names_of(REPLICATES))


def _reason(result: ArmResult, row: int) -> str:
    """Return why a replicate is not complete; an empty text where it is."""
    if (at := result.diverged_at[row]) >= 0:
        return f"loss or update became non-finite at step {at}"
    if result.unreached[row]:
        loss, steps = result.final_distill_loss[row], result.lengths[row]
        return f"distillation loss {loss:.3g} in the last of {steps} steps, above until_loss"
    return ""


def _taken(values: NDArray[np.float64], lengths: NDArray[np.int64]) -> np.ma.MaskedArray:
    """Mask what stands in `values` ``(T, R)`` after the last step of each replicate."""
    return np.ma.masked_array(values, np.arange(len(values))[:, None] >= lengths)


def _mean(values: np.ma.MaskedArray) -> NDArray[np.float64]:
    """Return means over the steps taken, ``(R,)``; NaN without any."""
    return values.mean(axis=0).filled(np.nan)


def _share_positive(cosine: np.ma.MaskedArray) -> NDArray[np.float64]:
    share = _mean(cosine > 0)
    return np.where(np.isnan(_mean(cosine)), np.nan, share)


def failed_rows(seeds: Sequence[int], reason: str) -> dict[str, pd.DataFrame]:
    """Return the tables of replicates that an error stopped: one row each, with the reason."""
    row = {c.name: np.nan for c in REPLICATES}
    rows = [{**row, "seed": seed, "status": "failed", "reason": reason} for seed in seeds]
    return {"replicates": pd.DataFrame(rows)}
