"""Parts of tiny random pipelines whose text encoder is a chat model."""

from __future__ import annotations

from typing import Any

import torch
from tests.models.families.tiny import t5_tokenizer
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}:"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %};"
    "{% endfor %}"
)


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes that knows conversations."""
    tokenizer = t5_tokenizer(2048)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def qwen_vl_config() -> Qwen2_5_VLConfig:
    """Of a tiny Qwen2.5-VL."""
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 300,
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
            "eos_token_id": 1,
            "pad_token_id": 0,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_heads": 4,
            "out_hidden_size": 32,
        },
        image_token_id=297,
        video_token_id=298,
        vision_start_token_id=299,
    )


def random(build: Any, *arguments: Any, seed: int = 0, **settings: Any) -> Any:
    """What a constructor builds with random weights that are the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*arguments, **settings).eval()


def pixels(*shape: int, seed: int = 1) -> torch.Tensor:
    """Random pixels, multiples of 1 / 255."""
    levels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    return levels.float() / 255
