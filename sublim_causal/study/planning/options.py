"""How a study is run: the options of the command line, validated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sublim_causal.analysis.arms.stopping import StoppingRule
from sublim_causal.errors import RequestError
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.device import Precision


@dataclass(frozen=True)
class RunOptions:
    """How a study is run; nothing here changes its numbers, except `precision`.

    Attributes
    ----------
    run : Path
        Run directory.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    precision : str
    executor : str
        Where blocks run, a name in `EXECUTORS`.
    address : str or None
        Where the executor is; None: on this machine.
    workers : int or None
        Workers at a time; default: one a core, or one a GPU.
    block_size : int or None
        Seeds trained together; default: on a CPU by a model of a step's cost, on a GPU what its
        memory holds.
    memory : int or None
        Budget of all workers together, bytes; default: what the executor has.
    data_dir : Path or None
    download : bool
    tracking_uri : str or None
        MLflow store of the mirror; None: no mirror.
    mirror_replicates : bool or None
        Mirror every replicate; None: up to 500 of them.
    path : tuple of str
        Folders of the study's own modules.
    seed_range : range or None
        Seeds that this process runs while others run the rest; None: all.
    stopping : StoppingRule or None
        The rule by which seeds are added.
    """

    run: Path
    device: str
    precision: Precision
    executor: str
    address: str | None
    workers: int | None
    block_size: int | None
    memory: int | None
    data_dir: Path | None
    download: bool
    tracking_uri: str | None
    mirror_replicates: bool | None
    path: tuple[str, ...] = ()
    seed_range: range | None = None
    stopping: StoppingRule | None = None


def seeds_of(study: Study, seed_range: str | None, shard: str | None) -> range | None:
    """Read ``--seed-range 0-15`` or ``--shard 3/8``, the third of eight parts; None for neither.

    Raises
    ------
    RequestError
        If it is none of these, or names seeds that `study` does not have.
    """
    if seed_range is not None and shard is not None:
        raise RequestError("--shard", shard, "nothing, if --seed-range is given")
    if seed_range is not None:
        ends = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", seed_range)
        first, last = (int(ends[1]), int(ends[2])) if ends else (0, -1)
        if not first <= last < study.seeds:
            raise RequestError(
                "--seed-range",
                seed_range,
                f"FIRST-LAST, from 0 to {study.seeds - 1}",
                "--seeds sets the number of seeds of the study",
            )
        return range(first, last + 1)
    if shard is not None:
        parts = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", shard)
        part, count = (int(parts[1]), int(parts[2])) if parts else (0, 0)
        if not 1 <= part <= count <= study.seeds:
            raise RequestError(
                "--shard",
                shard,
                f"K/N, the part K of N, from 1/N to N/N; N is at most {study.seeds}, the seeds",
            )
        return range(study.seeds * (part - 1) // count, study.seeds * part // count)
    return None
