"""`AlignmentCallback` for the `Trainer` of Hugging Face's transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sublim_causal.integrations.session import WithSession, begin


class AlignmentCallback(WithSession, TrainerCallback):
    """Measure every optimizer step of a `Trainer`, and intervene if asked to.

    The table is saved as ``alignment.csv`` in ``output_dir``. Means over the steps since the last
    log go into the trainer's logs as ``alignment/cos_update`` and so on. The gradient is read when
    the optimizer steps: accumulated, unscaled, and clipped to ``max_grad_norm``, which leaves
    cosines as they are.

    Parameters
    ----------
    trait_loss : callable
        Given the trainer's model, returns the scalar trait loss on a fixed probe, in the precision
        in which it should be measured.
    every, layers, half_probes, sink
        As for `AlignmentMonitor`.
    guard : mapping, optional
        Options of `guard`: ``{"intervention": "projection", "space": "update"}``.

    Examples
    --------
    ``Trainer(..., callbacks=[AlignmentCallback(trait_loss)])`` writes to ``log_history`` and the
    progress bar. ``AlignmentCallback(trait_loss).add_to(trainer)`` puts it before the callbacks
    that report, so that MLflow, TensorBoard and the like get the columns, too.
    """

    def add_to(self, trainer: Trainer) -> AlignmentCallback:
        """Make it the first callback of `trainer`."""
        trainer.callback_handler.callbacks.insert(0, self)
        return self

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attach to the optimizer."""
        optimizer = kwargs["optimizer"]
        scaler = getattr(optimizer, "scaler", None)
        self._session = begin(self._options, kwargs["model"], optimizer, scaler)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the means to the logs of training."""
        if self._session is None or logs is None or "loss" not in logs:
            return
        means = self._session.means()
        logs.update(means)
        if state.log_history:
            state.log_history[-1].update(means)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Detach, and save the table."""
        if self._session is not None:
            self._session.finish(Path(args.output_dir) if state.is_world_process_zero else None)
