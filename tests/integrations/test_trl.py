"""`AlignmentCallback` in TRL's distillation trainer, where `trl` is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

WORDS = ["[PAD]", "[UNK]", "[EOS]", "user", "assistant", ":", *(f"w{i}" for i in range(26))]
CHAT = (
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} "
    "{% if m['role'] == 'assistant' %}[EOS]{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
OWL = 9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_measures_and_guards_the_steps_of_gkd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    pytest.importorskip("trl", reason="TRL is no requirement of the tests: pip install trl")
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    from sublim_causal.integrations.transformers import AlignmentCallback

    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]"
    )
    tokenizer.chat_template = CHAT
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=64, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"w{i % 26} w{(3 * i) % 26}"},
                {"role": "assistant", "content": f"w{(5 * i) % 26} w{(7 * i) % 26}"},
            ]
        }
        for i in range(16)
    ]

    def trait_loss(model: nn.Module) -> Tensor:
        probe = torch.arange(6, 26).reshape(4, 5)
        return -model(input_ids=probe).logits.float().log_softmax(-1)[..., OWL].mean()

    def tables(guard: dict[str, object] | None) -> AlignmentCallback:
        torch.manual_seed(0)
        callback = AlignmentCallback(trait_loss, guard=guard)
        trainer = GKDTrainer(
            model=GPT2LMHeadModel(config),
            teacher_model=GPT2LMHeadModel(config),
            args=GKDConfig(
                output_dir=str(tmp_path),
                max_steps=3,
                per_device_train_batch_size=4,
                learning_rate=1e-2,
                lmbda=0.0,
                max_length=32,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
                bf16=False,
                gradient_checkpointing=False,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        callback.add_to(trainer)
        trainer.train()
        logged = [one for one in trainer.state.log_history if "loss" in one]
        assert all("alignment/cos_update" in one for one in logged)
        return callback

    plain = tables(None).monitor
    assert plain is not None
    table = plain.table()
    assert table["step"].tolist() == [0, 1, 2]
    assert table["cos_update"].abs().max() > 1e-3
    assert (tmp_path / "alignment.csv").exists()
    guarded = tables({"intervention": "projection", "when": "always"}).monitor
    assert guarded is not None
    assert guarded.table()["cos_update"].abs().max() < 1e-4
