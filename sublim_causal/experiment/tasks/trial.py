"""The members of a task of one's own are looked at, and called once, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sublim_causal.errors import RequestError
from sublim_causal.experiment.alignment import Probe
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.contracts import ContractError, described
from sublim_causal.experiment.data.streams import SeedStreams
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.base import Batch, Network
from sublim_causal.experiment.randomness import drawn_since, global_states, restored_randomness
from sublim_causal.experiment.tasks.base import Phase, Rehearsal, Sizes, Task
from sublim_causal.store.outcome import Outcome
from sublim_causal.store.schema import EVALUATIONS, REPLICATES, Column

SEEDS = (0, 1)
EXAMPLES = 8


def try_task(task: Task, experiment: Experiment, network: Network, dtype: torch.dtype) -> None:
    """Refuse a task whose members are not what `Task` says.

    Raises
    ------
    RequestError
        With what was expected and what came.
    """
    streams, arms = SeedStreams(experiment.name, SEEDS), list(experiment.arms)

    def sample() -> None:
        generator = torch.Generator().manual_seed(1)
        batch = _of(Batch, "sample", task.sample(EXAMPLES, generator, dtype))
        validate_examples("sample", batch, (1, EXAMPLES), dtype)
        validate_logits("sample", batch, network, task.split, dtype)

    checks: dict[str, Callable[[], None]] = {
        "unused": lambda: validate_unused(task.unused),
        "outcome": lambda: validate_outcome(task.outcome),
        "split": lambda: validate_split(task.split),
        "phases": lambda: validate_phases(task.phases(arms)),
        "sizes": lambda: validate_sizes(task.sizes()),
        "sample": sample,
        "rehearse": lambda: validate_rehearsal(
            task.rehearse(streams, network, dtype), arms, network, streams, dtype
        ),
    }
    with restored_randomness(), torch.no_grad():
        for member, check in checks.items():
            with _refusing(experiment.task.name, member):
                check()


def validate_unused(unused: object) -> None:
    """Refuse fields that no study has.

    Raises
    ------
    ContractError
    """
    plain = Experiment.model_validate({"name": "a", "arms": {"a": {"intervention": "baseline"}}})
    table = plain.model_dump(mode="json", by_alias=True)
    table["arms"] = table["arms"]["a"]
    expected = "unused is a tuple of fields of a study file, such as 'data' or 'arms.inputs'"
    if not isinstance(unused, tuple | list):
        raise ContractError(expected, f"it is {described(unused)}")
    for field in unused:
        at: Any = table
        for part in str(field).split("."):
            if not isinstance(at, dict) or part not in at:
                raise ContractError(expected, f"it names {field!r}")
            at = at[part]


def validate_outcome(outcome: object) -> None:
    """Refuse an outcome whose columns the tables do not have.

    Raises
    ------
    ContractError
    """
    found = _of(Outcome, "outcome", outcome)
    for member, columns, table in (
        ("name", REPLICATES, "replicates"),
        ("start", REPLICATES, "replicates"),
        ("teacher", REPLICATES, "replicates"),
        ("curve", EVALUATIONS, "evaluations"),
    ):
        validate_columns([getattr(found, member)], columns, f"outcome.{member}", table)


def validate_columns(
    names: Sequence[str], columns: Sequence[Column], what: str, table: str
) -> None:
    """Refuse names that are not columns of numbers of a table.

    Raises
    ------
    ContractError
    """
    known = [column.name for column in columns if column.unit and column.name != "seed"]
    if wrong := [name for name in names if name not in known]:
        expected = f"{what} names columns of the table {table!r}: {', '.join(known)}"
        raise ContractError(expected, f"it names {', '.join(map(repr, wrong))}")


def validate_split(split: object) -> None:
    """Refuse columns that are not among all logits.

    Raises
    ------
    ContractError
    """
    found = _of(LogitSplit, "split", split)
    for name in ("trait", "taught"):
        part = getattr(found, name)
        bounds = (part.start, part.stop) if isinstance(part, slice) else (None, None)
        whole = all(isinstance(one, int) for one in bounds)
        if not whole or not 0 <= part.start < part.stop <= found.total:
            expected = f"split.{name} is a slice of the {found.total} logits, from start to stop"
            raise ContractError(expected, f"it is {part}")


def validate_phases(phases: object) -> None:
    """Refuse anything but a sequence of phases.

    Raises
    ------
    ContractError
    """
    if not isinstance(phases, list | tuple):
        raise ContractError("phases returns a list of Phase", f"it returned {described(phases)}")
    for one in phases:
        _whole("phases", _of(Phase, "phases", one))


def validate_sizes(sizes: object) -> None:
    """Refuse anything but sizes.

    Raises
    ------
    ContractError
    """
    _whole("sizes", _of(Sizes, "sizes", sizes))


def validate_examples(
    member: str, batch: Batch, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Refuse examples that are not ``(R, B, D)`` of real numbers or tokens, or their positions.

    Raises
    ------
    ContractError
    """
    x = batch.x
    known = isinstance(x, Tensor) and x.dim() == 3 and x.dtype in (dtype, torch.int64)
    if not known or (shape and tuple(x.shape[: len(shape)]) != shape):
        given = ", ".join(map(str, shape)) or "R, B"
        name = str(dtype).removeprefix("torch.")
        expected = f"{member} gives examples ({given}, D), {name} or int64 for tokens"
        raise ContractError(expected, f"they are {described(x)}")
    if not all(isinstance(one, int) and 0 <= one < x.shape[2] for one in batch.positions):
        expected = f"{member} gives positions from 0 to {x.shape[2] - 1}"
        raise ContractError(expected, f"they are {batch.positions}")


