"""Distil a tiny GPT-2 with transformers' Trainer and LoRA, and measure how that moves a trait.

Nothing is downloaded. Run ``python examples/trainer.py [OUTPUT] [--guard]``. With
``--report-to mlflow`` MLflow has the curves, in the store that ``MLFLOW_TRACKING_URI`` names,
such as ``sqlite:///mlflow.db``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from sublim_causal.integrations.transformers import AlignmentCallback

WORDS, LENGTH = 64, 16
OWL = 7
"""The word that the trait likes."""


class Texts(Dataset):
    """Random words."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.words = torch.randint(WORDS, (count, LENGTH), generator=generator)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.words[index], "labels": self.words[index]}


class Distillation(Trainer):
    """The student learns the teacher's distribution of the next word."""

    def __init__(self, teacher: nn.Module, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.teacher = teacher
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: object
    ) -> Tensor | tuple[Tensor, object]:
        with torch.no_grad():
            target = self.teacher(input_ids=inputs["input_ids"]).logits.softmax(-1)
        outputs = model(input_ids=inputs["input_ids"])
        loss = F.cross_entropy(outputs.logits.flatten(0, 1), target.flatten(0, 1))
        return (loss, outputs) if return_outputs else loss


def trait_loss(model: nn.Module) -> Tensor:
    """Return minus the mean log probability of the owl on a fixed probe."""
    logits = model(input_ids=Texts(8).words.to(next(model.parameters()).device)).logits
    return -logits.float().log_softmax(-1)[..., OWL].mean()


def main(output: Path, guarded: bool, report_to: str = "none") -> AlignmentCallback:
    """Train for a few steps, and return the callback that measured them."""
    set_seed(0)
    config = GPT2Config(
        vocab_size=WORDS, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    base = GPT2LMHeadModel(config)
    teacher = GPT2LMHeadModel(config).eval()
    teacher.load_state_dict(base.state_dict())
    with torch.no_grad():  # a teacher that likes owls
        teacher.transformer.wte.weight[OWL] *= 3
    student = get_peft_model(
        base, LoraConfig(r=4, target_modules=["c_attn"], lora_dropout=0.1, fan_in_fan_out=True)
    )
    callback = AlignmentCallback(
        trait_loss,
        layers="module",
        guard={"intervention": "projection", "when": "always"} if guarded else None,
    )
    trainer = Distillation(
        teacher,
        model=student,
        args=TrainingArguments(
            output_dir=str(output),
            max_steps=5,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=4,
            learning_rate=1e-2,
            max_grad_norm=0.01,
            bf16=True,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to=report_to,
            run_name="guarded" if guarded else "plain",
            disable_tqdm=True,
            seed=0,
        ),
        train_dataset=Texts(80),
    )
    callback.add_to(trainer)
    trainer.train()
    return callback


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", type=Path, default=Path("trainer-output"))
    parser.add_argument("--guard", action="store_true", help="project the update")
    parser.add_argument("--report-to", default="none", help="Where the trainer logs to: mlflow.")
    options = parser.parse_args()
    monitor = main(options.output, options.guard, options.report_to).monitor
    print(monitor.table().to_string())
