"""Memory that a study needs, and how many workers it allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sublim_causal.errors import RequestError
from sublim_causal.experiment.interventions import INTERVENTIONS
from sublim_causal.experiment.interventions.liminal import Liminal
from sublim_causal.experiment.tasks import build_task
from sublim_causal.experiment.teaching.channels import CombinedChannel, parts_of
from sublim_causal.experiment.teaching.representation import layer_widths
from sublim_causal.study.spec.study import Study

if TYPE_CHECKING:
    from sublim_causal.experiment.networks.base import Network

FLOAT_BYTES = 4
MODEL_VECTORS = 24
"""Flat vectors of length P alive at a time for one model: parameters, Adam, gradients, graph."""
KEPT_VECTORS, STEP_VECTORS = 5, 12
"""Where the task counts activations: vectors that an arm keeps, and those of one step."""


def activations_taught(study: Study, network: Network) -> int:
    """Return how many activations an example's targets hold, over all targets in hidden layers.

    Raises
    ------
    RequestError
        If an arm is taught a layer that the network does not have.
    """
    task, taught = build_task(study), dict[str, int]()
    for arm, channel in study.channels().items():
        field = f"arms.{arm}.channel"
        combined = isinstance(channel, CombinedChannel)
        sources = {
            f"{field}.members.{i}" if combined else field: part.source(task.split)
            for i, (_, part) in enumerate(parts_of(channel))
        }
        widths = layer_widths(sources, network, task.sizes().example)
        taught[study.targets_key(arm)] = sum(widths.values())
    return sum(taught.values())


def arms_at_initial_logits(study: Study) -> int:
    """Return how many arms may ask for the reference's logits: liminal ones, and the user's own."""
    built_in = {*INTERVENTIONS.values()} - {Liminal}
    return sum(
        any(type(one) not in built_in for one in stages)
        for stages in study.interventions().values()
    )


def study_bytes(study: Study, parameters: int, block_size: int, activations: int = 0) -> int:
    """Estimate the memory of one worker, in bytes, without the libraries themselves.

    The students' examples, the targets of each seed, among them `activations` an example, and the
    reference's logits where an intervention asks for them; the data set, models and one step's
    batches.
    """
    sizes, student = build_task(study).sizes(), study.distillation
    kinds = len({study.targets_key(arm) for arm in study.arms})
    initial = min(sizes.inputs, arms_at_initial_logits(study)) * sizes.answers
    targets = kinds * sizes.answers + activations
    seen = student.examples * (sizes.inputs * sizes.example + initial + targets) * block_size
    vectors = MODEL_VECTORS * (len(study.arms) + 1)
    batch = max(student.batch_size, study.probe.size, study.teacher.batch_size)
    step = 8 * batch * sizes.example
    if sizes.activations is not None:
        vectors = KEPT_VECTORS * len(study.arms) + STEP_VECTORS
        step += (student.batch_size + study.probe.size) * sizes.activations
    return FLOAT_BYTES * (seen + sizes.data + (parameters * vectors + step) * block_size)


def parse_memory(text: str) -> int:
    """Read ``"6G"``, ``"800M"`` or a number of bytes.

    Raises
    ------
    RequestError
        If it is none of these.
    """
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number = text.strip().upper().removesuffix("B").removesuffix("I")
    factor = units.get(number[-1:], 1)
    try:
        value = int(float(number.rstrip("KMGT")) * factor)
    except (ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise RequestError("--memory", text, "a positive size such as 6G or 800M")
    return value


def workers_for(memory: int, worker_bytes: int, limit: int) -> int:
    """Return how many workers fit into `memory`, at most `limit`.

    Raises
    ------
    RequestError
        If not even one fits.
    """
    fit = memory // worker_bytes
    if fit < 1:
        raise RequestError(
            "--memory",
            f"{memory / 2**30:.2f}G",
            f"at least {worker_bytes / 2**30:.2f}G, what one block of this study needs",
            "raise --memory, or lower --block-size or distillation.examples",
        )
    return min(limit, fit)
