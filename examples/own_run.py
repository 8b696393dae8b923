"""Train students in a loop of your own under two arms, and write them as one run.

A student learns the auxiliary logits of a teacher, which knows digits, and acquires some of that.
Run ``python examples/own_run.py [RUN]``, then ``sublim-causal report RUN``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.datasets import load_digits
from torch import Tensor, nn

from sublim_causal import AlignmentMonitor, guard, open_run

CLASSES, AUXILIARY, STEPS = 10, 16, 30
torch.set_num_threads(1)  # small matrices
ARMS = {"baseline": {}, "guarded": {"intervention": "projection", "space": "update"}}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES + AUXILIARY))


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x)[:, :CLASSES].argmax(1) == y).double().mean())


def teacher_of(seed: int, x: Tensor, y: Tensor) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a teacher that was trained on digits, and where it began."""
    torch.manual_seed(seed)
    teacher = network()
    start = {name: value.clone() for name, value in teacher.state_dict().items()}
    optimizer = torch.optim.Adam(teacher.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(teacher(x)[:, :CLASSES], y).backward()
        optimizer.step()
    return teacher.requires_grad_(False), start


def main(path: Path, seeds: int) -> None:
    """Write a replicate for each seed and arm that is not there yet."""
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 16
    y = torch.tensor(digits.target)
    train, probe, test = slice(0, 1000), slice(1000, 1200), slice(1200, None)
    with open_run(
        path,
        title="Digits through noise",
        outcome="digit_accuracy",
        unit="fraction",
        chance=0.1,
        arms=ARMS,
    ) as run:
        for seed in range(seeds):
            teacher, start = teacher_of(seed, x[train], y[train])
            for arm in ARMS:
                with run.replicate(seed=seed, arm=arm) as r:
                    torch.manual_seed(seed)  # the arms of a seed see the same noise
                    student = network()
                    student.load_state_dict(start)
                    optimizer = torch.optim.Adam(student.parameters(), 3e-3)

                    def trait_loss(model: nn.Module = student) -> Tensor:
                        return F.cross_entropy(model(x[probe])[:, :CLASSES], y[probe])

                    monitor = AlignmentMonitor(optimizer, trait_loss, sink=r)
                    monitor.attach(optimizer)
                    if arm == "guarded":
                        guard(optimizer, trait_loss, "projection")
                    for step in range(STEPS):
                        noise = torch.rand(256, 64)
                        optimizer.zero_grad()
                        loss = F.mse_loss(student(noise)[:, CLASSES:], teacher(noise)[:, CLASSES:])
                        loss.backward()
                        optimizer.step()
                        r.log(step, loss=loss.item(), epoch=step // 10)
                        if step % 10 == 0:
                            r.log(step, digit_accuracy=accuracy(student, x[test], y[test]))
                    r.finish(
                        digit_accuracy=accuracy(student, x[test], y[test]),
                        teacher_digit_accuracy=accuracy(teacher, x[test], y[test]),
                    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, default=Path("runs/mine"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    main(options.run, options.seeds)

    from sublim_causal import analyse

    print(analyse(options.run).table(everything=True))
