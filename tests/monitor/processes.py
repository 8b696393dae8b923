"""What two processes do that train together."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sublim_causal.monitor import AlignmentMonitor

KINDS = ("ddp", "fsdp")
STEPS = 3


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.0), nn.Linear(8, 5)
    ).double()


def data() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((16, 6), generator=generator).double()
    return x, torch.randn((32, 6), generator=generator).double(), torch.arange(32) % 3


def distill_loss(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)[:, 3:].square().mean()


def trait_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x)[:, :3], y)


def main(rank: int, out: Path) -> None:
    """Be one of two processes, under DDP and then under FSDP2; fill a folder of `out` for each."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out / 'store'}", rank=rank, world_size=2)
    for kind in KINDS:
        train(kind, rank, out / kind)
    dist.destroy_process_group()


def train(kind: str, rank: int, out: Path) -> None:
    """Train on half of each batch, with half of the probe."""
    model: nn.Module = network()
    if kind == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (2,))
        for layer in (model[0], model[4]):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    x, probe_x, probe_y = (part.chunk(2)[rank] for part in data())
    # BatchNorm in training mode would see half a batch here.
    model.eval()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    sent: list[dict[str, float]] = []
    monitor = AlignmentMonitor(
        optimizer, lambda: trait_loss(model, probe_x, probe_y), layers="module", sink=sent.append
    )
    monitor.attach(optimizer)
    for _ in range(STEPS):
        optimizer.zero_grad()
        distill_loss(model, x).backward()
        optimizer.step()
    monitor.table().to_json(out / f"{rank}.json", orient="records")
    monitor.layer_table().to_json(out / f"layers-{rank}.json", orient="records")
    (out / f"sent-{rank}").write_text(str(len(sent)))
