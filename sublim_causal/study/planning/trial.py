"""Try the classes of a study before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sublim_causal.experiment.imports import named_classes
from sublim_causal.experiment.tasks import build_task
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.device import Precision, configured

if TYPE_CHECKING:
    from sublim_causal.experiment.networks.base import Network

EXAMPLES = 8
"""Random examples on which a model is tried."""


def try_study(study: Study, network: Network, precision: Precision, block_size: int) -> None:
    """Call the network of `study` a few times, and let every arm take two steps.

    Nothing is written.

    Raises
    ------
    RequestError
        If a class of the study's own, or one with these options, breaks its contract.
    """
    import torch

    from sublim_causal.experiment.dry_step import Arm, try_arms
    from sublim_causal.experiment.networks.module import ModuleNetwork
    from sublim_causal.experiment.networks.trial import try_module
    from sublim_causal.experiment.tasks.trial import try_task

    task = build_task(study)
    interventions, channels = study.interventions(), study.channels()
    own_model, own_task = ":" in study.model.class_, ":" in study.task.name
    named = [
        arm
        for arm, one in study.arms.items()
        if own_model or own_task or any(named_classes(one.model_dump()))
    ]
    with configured(precision) as dtype:
        if own_task:
            try_task(task, study, network, dtype)
        if isinstance(network, ModuleNetwork) and own_model:
            examples = task.sample(EXAMPLES, torch.Generator().manual_seed(1), dtype)
            try_module(network, study.model.class_, examples, dtype, block_size)
        try_arms(
            study,
            {
                arm: Arm(interventions[arm], channels[arm])
                for arm in study.with_followed(study.arms)
            },
            network,
            task,
            dtype=dtype,
            own=study.with_followed(named),
        )
