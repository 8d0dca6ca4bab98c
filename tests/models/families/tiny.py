"""Parts of tiny random pipelines, built in code: tokenizers, text encoders and a VAE."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    T5Config,
    T5EncoderModel,
)

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}:"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %};"
    "{% endfor %}"
)

SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 16,
    "head_dim": 8,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
"""The config of a tiny text encoder, as most of the newer ones call its fields."""


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Draw random weights that are the same every time, and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def random(build: Any, *arguments: Any, seed: int = 0, **settings: Any) -> Any:
    """Build a network with random weights that are the same every time."""
    with seeded(seed):
        return build(*arguments, **settings).eval()


def pixels(*shape: int, seed: int = 1) -> torch.Tensor:
    """Random pixels as a file has them, multiples of 1 / 255."""
    levels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    return levels.float() / 255


def noise(*shape: int, seed: int = 2) -> torch.Tensor:
    """Random numbers of a normal distribution."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fill_zeros(network: torch.nn.Module, *, std: float) -> None:
    """Draw the parameters that start at zero, so that ignoring what they weigh is seen."""
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=std)


def autoencoder_kl(**settings: Any) -> AutoencoderKL:
    """A tiny VAE of pictures, which halves their sides."""
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        **settings,
    )


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer of single letters, with a length limit of 77."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )


def t5_tokenizer(length: int = 64) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes with T5's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):  # in no order by itself
        vocabulary.setdefault(byte, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=length,
    )


def clip_text_model(width: int = 32, *, seed: int = 0, projection: bool = True) -> Any:
    """A tiny CLIP text encoder, with its projection or without."""
    config = CLIPTextConfig(
        vocab_size=200,
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=width,
        bos_token_id=188,
        eos_token_id=189,
        pad_token_id=189,
        hidden_act="gelu",
    )
    return random(CLIPTextModelWithProjection if projection else CLIPTextModel, config, seed=seed)


def t5_encoder(
    width: int = 32, *, seed: int = 0, kind: Any = T5EncoderModel, config: Any = T5Config
) -> Any:
    """A tiny T5 encoder, or one of its relatives."""
    made = config(
        vocab_size=300,
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
    )
    return random(kind, made, seed=seed)


def chat_tokenizer(
    length: int = 2048, *, template: str = TEMPLATE, special: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes that knows conversations."""
    tokenizer = t5_tokenizer(length)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = template
    return tokenizer


def qwen_vl_config(
    width: int = 32, *, tokens: dict[str, int] | None = None, **text: Any
) -> Qwen2_5_VLConfig:
    """Of a tiny Qwen2.5-VL; ``tokens`` are the numbers of those that stand for pictures."""
    ids = {"image": 297, "video": 298, "vision_start": 299}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 300,
            "hidden_size": width,
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
            **text,
        },
        vision_config={
            "depth": 1,
            "hidden_size": width,
            "intermediate_size": 37,
            "num_heads": width // 8,
            "out_hidden_size": width,
        },
        **{f"{name}_token_id": number for name, number in (tokens or ids).items()},
    )


@torch.no_grad()
def strengthen(network: Any, vae: Any) -> None:
    """Make a source image heard, and changes seen: among random weights both are faint."""
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2 and ("blocks" in name or "x_embedder" in name):
            parameter.mul_(3)
    vae.encoder.conv_out.weight.mul_(8)
    vae.decoder.conv_out.weight.mul_(3)


def ltx_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """As LTX-Video and LTX-2 are released with, whose shift grows with the tokens."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
