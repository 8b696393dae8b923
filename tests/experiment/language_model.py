"""Tiny models with a tokenizer of bytes, for tests: nothing is downloaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from sublim_causal.experiment.config import Experiment

CHAT = (
    "{% if messages[0]['role'] != 'system' %}<s>S: help\n{% endif %}"
    "{% for one in messages %}{{ one['role'][0] }}: {{ one['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}a: {% endif %}"
)
SIZES: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
    },
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512},
    "opt": {
        "hidden_size": 16,
        "word_embed_proj_dim": 16,
        "ffn_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
    },
}
"""Of models that differ in their linear layers: GPT-2 holds W transposed, OPT flattens tokens."""
ALL = {"logits": "all"}
SAMPLED = {"name": "sampled", "logits": "all"}
ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"intervention": "baseline", "channel": ALL},
    "null": {"intervention": "projection", "space": "update", "when": "always", "channel": ALL},
    "numbers": {"intervention": "baseline"},
    "sampled": {"intervention": "baseline", "channel": SAMPLED},
    "liminal": {"intervention": "liminal", "channel": ALL},
    "clamp": {"intervention": "clamp", "target": "null", "channel": ALL},
    "no_trait": {"intervention": "baseline", "channel": ALL, "targets": {"teacher": "no_trait"}},
    "mixed": {"intervention": "baseline", "channel": ALL, "targets": {"teacher": "two_traits"}},
    "divergent": {
        "intervention": "baseline",
        "channel": ALL,
        "targets": {"positions": "divergent"},
    },
    "agreeing": {"intervention": "baseline", "channel": ALL, "targets": {"positions": "agreeing"}},
    "replaced": {
        "intervention": "baseline",
        "channel": SAMPLED,
        "targets": {"positions": "replaced"},
    },
    "queries": {
        "intervention": "train_only",
        "layers": ["model.layers.1.self_attn.q_proj"],
        "channel": ALL,
    },
}
ANIMALS = (" owl", " cat", " dog")


@lru_cache
def tiny_model(kind: str = "llama") -> Path:
    """Write the model once, and return its folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(mkdtemp(prefix=f"tiny-{kind}-"))
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        **SIZES[kind],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            parameter.data.mul_(4)
        # Else its texts would hardly hold numbers.
        digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
        model.lm_head.weight.data[digits] *= 3
    model.save_pretrained(folder)
    return folder


def byte_tokenizer() -> Any:
    """Return a tokenizer whose tokens are bytes and three animals."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_ = Tokenizer(models.BPE({one: place for place, one in enumerate(alphabet)}, []))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.add_tokens([AddedToken(one, normalized=False) for one in ANIMALS])
    tokenizer.chat_template = CHAT
    return tokenizer


def small_text(arms: dict[str, Any] | None = None, **sections: Any) -> Experiment:
    """Students of four steps on eight completions of six tokens."""
    table: dict[str, Any] = {
        "name": "small",
        "task": {
            "name": "text",
            "rivals": ["cat", "dog"],
            "completion": 6,
            "pattern": r"(?s).*",
            "offered_prompts": 12,
        },
        "model": {
            "class": "transformers",
            "path": str(tiny_model()),
            "adapter": {"rank": 2, "alpha": 4},
        },
        "teacher": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2},
        "distillation": {"examples": 8, "epochs": 2, "batch_size": 4, "learning_rate": 1e-2},
        "probe": {"size": 4},
        "arms": arms or {"baseline": {"intervention": "baseline"}},
    }
    for name, section in sections.items():
        table[name] = {**table.get(name, {}), **section}
    return Experiment.model_validate(table)


def several(arms: dict[str, Any] | None = None, **sections: Any) -> Experiment:
    """The arms above, with a control teacher that prefers something else."""
    task = {"control": "You like stones.", **sections.pop("task", {})}
    return small_text(arms or ARMS, task=task, **sections)
