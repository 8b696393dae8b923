"""`AlignmentCallback` for the `Trainer` of Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sublim_causal.errors import SublimError
from sublim_causal.integrations.session import WithSession, begin

if TYPE_CHECKING:
    from torch.optim import Optimizer


class AlignmentCallback(WithSession, Callback):
    """Measure every optimizer step of a `Trainer`, and intervene if asked to.

    The gradient is read before clipping and again as the optimizer is given it. The columns are
    logged by the module as ``alignment/cos_update`` and so on, and the table is saved as
    ``alignment.csv`` in the trainer's log directory.

    Parameters
    ----------
    trait_loss : callable
        Given the `LightningModule`, returns the scalar trait loss on a fixed probe.
    every, layers, half_probes, sink
        As for `AlignmentMonitor`.
    guard : mapping, optional
        Options of `guard`: ``{"intervention": "projection", "space": "update"}``.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach to the optimizer.

        Raises
        ------
        SublimError
            If the module has several optimizers.
        """
        if len(trainer.optimizers) != 1:
            raise SublimError(
                f"AlignmentCallback: the module has {len(trainer.optimizers)} optimizers, not one\n"
                "remedy: use AlignmentMonitor and `with monitor.step():` in training_step, with "
                "manual optimization"
            )
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._session = begin(self._options, pl_module, trainer.optimizers[0], scaler)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Read the gradient before it is clipped."""
        if self._session is not None:
            self._session.monitor.read_gradient()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Log what was measured."""
        if self._session is not None:
            means = self._session.means()
            if means:
                pl_module.log_dict(means)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Detach, and save the table."""
        if self._session is not None:
            folder = Path(trainer.log_dir or trainer.default_root_dir)
            self._session.finish(folder if trainer.is_global_zero else None)
