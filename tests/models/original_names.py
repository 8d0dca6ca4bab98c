"""Tiny pipelines in one file, under the names that the models' first code gave their tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "conv_in.": "input_blocks.0.0.",
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}


def renamed(state: Mapping[str, Tensor], rename: Callable[[str], str], prefix: str = "") -> State:
    return {prefix + rename(name): tensor.contiguous() for name, tensor in state.items()}


def unet(network: Any) -> State:
    """Of a U-Net whose blocks have ``layers`` residual blocks each."""
    layers = network.config.layers_per_block
    ups = network.config.up_block_types

    def rename(name: str) -> str:
        for ours, theirs in _UNET.items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        kind, rest = name.split("_block", 1)
        parts = rest.lstrip("s.").split(".")
        if kind == "mid":
            place = {"resnets0": 0, "attentions0": 1, "resnets1": 2}[parts[0] + parts[1]]
            start, what, tail = f"middle_block.{place}.", parts[0], parts[2:]
        else:
            block, what, index, tail = int(parts[0]), parts[1], int(parts[2]), parts[3:]
            per, first, side = (
                (layers + 1, 1, "input") if kind == "down" else (layers + 1, 0, "output")
            )
            if what == "downsamplers":
                return f"input_blocks.{first + block * per + layers}.0.op.{tail[-1]}"
            if what == "upsamplers":
                last = 2 if "Attn" in ups[block] else 1
                return f"output_blocks.{block * per + layers}.{last}.conv.{tail[-1]}"
            slot = 0 if what == "resnets" else 1
            start = f"{side}_blocks.{first + block * per + index}.{slot}."
        if what == "resnets":
            tail = [_RESNET[tail[0]], *tail[1:]]
        return start + ".".join(tail)

    return renamed(network.state_dict(), rename, "model.diffusion_model.")


def vae(network: Any) -> State:
    blocks = len(network.config.block_out_channels)

    def rename(name: str) -> str:
        name = name.replace("mid_block.resnets.0", "mid.block_1").replace(
            "mid_block.resnets.1", "mid.block_2"
        )
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
        for ours, theirs in {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}.items():
            name = name.replace(f"attn_1.{ours}", f"attn_1.{theirs}")
        name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        up = re.compile(r"up_blocks\.(\d+)\.(resnets|upsamplers\.0)")
        if found := up.search(name):
            kind = "block" if found[2] == "resnets" else "upsample"
            name = up.sub(f"up.{blocks - 1 - int(found[1])}.{kind}", name)
        return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")

    state = renamed(network.state_dict(), rename, "first_stage_model.")
    return {
        name: t[..., None, None] if "attn_1." in name and t.ndim == 2 else t
        for name, t in state.items()
    }


def clip(network: Any, prefix: str) -> State:
    def rename(name: str) -> str:
        return name if name.startswith("text_") else f"text_model.{name}"

    return renamed(network.state_dict(), rename, prefix)


_OPEN_CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    ".fc1.": ".c_fc.",
    ".fc2.": ".c_proj.",
    ".self_attn.": ".attn.",
}


def open_clip(network: Any, prefix: str) -> State:
    def rename(name: str) -> str:
        name = name.removeprefix("text_model.")
        for ours, theirs in _OPEN_CLIP.items():
            name = name.replace(ours, theirs)
        return name

    state = renamed(network.state_dict(), rename)
    found = {"text_projection": state.pop("text_projection.weight").T}
    for name, tensor in state.items():
        if ".q_proj." in name:
            parts = [state[name.replace(".q_", f".{part}_")] for part in "qkv"]
            found[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            found[name] = tensor
    return renamed(found, str, prefix)


_SD3 = {
    "pos_embed.proj.": "x_embedder.proj.",
    "pos_embed.pos_embed": "pos_embed",
    "time_text_embed.timestep_embedder.linear_1.": "t_embedder.mlp.0.",
    "time_text_embed.timestep_embedder.linear_2.": "t_embedder.mlp.2.",
    "time_text_embed.text_embedder.linear_1.": "y_embedder.mlp.0.",
    "time_text_embed.text_embedder.linear_2.": "y_embedder.mlp.2.",
    "context_embedder.": "context_embedder.",
    "proj_out.": "final_layer.linear.",
}
_SD3_BLOCK = {
    "attn.to_out.0.": "x_block.attn.proj.",
    "attn.to_add_out.": "context_block.attn.proj.",
    "norm1.linear.": "x_block.adaLN_modulation.1.",
    "norm1_context.linear.": "context_block.adaLN_modulation.1.",
    "ff.net.0.proj.": "x_block.mlp.fc1.",
    "ff.net.2.": "x_block.mlp.fc2.",
    "ff_context.net.0.proj.": "context_block.mlp.fc1.",
    "ff_context.net.2.": "context_block.mlp.fc2.",
}
_QKV = {
    "x_block.attn.qkv": ("to_q", "to_k", "to_v"),
    "context_block.attn.qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
}


def sd3(network: Any) -> State:
    state, found = network.state_dict(), {}
    for name, tensor in state.items():
        for ours, theirs in _SD3.items():
            if name.startswith(ours):
                found[theirs + name.removeprefix(ours)] = tensor
    for end in ("weight", "bias"):
        swapped = state[f"norm_out.linear.{end}"].chunk(2)[::-1]
        found[f"final_layer.adaLN_modulation.1.{end}"] = torch.cat(swapped)
    last = network.config.num_layers - 1
    for index in range(last + 1):
        start, theirs = f"transformer_blocks.{index}.", f"joint_blocks.{index}."
        for end in ("weight", "bias"):
            for fused, parts in _QKV.items():
                pieces = [state[f"{start}attn.{part}.{end}"] for part in parts]
                found[f"{theirs}{fused}.{end}"] = torch.cat(pieces)
            for ours, name in _SD3_BLOCK.items():
                tensor = state.get(f"{start}{ours}{end}")
                if tensor is None:
                    continue
                if index == last and "context_block.adaLN" in name:
                    tensor = torch.cat(tensor.chunk(2)[::-1])  # its last block has no gates
                found[f"{theirs}{name}{end}"] = tensor
    return renamed(found, str, "model.diffusion_model.")
