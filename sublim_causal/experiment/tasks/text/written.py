"""The texts of an arm as the table ``texts`` holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sublim_causal.experiment.config import ArmConfig
from sublim_causal.experiment.networks.pretrained import NO_TOKEN
from sublim_causal.experiment.shared import Texts
from sublim_causal.experiment.tasks.preference.roles import writers
from sublim_causal.experiment.tasks.text.teachers import TextTeachers


@dataclass(frozen=True)
class Fate:
    """What becomes of the N texts of an arm's lesson.

    Attributes
    ----------
    count : int
        N.
    kept : bool Tensor of shape (R, N), or None
        Whose loss counts; None: of all.
    divergent : bool Tensor of shape (R, N, T), or None
        Where counterfactual teachers diverge; None where it was not asked for.
    counterfactual : int64 Tensor of shape (R, N, T), or None
        There, their tokens; the written ones elsewhere.
    """

    count: int
    kept: Tensor | None = None
    divergent: Tensor | None = None
    counterfactual: Tensor | None = None


def rows_of_texts(config: ArmConfig, teachers: TextTeachers, fate: Fate) -> list[Texts]:
    """Return all texts that an arm's teachers wrote, one record for each replicate."""
    return [_rows(config, teachers, fate, one) for one in range(len(teachers.theta_0))]


def _rows(config: ArmConfig, teachers: TextTeachers, fate: Fate, replicate: int) -> Texts:
    vocabulary, roles = teachers.vocabulary, writers(config.targets)
    kept = None if fate.kept is None else fate.kept[replicate].tolist()
    names, prompts, texts, tokens, reasons = [], [], [], [], []
    divergent: list[Sequence[bool]] = []
    counterfactual: list[Sequence[int]] = []
    for turn, role in enumerate(roles):
        written, system = teachers.written(role)[replicate], teachers.system(role)
        places = {at: turn + len(roles) * number for number, at in enumerate(written.kept)}
        for at, (carrier, reason) in enumerate(zip(written.carriers, written.reasons, strict=True)):
            place = places.get(at, fate.count)
            completion = [t for t in written.completions[at].tolist() if t != NO_TOKEN]
            if not reason and place >= fate.count:
                reason = f"not needed: {fate.count} others are kept"
            elif not reason and kept is not None and not kept[place]:
                reason = f"not of the half that texts = {config.targets.texts!r} keeps"
            names.append(role.name)
            prompts.append(vocabulary.rendered(system, carrier.prompt, carrier.begin))
            texts.append(written.texts[at])
            tokens.append(completion)
            reasons.append(reason)
            if fate.divergent is not None and fate.counterfactual is not None:
                read = slice(len(completion) if place < fate.count else 0)
                row = replicate, min(place, fate.count - 1), read
                divergent.append(fate.divergent[row].tolist())
                counterfactual.append(fate.counterfactual[row].tolist())
    return Texts(
        names,
        prompts,
        texts,
        [vocabulary.encode(one) for one in prompts],
        tokens,
        reasons,
        None if fate.divergent is None else divergent,
        None if fate.divergent is None else counterfactual,
    )
