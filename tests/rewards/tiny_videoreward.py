"""A tiny random VideoReward in the layout of the released one, made with PEFT itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from ddrl.rewards.networks.videoreward_prompt import REWARD_TOKENS, question

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
SPECIAL += ["<|image_pad|>", "<|video_pad|>"]
RANK, ALPHA = 4, 12
MEAN, STD = (3.0, 1.0, 2.0), (2.0, 0.5, 4.0)


@dataclass(frozen=True)
class Tiny:
    """Folders of the base and of the reward, and the network with its LoRA unmerged."""

    base: Path
    folder: Path
    network: Any


WORDS = "a cat runs left and two dogs look system user assistant helpful You are"


def tokenizer(text: str = question(WORDS)) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, those of a text, without the reward tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    split = pre_tokenizers.Whitespace()
    words = sorted({word for word, _ in split.pre_tokenize_str(text)})
    vocabulary = {word: i for i, word in enumerate(["<unk>", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = split
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<|endoftext|>"
    )
    made.add_tokens(SPECIAL, special_tokens=True)
    return made


def base_config(tokens: PreTrainedTokenizerFast) -> Qwen2VLConfig:
    """Of a Qwen2-VL with two layers."""
    return Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokens) + 50,  # larger than its tokenizer, as the real one
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [1, 1, 2],
            },
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        },
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 4},
        image_token_id=tokens.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokens.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokens.convert_tokens_to_ids("<|vision_start|>"),
        tie_word_embeddings=True,
    )


def old_name(name: str) -> str:
    """The name that a weight had in transformers 4.45, with PEFT's prefix."""
    name = name.replace("model.language_model.", "model.", 1)
    return f"base_model.model.{name.replace('model.visual.', 'visual.', 1)}"


def make(root: Path, *, output_dim: int = 1) -> Tiny:
    """Write base and reward.

    Args:
        root: where.
        output_dim: of the head.
    """
    base, folder = root / "base", root / "reward"
    tokenizer().save_pretrained(base)
    config = base_config(tokenizer())
    config.save_pretrained(base)
    tokens = AutoTokenizer.from_pretrained(base)
    tokens.add_tokens(list(REWARD_TOKENS), special_tokens=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Qwen2VLForConditionalGeneration(config)
        network.rm_head = nn.Linear(config.text_config.hidden_size, output_dim, bias=False)
        network.resize_token_embeddings(len(tokens), mean_resizing=False)
        targets = [
            name
            for name, module in network.named_modules()
            if isinstance(module, nn.Linear) and "language_model" in name
        ]
        lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets)
        inject_adapter_in_model(lora, network)
        for name, parameter in network.named_parameters():
            if "norm" not in name and "ln_q" not in name:
                parameter.data.normal_(0, 0.2)
    checkpoint = folder / "checkpoint-12"
    checkpoint.mkdir(parents=True)
    (folder / "checkpoint-7").mkdir()
    state = {old_name(name): value.clone() for name, value in network.state_dict().items()}
    torch.save(state, checkpoint / "model.pth")
    torch.save({}, folder / "checkpoint-7" / "model.pth")
    write_config(folder, base, output_dim=output_dim)
    return Tiny(base, folder, network.eval())


def write_config(folder: Path, base: Path, *, output_dim: int = 1, **changes: Any) -> None:
    """Write ``model_config.json`` with the sections of the released one."""
    norm = {f"{n}_mean": m for n, m in zip(("VQ", "MQ", "TA"), MEAN, strict=True)}
    norm |= {f"{n}_std": s for n, s in zip(("VQ", "MQ", "TA"), STD, strict=True)}
    data = {"fps": 2, "max_frame_pixels": 200704, "sample_type": "uniform", "num_frames": None}
    config: dict[str, dict[str, Any]] = {
        "data_config": {**data, "prompt_template_type": "detailed_special", "eval_dim": ["VQ"]},
        "model_config": {
            "model_name_or_path": str(base),
            "output_dim": output_dim,
            "use_special_tokens": True,
            "reward_token": "special",
        },
        "peft_lora_config": {"lora_enable": True, "lora_r": RANK, "lora_alpha": ALPHA},
        "inference_config": norm,
    }
    for path, value in changes.items():
        section, key = path.split("__")
        config[section][key] = value
    (folder / "model_config.json").write_text(json.dumps(config))
