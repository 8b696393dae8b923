"""Worker processes of this machine that die at awkward moments."""

from __future__ import annotations

import multiprocessing
import os
import struct
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

import pytest

from sublim_causal.errors import SublimError
from sublim_causal.study.executors import Lost
from sublim_causal.study.executors.local import LocalExecutor, LocalWorker, sharing_gpu
from tests.study.commands import TINY, sublim


@pytest.mark.parametrize(
    ("gigabytes", "cores", "workers"),
    [(80, 16, 4), (80, 64, 4), (80, 8, 2), (80, 1, 1), (24, 16, 3), (6, 16, 1)],
)
def test_a_gpu_is_shared_by_workers_that_have_cores_and_memory(
    gigabytes: int, cores: int, workers: int
) -> None:
    assert sharing_gpu(gigabytes * 2**30, cores) == workers


def dies_within_a_message(pipe: Connection) -> None:
    """Announce a message of 100 bytes, send three, and die."""
    os.write(pipe.fileno(), struct.pack("!i", 100) + b"abc")
    os._exit(7)


def test_a_worker_that_dies_within_a_message_is_lost() -> None:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=dies_within_a_message, args=(theirs,))
    process.start()
    theirs.close()
    worker = LocalWorker(process, ours, context.Event())
    executor = LocalExecutor()
    assert executor.receive([worker]) == [(worker, Lost("exit code 7"))]
    worker.kill()


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), EOFError(), OSError("full")])
def test_workers_that_die_while_they_are_started_end_the_run_with_a_reason(
    error: Exception, tmp_path: Path
) -> None:
    def start(process: BaseProcess) -> None:
        raise error

    with mock.patch.object(multiprocessing.get_context("forkserver").Process, "start", start):
        done = sublim("run", *TINY, "--tracking-uri", "none", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "no worker can start: it could not be started" in done.stderr


def test_one_worker_that_dies_while_it_is_started_costs_nothing(tmp_path: Path) -> None:
    process = multiprocessing.get_context("forkserver").Process
    start, calls = process.start, []

    def once(one: BaseProcess) -> None:
        calls.append(one)
        if len(calls) == 1:
            raise BrokenPipeError(32, "Broken pipe")
        start(one)

    with mock.patch.object(process, "start", once):
        done = sublim("run", *TINY, "--seeds", "2", "--tracking-uri", "none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(calls) > 1


def test_errors_of_this_package_reach_the_parent_as_they_are() -> None:
    ours, theirs = multiprocessing.Pipe()
    theirs.send(SublimError("told"))
    worker = LocalWorker(mock.Mock(), ours, mock.Mock())
    ((_, message),) = LocalExecutor().receive([worker])
    assert isinstance(message, SublimError)
    assert str(message) == "told"
