"""A tiny random CLIP in open_clip's names, and open_clip's way through it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LENGTH, WORDS, SHARED, PATCH, SIZE, LAYERS = 77, 200, 24, 14, 28, 2
WIDTH = {"visual.": 160, "": 128}
HEADS = {"visual.": 2, "": 2}  # of 80 and 64


def random_state(seed: int = 0) -> dict[str, Tensor]:
    """All weights, large enough that pictures and texts differ."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw) * 0.1

    image, text = WIDTH["visual."], WIDTH[""]
    state = {
        "logit_scale": torch.tensor(4.6052),
        "positional_embedding": normal(LENGTH, text),
        "text_projection": normal(text, SHARED),
        "token_embedding.weight": normal(WORDS, text) * 5,
        "visual.class_embedding": normal(image),
        "visual.positional_embedding": normal((SIZE // PATCH) ** 2 + 1, image),
        "visual.proj": normal(image, SHARED),
        "visual.conv1.weight": normal(image, 3, PATCH, PATCH),
    }
    for norm, width in (("ln_final", text), ("visual.ln_pre", image), ("visual.ln_post", image)):
        state |= {f"{norm}.weight": 1 + normal(width), f"{norm}.bias": normal(width)}
    for tower, width in WIDTH.items():
        for i in range(LAYERS):
            block = f"{tower}transformer.resblocks.{i}"
            state |= {
                f"{block}.attn.in_proj_weight": normal(3 * width, width),
                f"{block}.attn.in_proj_bias": normal(3 * width),
                f"{block}.attn.out_proj.weight": normal(width, width),
                f"{block}.attn.out_proj.bias": normal(width),
                f"{block}.mlp.c_fc.weight": normal(50, width),
                f"{block}.mlp.c_fc.bias": normal(50),
                f"{block}.mlp.c_proj.weight": normal(width, 50),
                f"{block}.mlp.c_proj.bias": normal(width),
            }
            for norm in ("ln_1", "ln_2"):
                state |= {f"{block}.{norm}.weight": 1 + normal(width)}
                state |= {f"{block}.{norm}.bias": normal(width)}
    return state


def _norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def _linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _blocks(state: dict[str, Tensor], tower: str, x: Tensor, mask: Tensor | None) -> Tensor:
    for i in range(LAYERS):
        block = f"{tower}transformer.resblocks.{i}"
        with torch.random.fork_rng(devices=[]):
            attention = nn.MultiheadAttention(WIDTH[tower], HEADS[tower], batch_first=True).eval()
        prefix = f"{block}.attn."
        attention.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
        y = _norm(state, f"{block}.ln_1", x)
        x = x + attention(y, y, y, need_weights=False, attn_mask=mask)[0]
        y = F.gelu(_linear(state, f"{block}.mlp.c_fc", _norm(state, f"{block}.ln_2", x)))
        x = x + _linear(state, f"{block}.mlp.c_proj", y)
    return x


@torch.no_grad()
def image_features(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Normalized pixels (N, 3, SIZE, SIZE) -> (N, SHARED), of length 1."""
    x = F.conv2d(pixels, state["visual.conv1.weight"], stride=PATCH).flatten(2).mT
    first = state["visual.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], dim=1) + state["visual.positional_embedding"]
    x = _blocks(state, "visual.", _norm(state, "visual.ln_pre", x), None)
    return F.normalize(_norm(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"], dim=-1)


@torch.no_grad()
def text_features(state: dict[str, Tensor], ids: list[int]) -> Tensor:
    """Tokens of a text, with those of its beginning and end -> (SHARED,), of length 1."""
    padded = torch.tensor([ids + [0] * (LENGTH - len(ids))])  # as open_clip's tokenizer pads
    mask = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)
    x = state["token_embedding.weight"][padded] + state["positional_embedding"]
    x = _norm(state, "ln_final", _blocks(state, "", x, mask))
    last = x[0, int(padded[0].argmax())]  # the end of a text is its largest number
    return F.normalize(last @ state["text_projection"], dim=-1)
