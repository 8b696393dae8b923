"""What the arms of a study may ask of texts, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import ArmConfig, TargetsConfig

CHANNELS = ("soft", "hard", "sampled")
"""Channels of logits whose answers texts have; `sampled` is the next token of the text."""
OF_NUMBERS = ("unique", "positions", "texts", "paraphrase")
"""Fields of an arm's targets that are about number texts."""
OF_IMAGES = (
    "data",
    "model.auxiliary",
    "distillation.inputs",
    "attack",
    "arms.inputs",
    "arms.targets.teacher_input_noise",
    "arms.targets.images",
    "arms.targets.teacher_epochs",
    "arms.targets.teacher_learning_rate",
    "arms.targets.teacher_weight_decay",
    "arms.targets.teacher_decay",
)
"""Fields of a study file that texts do not use."""


def validate_arm(arm: str, config: ArmConfig, examples: int, counterfactuals: int) -> None:
    """Refuse what an arm asks for and texts do not have.

    Parameters
    ----------
    arm : str
        The arm's place in the study file, for error messages.
    examples : int
        Of distillation.
    counterfactuals : int
        Teachers that say where answers diverge.

    Raises
    ------
    RequestError
    """
    for field, value, *words in _refused(config, examples, counterfactuals):
        raise RequestError(f"{arm}.{field}", value, *words)


def _refused(config: ArmConfig, examples: int, counterfactuals: int) -> Iterator[tuple[Any, ...]]:
    """Yield what is wrong: field, value, what is allowed, and the remedy if there is one."""
    if config.channel.name not in CHANNELS:
        allowed = f"{', '.join(CHANNELS)}: the answers that texts have"
        yield "channel.name", config.channel.name, allowed
    for table in tables_of(config.procedure):
        shuffle = table.get("shuffle")
        if table.get("intervention") == "shuffled" and shuffle in ("labels", "network"):
            yield (
                "shuffle",
                shuffle,
                "coordinates, random or probe: all labels of a probe are the same animal, "
                "and another network is trained for minutes",
            )
    if "perturbed" in config.student.beginnings:
        allowed = "shared or other: noise on a trained reference has no natural scale"
        yield "student.initialisation", "perturbed", allowed
    yield from _of_targets(config.targets, examples, counterfactuals)
    yield from _of_logits(config)


def _of_targets(
    targets: TargetsConfig, examples: int, counterfactuals: int
) -> Iterator[tuple[Any, ...]]:
    if targets.positions != "all" and counterfactuals == 0:
        yield (
            "targets.positions",
            targets.positions,
            "all: with task.counterfactuals = 0 no teacher shows where answers diverge",
            "task.counterfactuals = 2",
        )
    if targets.unique is not None and targets.unique > examples:
        allowed = f"at most distillation.examples = {examples}"
        yield "targets.unique", targets.unique, allowed, f"targets.unique = {examples}"
    if targets.strength is not None and targets.teacher == "no_trait":
        yield (
            "targets.strength",
            targets.strength,
            "nothing: a teacher without trait has no animal",
            "leave it out, or targets.teacher = 'trait'",
        )
    if targets.paraphrase != "none" and (targets.positions, targets.texts) != ("all", "all"):
        yield (
            "targets.paraphrase",
            targets.paraphrase,
            "none, if targets.positions or targets.texts select among the texts as written",
            "an arm of its own",
        )
    if targets.material == "questions":
        default = TargetsConfig()
        for field in OF_NUMBERS:
            if getattr(targets, field) != getattr(default, field):
                yield (
                    f"targets.{field}",
                    getattr(targets, field),
                    "nothing: targets.material = 'questions' has no number texts",
                    "leave it out",
                )


def _of_logits(config: ArmConfig) -> Iterator[tuple[Any, ...]]:
    """Refuse logits that the lesson does not answer with."""
    channel, targets = config.channel.model_dump(), config.targets
    logits, first = channel.get("logits", "auxiliary"), channel.get("first")
    if targets.material == "questions" and logits == "auxiliary":
        yield (
            "channel.logits",
            logits,
            "class or all: questions are answered with animals, not with numbers",
            "channel.logits = 'class'",
        )
    if targets.material == "numbers" and (
        config.channel.name == "sampled" or targets.positions != "all"
    ):
        why = "the token that follows is a number"
        if logits == "class":
            yield "channel.logits", logits, f"auxiliary or all: {why}", "channel.logits = 'all'"
        if first is not None:
            yield "channel.first", first, f"nothing: {why}, whichever it is", "leave it out"


def tables_of(value: Mapping[str, Any] | Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a table and those within it: the parts of a compound intervention."""
    if isinstance(value, Mapping):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value:
        if isinstance(inner, Mapping | list | tuple):
            yield from tables_of(inner)