def validate_logits(
    member: str, batch: Batch, network: Network, split: LogitSplit, dtype: torch.dtype
) -> None:
    """Refuse examples whose logits the network does not give.

    Raises
    ------
    ContractError
    """
    theta = network.initialise(torch.Generator().manual_seed(0)).to(dtype)
    z = network.forward(theta[None], batch).logits(slice(None))
    answers = max(1, len(batch.positions))
    if z.shape != (1, EXAMPLES * answers, split.total):
        expected = (
            f"build_network builds what maps {EXAMPLES} examples with {answers} answers each to "
            f"split.total = {split.total} logits"
        )
        raise ContractError(expected, f"it returned {described(z)}")


def validate_rehearsal(
    material: object,
    arms: Sequence[str],
    network: Network,
    streams: SeedStreams,
    dtype: torch.dtype,
) -> None:
    """Refuse material whose shapes do not fit the network, or each other.

    Raises
    ------
    ContractError
    """
    found = _of(Rehearsal, "rehearse", material)
    vectors = {
        "theta_0": found.theta_0,
        "teacher": found.teacher,
        "draw_reference": found.draw_reference(streams("student init")),
    }
    like = torch.empty((len(SEEDS), network.layout.size), dtype=dtype)
    for name, theta in vectors.items():
        if not isinstance(theta, Tensor) or (theta.shape, theta.dtype) != (like.shape, dtype):
            raise ContractError(f"{name} is {described(like)}", f"it is {described(theta)}")
    for name, probe in (("probe", found.probe), ("draw_probe", found.draw_probe(streams("probe")))):
        validate_probe(name, _of(Probe, name, probe), dtype)
    for arm in arms:
        batch = Batch(found.inputs(arm), found.positions)
        validate_examples("inputs", batch, (len(SEEDS),), dtype)


def validate_probe(name: str, probe: Probe, dtype: torch.dtype) -> None:
    """Refuse a probe whose labels are not one for each answer, among its columns.

    Raises
    ------
    ContractError
    """
    width = probe.columns.stop - probe.columns.start
    for batch, labels in probe.halves:
        validate_examples(name, batch, (len(SEEDS),), dtype)
        count = batch.x.shape[1] * max(1, len(batch.positions))
        expected = f"labels of {name} are int64 ({len(SEEDS)}, {count}), from 0 to {width - 1}"
        alike = isinstance(labels, Tensor) and labels.dtype == torch.int64
        if not alike or labels.shape != (len(SEEDS), count):
            raise ContractError(expected, f"they are {described(labels)}")
        if labels.min() < 0 or labels.max() >= width:
            raise ContractError(expected, f"they go from {labels.min()} to {labels.max()}")


def _of(kind: type[Any], member: str, value: object) -> Any:
    if not isinstance(value, kind):
        raise ContractError(f"{member} gives a {kind.__name__}", f"it gave {described(value)}")
    return value


def _whole(member: str, value: object) -> None:
    """Refuse a record whose fields are not whole numbers from 0 on, or None by default."""
    for name, number in vars(value).items():
        if number is None and getattr(type(value), name, 0) is None:
            continue
        if not isinstance(number, int) or number < 0:
            raise ContractError(
                f"{member}: {name} is a whole number, at least 0", f"it is {number!r}"
            )


@contextmanager
def _refusing(name: str, member: str) -> Iterator[None]:
    """Turn what goes wrong in a member of the task `name` into a refusal."""
    before = global_states()
    try:
        yield
    except ContractError as error:
        raise RequestError("task.name", name, error.expected, error.came) from error
    except RequestError:
        raise
    except Exception as error:
        came = f"{member} failed with {type(error).__name__}: {error}"
        raise RequestError("task.name", name, "a class with the members of a task", came) from error
    if drawn := drawn_since(before):
        expected = "random numbers from the generators that the class is given"
        raise RequestError("task.name", name, expected, f"{member} draws those of {drawn}")
