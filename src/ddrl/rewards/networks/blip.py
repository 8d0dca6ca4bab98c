"""ImageReward's network: a BLIP that reads the text while looking at the picture, and a head."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddrl.errors import WeightsError
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.loading import load_tokenizer, loading
from ddrl.rewards.networks.pixels import cropped_square
from ddrl.rewards.networks.weight_files import fill, find_file, read_state, sizes_of

LENGTH = 35
"""Tokens of a text that are read, with those of its beginning and end."""

_HEAD = 64  # wide is every head of BLIP's ViT-L and of its BERT

# The head's layers, all linear; the rest of the authors' nn.Sequential is dropout.
_LAYERS = (0, 2, 4, 6, 7)

# What the released file holds beyond what the score takes: the projections of BLIP's contrastive
# loss, and a count from 0.
_UNUSED = re.compile(r"blip\.((vision|text)_proj\..*|text_encoder\.embeddings\.position_ids)")

_VISION = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "blocks": "encoder.layers",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "norm": "post_layernorm",
}
_PART = re.compile(r"(?<![\w.])patch_embed\.proj(?=\.)|attn\.(?:qkv|proj)(?=\.)|\w+")


def blip_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights to the names of :class:`_Network`, without those that are not used."""
    named = {}
    for name, value in state.items():
        if name.startswith("blip.visual_encoder."):
            inner = name.removeprefix("blip.visual_encoder.")
            inner = _PART.sub(lambda part: _VISION.get(part[0], part[0]), inner)
            named[f"vision.{inner}"] = value
        elif name.startswith("mlp.layers."):
            named[name.replace("mlp.layers", "head", 1)] = value
        elif not _UNUSED.fullmatch(name):
            named[name.replace("blip.text_encoder.", "text.", 1)] = value
    return named


def blip_configs(state: Mapping[str, Tensor], where: str | Path) -> tuple[Any, Any]:
    """Derive the ``BlipVisionConfig`` and ``BlipTextConfig`` of weights in the released names.

    What weights do not show is that of BLIP: heads of 64, and its layer norms (1e-6 in vit.py,
    1e-12 in med_config.json).

    Raises:
        WeightsError: weights that tell the sizes are missing.
    """
    from transformers import BlipTextConfig, BlipVisionConfig

    image, text = "blip.visual_encoder", "blip.text_encoder"
    width, _, patch, _, _, positions, _, inner, _ = sizes_of(
        state,
        {
            f"{image}.patch_embed.proj.weight": 4,
            f"{image}.pos_embed": 3,
            f"{image}.blocks.0.mlp.fc1.weight": 2,
        },
        where,
    )
    words, text_width, length, _, text_inner, _ = sizes_of(
        state,
        {
            f"{text}.embeddings.word_embeddings.weight": 2,
            f"{text}.embeddings.position_embeddings.weight": 2,
            f"{text}.encoder.layer.0.intermediate.dense.weight": 2,
        },
        where,
    )
    if width % _HEAD or text_width % _HEAD:
        raise WeightsError(
            f"{where} has encoders of width {width} and {text_width}, which are no multiples of "
            f"{_HEAD}.",
            hint="the option weights names another model; take the released one",
        )
    vision = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=_depth(state, rf"{image}\.blocks\.(\d+)\..*"),
        num_attention_heads=width // _HEAD,
        image_size=patch * round((positions - 1) ** 0.5),
        patch_size=patch,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )
    reader = BlipTextConfig(
        vocab_size=words,
        hidden_size=text_width,
        encoder_hidden_size=width,
        intermediate_size=text_inner,
        num_hidden_layers=_depth(state, rf"{text}\.encoder\.layer\.(\d+)\..*"),
        num_attention_heads=text_width // _HEAD,
        max_position_embeddings=length,
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        bos_token_id=None,
        is_decoder=True,  # transformers' word for: with cross attention
    )
    return vision, reader


def _depth(state: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max(int(m[1]) for name in state if (m := re.fullmatch(pattern, name)))


class _Network(nn.Module):
    """Picture encoder, text encoder with cross attention, head."""

    def __init__(self, vision: Any, text: Any, sizes: Sequence[tuple[int, int]]) -> None:  # noqa: ANN401
        super().__init__()
        from transformers import BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        self.vision = BlipVisionModel(vision)
        self.text = BlipTextModel(text, add_pooling_layer=False)
        layers = zip(_LAYERS, sizes, strict=True)
        self.head = nn.ModuleDict({str(i): nn.Linear(into, out) for i, (out, into) in layers})

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Shape (N, 3, size, size) and twice (N, LENGTH) -> (N,), float32."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        read = self.text(input_ids=ids, attention_mask=mask, encoder_hidden_states=seen)
        value: Tensor = read.last_hidden_state[:, 0].float()
        for layer in self.head.values():
            value = layer(value)
        return value[:, 0]


class BlipReward:
    """The network, ready for use.

    Args:
        weights: see :func:`ddrl.rewards.networks.weight_files.find_file`.
        runtime: where and how the encoders run; the head is in float32.
        name: what the released file is called.
        tokenizer: folder or hub id of BERT's (uncased).

    Raises:
        WeightsError: something is missing, broken, or of another model.
    """

    def __init__(self, weights: str, runtime: Runtime, *, name: str, tokenizer: str) -> None:
        self._runtime = runtime
        with loading(
            f"The tokenizer {tokenizer}",
            "offline, download tokenizer.json and the like of bert-base-uncased to a folder and "
            "name it with the option tokenizer",
        ):
            self._tokenizer = load_tokenizer(
                tokenizer, "name the folder or hub id that has them with the option tokenizer"
            )
        path = find_file(weights, name)
        state = read_state(path)
        vision, text = blip_configs(state, path)
        heads = {f"mlp.layers.{i}.weight": 2 for i in _LAYERS}
        flat = sizes_of(state, heads, path)
        sizes = list(zip(flat[::2], flat[1::2], strict=True))
        if len(self._tokenizer) > text.vocab_size:
            raise WeightsError(
                f"The tokenizer of {tokenizer} has {len(self._tokenizer)} words, and {path} knows "
                f"only {text.vocab_size}.",
                hint="give the tokenizer of bert-base-uncased",
            )
        self._size = int(vision.image_size)
        network = fill(lambda: _Network(vision, text, sizes), blip_names(state), path)
        network.vision.to(runtime.dtype)
        network.text.to(runtime.dtype)
        network.head.float()
        self._network = network.to(runtime.device).eval().requires_grad_(False)

    @torch.no_grad()
    def score(self, frames: Tensor, texts: Sequence[str]) -> Tensor:
        """Pixels in [0, 1], shape (B, F, 3, H, W), and B texts -> (B, F), float32, on the CPU."""
        images = frames.flatten(0, 1)
        tokens = self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=LENGTH,
            return_tensors="pt",
        )
        ids, mask = (
            tokens[name].repeat_interleave(frames.shape[1], 0).to(self._runtime.device)
            for name in ("input_ids", "attention_mask")
        )
        pieces = []
        for rows in self._runtime.slices(len(images)):
            pixels = cropped_square(images[rows].to(self._runtime.device), self._size)
            found = self._network(pixels.to(self._runtime.dtype), ids[rows], mask[rows])
            pieces.append(found.cpu())
        return torch.cat(pieces).reshape(frames.shape[:2])
