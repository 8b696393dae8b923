"""The texts of an arm as the table ``texts`` holds them."""

from __future__ import annotations

from itertools import cycle, islice

from sublim_causal.experiment.config import ArmConfig
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.shared import Texts
from sublim_causal.experiment.tasks.preference.readings import (
    diverging_texts,
    exchanged,
    kept_texts,
    written_texts,
)
from sublim_causal.experiment.tasks.preference.roles import writers
from sublim_causal.experiment.tasks.preference.teachers import PreferenceTeachers
from sublim_causal.experiment.tasks.preference.vocabulary import PROMPT, readable


def rows_of_texts(
    config: ArmConfig, teachers: PreferenceTeachers, columns: slice, streams: SeedStreams
) -> list[Texts]:
    """Return the texts that teachers wrote for an arm, one record for each replicate.

    `columns` are those of the logits in which its teachers are compared.
    """
    x = written_texts(config, teachers)
    found = diverging_texts(config, teachers, x, columns)
    other = None if found is None else exchanged(x, found, columns)
    read = x if other is None or config.targets.positions != "replaced" else other
    kept = kept_texts(config, teachers, read, streams)
    names = [*islice(cycle(role.name for role in writers(config.targets)), x.shape[1])]
    dropped = f"not of the half that texts = {config.targets.texts!r} keeps"
    return [
        Texts(
            teacher=names,
            prompt=[readable(tokens) for tokens in prompts],
            completion=[readable(tokens) for tokens in completions],
            prompt_tokens=prompts,
            completion_tokens=completions,
            reason=[""] * len(names)
            if kept is None
            else ["" if one else dropped for one in kept[replicate].tolist()],
            divergent=None if found is None else found.where[replicate].tolist(),
            counterfactual=None if other is None else other[replicate, :, PROMPT:].tolist(),
        )
        for replicate, (prompts, completions) in enumerate(
            zip(x[:, :, :PROMPT].tolist(), x[:, :, PROMPT:].tolist(), strict=True)
        )
    ]
