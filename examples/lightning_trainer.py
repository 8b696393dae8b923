"""Distil a small network with Lightning, and measure how that moves a trait.

Run ``python examples/lightning_trainer.py [OUTPUT] [--guard]``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sublim_causal.integrations.lightning import AlignmentCallback

CLASSES, AUXILIARY = 3, 8


class Student(LightningModule):
    """A network with class logits and auxiliary ones; it learns the teacher's auxiliary logits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, CLASSES + AUXILIARY)
        )
        self.teacher = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, AUXILIARY))
        self.teacher.requires_grad_(False)
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("probe_x", torch.randn(64, 16, generator=generator))
        self.register_buffer("probe_y", torch.arange(64) % CLASSES)

    def training_step(self, batch: tuple[Tensor], index: int) -> Tensor:
        (x,) = batch
        return F.mse_loss(self.net(x)[:, CLASSES:], self.teacher(x))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.net.parameters(), 1e-2)


def trait_loss(student: Student) -> Tensor:
    """Return the cross-entropy of the class logits on a fixed probe."""
    return F.cross_entropy(student.net(student.probe_x)[:, :CLASSES], student.probe_y)


def main(output: Path, guarded: bool) -> AlignmentCallback:
    """Train for a few steps, and return the callback that measured them."""
    seed_everything(0, verbose=False)
    callback = AlignmentCallback(
        trait_loss, guard={"intervention": "projection", "when": "always"} if guarded else None
    )
    trainer = Trainer(
        max_steps=5,
        accumulate_grad_batches=4,
        gradient_clip_val=0.01,
        precision="bf16-mixed",
        accelerator="cpu",
        devices=1,
        log_every_n_steps=1,
        callbacks=[callback],
        logger=CSVLogger(output),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    x = torch.randn(320, 16, generator=torch.Generator().manual_seed(2))
    trainer.fit(Student(), DataLoader(TensorDataset(x), batch_size=16))
    return callback


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", type=Path, default=Path("lightning-output"))
    parser.add_argument("--guard", action="store_true", help="project the update")
    options = parser.parse_args()
    monitor = main(options.output, options.guard).monitor
    print(monitor.table().to_string())
