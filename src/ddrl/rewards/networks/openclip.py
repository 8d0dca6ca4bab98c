"""CLIP weights of open_clip, in transformers' ``CLIPModel``.

The names, and how tensors are cut, are those of ``CLIP`` in
https://github.com/mlfoundations/open_clip (model.py and transformer.py): one matrix for query, key
and value, projections that are multiplied from the right, positions without a module of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.pixels import padded_square
from ddrl.rewards.networks.towers import TextImageModel
from ddrl.rewards.networks.weight_files import fill, find_file, read_state, sizes_of

# Of ViT-H-14 (open_clip's model_configs/ViT-H-14.json); weights do not show where a head ends.
_IMAGE_HEAD, _TEXT_HEAD = 80, 64

_SINGLE = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
}
_NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
}
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")


def clip_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights to the names of ``CLIPModel``; names that open_clip does not have stay."""
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        block = _BLOCK.fullmatch(name)
        if name in _SINGLE:
            named[_SINGLE[name]] = value
        elif name in _TRANSPOSED and value.ndim == 2:
            named[_TRANSPOSED[name]] = value.T.contiguous()
        elif module in _NORMS:
            named[f"{_NORMS[module]}.{kind}"] = value
        elif block:
            tower = "vision_model" if block[1] else "text_model"
            layer = f"{tower}.encoder.layers.{block[2]}"
            if block[3] == "attn.in_proj":
                for part, third in zip("qkv", value.chunk(3), strict=False):
                    named[f"{layer}.self_attn.{part}_proj.{block[4]}"] = third
            else:
                named[f"{layer}.{_IN_BLOCK.get(block[3], block[3])}.{block[4]}"] = value
        else:
            named[name] = value
    return named


def clip_config(state: Mapping[str, Tensor], end_of_text: int, where: str | Path) -> Any:  # noqa: ANN401
    """Derive the ``CLIPConfig`` of weights in open_clip's names, with the heads of a ViT-H-14.

    Args:
        state: the weights.
        end_of_text: number of the token at which texts are read.
        where: where they come from, for messages.

    Raises:
        WeightsError: weights that tell the sizes are missing.
    """
    from transformers import CLIPConfig

    in_block = "transformer.resblocks.0.mlp.c_fc.weight"
    words, _, length, width, inner, _, _, shared = sizes_of(
        state,
        {"token_embedding.weight": 2, "positional_embedding": 2, in_block: 2, "text_projection": 2},
        where,
    )
    image_width, _, patch, _, positions, _, image_inner, _ = sizes_of(
        state,
        {"visual.conv1.weight": 4, "visual.positional_embedding": 2, f"visual.{in_block}": 2},
        where,
    )
    if width % _TEXT_HEAD or image_width % _IMAGE_HEAD:
        raise WeightsError(
            f"{where} has towers of width {width} and {image_width}, which are no multiples of "
            f"{_TEXT_HEAD} and {_IMAGE_HEAD}.",
            hint="give the weights of a ViT-H-14, as HPSv2 is",
        )
    depth = [
        1 + max(int(b[2]) for b in map(_BLOCK.fullmatch, state) if b and bool(b[1]) == images)
        for images in (False, True)
    ]
    text = {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": depth[0],
        "num_attention_heads": width // _TEXT_HEAD,
        "max_position_embeddings": length,
        "eos_token_id": end_of_text,
        "bos_token_id": None,
        "pad_token_id": None,
        "hidden_act": "gelu",
    }
    vision = {
        "hidden_size": image_width,
        "intermediate_size": image_inner,
        "num_hidden_layers": depth[1],
        "num_attention_heads": image_width // _IMAGE_HEAD,
        "image_size": patch * round((positions - 1) ** 0.5),
        "patch_size": patch,
        "hidden_act": "gelu",
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=shared)


class PaddedClip(TextImageModel):
    """A CLIP that sees all of a picture, with black bars; arguments as of its parent.

    Args:
        weights: a file of open_clip's weights, or a folder or hub id that has it, or a folder
            written by ``save_pretrained``.
        name: what the file is called.
    """

    def __init__(self, weights: str, runtime: Runtime, *, name: str, processor: str) -> None:
        self._name = name
        super().__init__(weights, runtime, processor=processor)

    def _read(self, weights: str) -> Any:  # noqa: ANN401 - transformers is untyped
        if (Path(weights) / "config.json").is_file():
            return super()._read(weights)
        from transformers import CLIPModel

        path = find_file(weights, self._name)
        state = read_state(path)
        config = clip_config(state, int(self._tokenizer.eos_token_id), path)
        model = fill(lambda: CLIPModel(config), clip_names(state), path)
        return model.to(self._runtime.dtype)

    def _read_image_processor(self, source: str) -> None:
        """Read nothing: the bars, the mean and the standard deviation are fixed."""

    def _pixels(self, images: Tensor) -> Tensor:
        return padded_square(images, self.image_size)
