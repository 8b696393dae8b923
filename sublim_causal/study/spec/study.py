"""Study files: TOML tables that declare what is run, validated into a frozen `Study`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from sublim_causal.analysis.arms.stopping import Stopping
from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.config import ArmConfig, Experiment
from sublim_causal.experiment.imports import named_classes
from sublim_causal.experiment.interventions import build_interventions, followed_arms
from sublim_causal.experiment.interventions.base import Intervention
from sublim_causal.experiment.tasks import build_task
from sublim_causal.experiment.teaching.channels import Channel, CombinedChannel, build_channel
from sublim_causal.study.spec.names import ArmName, Name, is_visible


class Study(Experiment):
    """A study: an experiment, and for how many seeds it is run."""

    name: Name
    """Name of the study and, unless `--out` says otherwise, of its directory under `runs/`."""
    title: Annotated[str, AfterValidator(is_visible)] = Field(default="", max_length=300)
    """What the study is about, in one line."""
    seeds: int = Field(default=8, ge=1, le=1_000_000)
    """Replicates: seeds 0 to seeds - 1, each run under every arm."""
    reference: str | None = None
    """The arm with which the others are compared; default: the first one whose intervention is
    `baseline`."""
    stopping: Stopping | None = None
    """Add seeds until something is seen, instead of running `seeds`; default: no rule."""
    arms: dict[ArmName, ArmConfig] = Field(min_length=1, max_length=1000)
    """Arms by name; all arms of a seed share initialisation, teacher, inputs, order and probe."""

    def named_classes(self) -> list[str]:
        """Return the classes outside this package that the study names, as ``module:Class``."""
        arms = (arm.model_dump() for arm in self.arms.values())
        of_sections = [{"name": self.task.name}, {"name": self.model.class_}]
        found = [*named_classes(of_sections), *named_classes(list(arms))]
        return list(dict.fromkeys(found))

    def interventions(self) -> dict[str, tuple[Intervention, ...]]:
        """Build every arm's interventions.

        Raises
        ------
        RequestError
            If an arm names an unknown intervention, a wrong option, or an arm it cannot follow.
        """
        built = {
            name: build_interventions(f"arms.{name}", arm.procedure)
            for name, arm in self.arms.items()
        }
        validate_followed(built)
        if self.distillation.until_loss is not None:
            validate_unfollowed(built)
        return built

    def channels(self) -> dict[str, Channel | CombinedChannel]:
        """Build every arm's channel.

        Raises
        ------
        RequestError
            If an arm names an unknown channel, or a wrong option.
        """
        split = build_task(self).split
        return {
            name: build_channel(f"arms.{name}.channel", arm.channel.model_dump(), split)
            for name, arm in self.arms.items()
        }

    def with_followed(self, arms: Iterable[str]) -> list[str]:
        """Return `arms` and the arms they follow, those first."""
        built, arms = self.interventions(), list(arms)
        first = set().union(*(followed_arms(built[arm]) for arm in arms))
        return [arm for arm in built if arm in first] + [arm for arm in arms if arm not in first]


def validate_unfollowed(interventions: Mapping[str, Sequence[Intervention]]) -> None:
    """Refuse an arm that follows another step by step, where students stop at steps of their own.

    Raises
    ------
    RequestError
    """
    for arm, members in interventions.items():
        if followed := followed_arms(members):
            raise RequestError(
                f"arms.{arm}",
                f"follows {', '.join(sorted(followed))}",
                "no arm that follows another if distillation.until_loss is set: each student stops "
                "at its own step",
                "leave out until_loss, or the arm",
            )


def validate_followed(interventions: Mapping[str, Sequence[Intervention]]) -> None:
    """Refuse an arm that follows one that is missing, or one that follows another.

    Raises
    ------
    RequestError
    """
    follows = {arm: followed_arms(members) for arm, members in interventions.items()}
    leaders = [arm for arm, followed in follows.items() if not followed]
    for arm, followed in follows.items():
        for one in sorted(followed.difference(leaders)):
            raise RequestError(
                f"arms.{arm}",
                one,
                f"an arm of the study that follows no other: {', '.join(leaders)}",
                nearest(one, leaders) or "add it to the study's arms",
            )
