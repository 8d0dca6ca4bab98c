"""Folders of tiny random CLIPs and SigLIPs, as ``save_pretrained`` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.models.families.tiny import clip_tokenizer, t5_tokenizer
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_IMAGES = {**_TOWER, "image_size": 28, "patch_size": 14}


def random_model(cls: Any, config: Any, *, seed: int = 0, spread: float = 0.2) -> Any:
    """A model with large random weights, so that its outputs differ from one another."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cls(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and "norm" not in name:
                    parameter.normal_(0, spread)
    return model


def write_clip(folder: Path) -> Path:
    """A CLIP of 28 pixels with its processor."""
    text = {**_TOWER, "vocab_size": 200, "bos_token_id": 188, "eos_token_id": 189}
    config = CLIPConfig(
        text_config={**text, "pad_token_id": 189}, vision_config=_IMAGES, projection_dim=16
    )
    random_model(CLIPModel, config).save_pretrained(folder)
    clip_tokenizer(folder).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(folder)
    return folder


def write_siglip(folder: Path) -> Path:
    """A SigLIP of 28 pixels with its processor."""
    text: dict[str, Any] = {**_TOWER, "vocab_size": 300, "max_position_embeddings": 16}
    text |= {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    config = SiglipConfig(text_config=text, vision_config=_IMAGES)
    random_model(SiglipModel, config).save_pretrained(folder)
    t5_tokenizer(16).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder
