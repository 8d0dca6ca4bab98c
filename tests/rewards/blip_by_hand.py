"""A tiny random ImageReward in the released names, and the authors' way through it."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

IMAGE, TEXT, HEADS, LAYERS = 128, 192, {128: 2, 192: 3}, 2
PATCH, SIZE, WORDS = 16, 32, 300
HEAD = (TEXT, 12, 10, 8, 6, 1)  # the released one: 768, 1024, 128, 64, 16, 1
INDEX = (0, 2, 4, 6, 7)
VISION_EPS, TEXT_EPS = 1e-6, 1e-12

EYE, READER = "blip.visual_encoder", "blip.text_encoder"


def random_state(seed: int = 0) -> dict[str, Tensor]:
    """All weights, those that no score takes included."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw) * 0.1

    state: dict[str, Tensor] = {
        f"{EYE}.cls_token": normal(1, 1, IMAGE),
        f"{EYE}.pos_embed": normal(1, (SIZE // PATCH) ** 2 + 1, IMAGE),
        f"{EYE}.patch_embed.proj.weight": normal(IMAGE, 3, PATCH, PATCH),
        f"{EYE}.patch_embed.proj.bias": normal(IMAGE),
        f"{READER}.embeddings.word_embeddings.weight": normal(WORDS, TEXT) * 5,
        f"{READER}.embeddings.position_embeddings.weight": normal(40, TEXT),
        f"{READER}.embeddings.position_ids": torch.arange(40)[None],
        "blip.vision_proj.weight": normal(5, IMAGE),
        "blip.vision_proj.bias": normal(5),
        "blip.text_proj.weight": normal(5, TEXT),
        "blip.text_proj.bias": normal(5),
    }
    norms = {f"{EYE}.norm": IMAGE, f"{READER}.embeddings.LayerNorm": TEXT}
    linear: dict[str, tuple[int, int]] = {}
    for i in range(LAYERS):
        block, layer = f"{EYE}.blocks.{i}", f"{READER}.encoder.layer.{i}"
        norms |= {f"{block}.norm1": IMAGE, f"{block}.norm2": IMAGE}
        linear |= {
            f"{block}.attn.qkv": (3 * IMAGE, IMAGE),
            f"{block}.attn.proj": (IMAGE, IMAGE),
            f"{block}.mlp.fc1": (50, IMAGE),
            f"{block}.mlp.fc2": (IMAGE, 50),
            f"{layer}.intermediate.dense": (60, TEXT),
            f"{layer}.output.dense": (TEXT, 60),
        }
        norms[f"{layer}.output.LayerNorm"] = TEXT
        for kind, width in (("attention", TEXT), ("crossattention", IMAGE)):
            norms[f"{layer}.{kind}.output.LayerNorm"] = TEXT
            linear |= {
                f"{layer}.{kind}.self.query": (TEXT, TEXT),
                f"{layer}.{kind}.self.key": (TEXT, width),
                f"{layer}.{kind}.self.value": (TEXT, width),
                f"{layer}.{kind}.output.dense": (TEXT, TEXT),
            }
    for i, into, out in zip(INDEX, HEAD[:-1], HEAD[1:], strict=True):
        linear[f"mlp.layers.{i}"] = (out, into)
    for name, shape in linear.items():
        state |= {
            f"{name}.weight": normal(*shape) * (3 if "mlp.l" in name else 2),
            f"{name}.bias": normal(shape[0]),
        }
    for name, width in norms.items():
        state |= {f"{name}.weight": 1 + normal(width), f"{name}.bias": normal(width)}
    return state


def bert_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Of letters, with BERT's beginning, end and padding."""
    letters = {chr(c): 10 + c for c in range(33, 127)}
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, **letters}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )
    made.save_pretrained(folder)
    return made


def _linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _norm(state: dict[str, Tensor], name: str, x: Tensor, eps: float) -> Tensor:
    spread = ((x - x.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
    x = (x - x.mean(-1, keepdim=True)) / (spread + eps).sqrt()
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Of (L, D) and twice (M, D), head by head."""
    pieces = zip(query.chunk(heads, -1), key.chunk(heads, -1), value.chunk(heads, -1), strict=True)
    return torch.cat(
        [(q @ k.T / math.sqrt(q.shape[-1])).softmax(-1) @ v for q, k, v in pieces], dim=-1
    )


@torch.no_grad()
def score(state: dict[str, Tensor], pixels: Tensor, ids: list[int]) -> Tensor:
    """The head's output of one picture (3, SIZE, SIZE), normalized, and one text's tokens."""
    embed = f"{EYE}.patch_embed.proj"
    x = F.conv2d(pixels[None], state[f"{embed}.weight"], state[f"{embed}.bias"], stride=PATCH)
    x = torch.cat([state[f"{EYE}.cls_token"][0], x[0].flatten(1).T]) + state[f"{EYE}.pos_embed"][0]
    for i in range(LAYERS):
        block = f"{EYE}.blocks.{i}"
        qkv = _linear(state, f"{block}.attn.qkv", _norm(state, f"{block}.norm1", x, VISION_EPS))
        q, k, v = qkv.chunk(3, -1)
        x = x + _linear(state, f"{block}.attn.proj", _attend(q, k, v, HEADS[IMAGE]))
        y = _linear(state, f"{block}.mlp.fc1", _norm(state, f"{block}.norm2", x, VISION_EPS))
        x = x + _linear(state, f"{block}.mlp.fc2", F.gelu(y))
    seen = _norm(state, f"{EYE}.norm", x, VISION_EPS)

    words = state[f"{READER}.embeddings.word_embeddings.weight"][ids]
    places = state[f"{READER}.embeddings.position_embeddings.weight"][: len(ids)]
    x = _norm(state, f"{READER}.embeddings.LayerNorm", words + places, TEXT_EPS)
    for i in range(LAYERS):
        layer = f"{READER}.encoder.layer.{i}"
        for kind, source in (("attention", None), ("crossattention", seen)):
            from_ = x if source is None else source
            q, k, v = (
                _linear(state, f"{layer}.{kind}.self.{part}", y)
                for part, y in (("query", x), ("key", from_), ("value", from_))
            )
            y = _linear(state, f"{layer}.{kind}.output.dense", _attend(q, k, v, HEADS[TEXT]))
            x = _norm(state, f"{layer}.{kind}.output.LayerNorm", x + y, TEXT_EPS)
        y = F.gelu(_linear(state, f"{layer}.intermediate.dense", x))
        y = _linear(state, f"{layer}.output.dense", y)
        x = _norm(state, f"{layer}.output.LayerNorm", x + y, TEXT_EPS)
    value = x[0]
    for i in INDEX:
        value = _linear(state, f"mlp.layers.{i}", value)
    return value[0]
