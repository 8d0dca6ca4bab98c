"""Folders of tiny random detectors, as ``save_pretrained`` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.models.families.tiny import clip_tokenizer
from tests.rewards.tiny_clip import random_model
from transformers import (
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessorPil,
    SwinConfig,
)

_TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_TEXT = {
    **_TOWER,
    "vocab_size": 200,
    "max_position_embeddings": 32,
    "bos_token_id": 188,
    "eos_token_id": 189,
    "pad_token_id": 189,
}
_IMAGES = {**_TOWER, "image_size": 48, "patch_size": 8}


def write_owl(folder: Path, *, version: int = 2) -> Path:
    """An OWLv2 (padded to a square) or OWL-ViT of 48 pixels with its processor."""
    make_config, model, images = (
        (Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil)
        if version == 2
        else (OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessorPil)
    )
    config = make_config(text_config=_TEXT, vision_config=_IMAGES, projection_dim=32)
    random_model(model, config, spread=0.4).save_pretrained(folder)
    clip_tokenizer(folder).save_pretrained(folder)
    images(size={"height": 48, "width": 48}).save_pretrained(folder)
    return folder


def write_grounding_dino(folder: Path) -> Path:
    """A Grounding DINO with its processor."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(97, 123)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *letters]
    words += ["##" + letter for letter in letters]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 64})
    )
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    swin = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config={
            "model_type": "bert",
            "vocab_size": len(words),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 24,
        },
        d_model=32,
        num_queries=20,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_text_len=64,
    )
    random_model(GroundingDinoForObjectDetection, config).save_pretrained(folder)
    GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(
        folder
    )
    return folder
