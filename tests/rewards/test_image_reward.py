"""ImageReward, against its authors' way through the weights, written out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.rewards import blip_by_hand
from tests.rewards.rendering import prompts
from tests.rewards.weights import altered, refused
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.rewards.base import Reward, make_reward
from ddrl.rewards.builtin.preference.image_reward import FILE, MEAN, STD, TOKENIZER
from ddrl.rewards.networks.blip import LENGTH, blip_configs
from ddrl.rewards.networks.pixels import cropped_square
from ddrl.testing.rewards import check_reward

TEXTS = ("a cat", "two dogs on a red car", "x", "a cat")
GOLDEN, PICTURES = "DDRL_IMAGE_REWARD", "DDRL_IMAGE_REWARD_PICTURES"
STATE = blip_by_hand.random_state()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the hub's, and the tokenizer that it needs."""
    blip_by_hand.bert_tokenizer(tmp_path)
    torch.save(STATE, tmp_path / FILE)
    return tmp_path


def reward(folder: Path, **options: object) -> Reward:
    return make_reward("image_reward", {"weights": str(folder), **options})


def pictures(*shape: int) -> Tensor:
    """Squares of a few colours, so that they differ from one another."""
    coarse = torch.rand((*shape[:-2], 2, 2), generator=torch.Generator().manual_seed(0))
    rows, columns = (torch.arange(side) * 2 // side for side in shape[-2:])
    return coarse[..., rows[:, None], columns]


@pytest.mark.parametrize("size", [(40, 60), (32, 32)])
def test_it_is_the_authors_formula(folder: Path, size: tuple[int, int]) -> None:
    """Texts are not padded there, so that padding must not matter."""
    media = pictures(4, 3, *size)
    tokenizer = blip_by_hand.bert_tokenizer(folder)
    raw = torch.stack(
        [
            blip_by_hand.score(STATE, cropped_square(image[None], 32)[0], tokenizer(text).input_ids)
            for image, text in zip(media, TEXTS, strict=True)
        ]
    )
    expected = (raw - 0.16717362830052426) / 1.0333394966054072
    found = reward(folder, batch_size=3).score(media, prompts(*TEXTS))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert float(expected.std()) > 0.2
    assert (MEAN, STD) == (0.16717362830052426, 1.0333394966054072)


def test_picture_and_prompt_both_count(folder: Path) -> None:
    media = pictures(2, 3, 32, 32)
    a, b = (reward(folder).score(media[[0, 0]], prompts(*TEXTS[:2]))).tolist()
    c, d = (reward(folder).score(media, prompts("x", "x"))).tolist()
    assert abs(a - b) > 0.01
    assert abs(c - d) > 0.01


def test_a_text_is_read_up_to_its_35th_token(folder: Path) -> None:
    media = pictures(3, 3, 32, 32)[[0, 0, 0]]
    texts = ("y" * 33, "y" * 33 + "z" * 9, "y" * 32 + "z" * 9)
    same, longer, other = reward(folder).score(media, prompts(*texts)).tolist()
    assert LENGTH == 35
    assert same == pytest.approx(longer, abs=1e-4)
    assert abs(same - other) > 1e-3


def test_frames_of_a_clip(folder: Path) -> None:
    media, asked = pictures(2, 5, 3, 32, 32), prompts(*TEXTS[:2])
    scorer = reward(folder, frames=3)
    each = torch.stack([scorer.score(media[:, t], asked) for t in (0, 2, 4)], dim=1)
    torch.testing.assert_close(scorer.score(media, asked), each.mean(1))
    most = reward(folder, frames=3, over_frames="max")
    torch.testing.assert_close(most.score(media, asked), each.amax(1))


def test_the_sizes_of_the_released_model() -> None:
    eye, reader = blip_by_hand.EYE, blip_by_hand.READER
    shapes: dict[str, tuple[int, ...]] = {
        f"{eye}.patch_embed.proj.weight": (1024, 3, 16, 16),
        f"{eye}.pos_embed": (1, 197, 1024),
        f"{eye}.blocks.0.mlp.fc1.weight": (4096, 1024),
        f"{eye}.blocks.23.norm1.weight": (1024,),
        f"{reader}.embeddings.word_embeddings.weight": (30524, 768),
        f"{reader}.embeddings.position_embeddings.weight": (512, 768),
        f"{reader}.encoder.layer.0.intermediate.dense.weight": (3072, 768),
        f"{reader}.encoder.layer.11.output.dense.bias": (768,),
    }
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    vision, text = blip_configs(state, "weights")
    assert (vision.num_hidden_layers, vision.num_attention_heads, vision.image_size) == (
        24,
        16,
        224,
    )
    assert (text.num_hidden_layers, text.num_attention_heads) == (12, 12)
    assert (vision.layer_norm_eps, text.layer_norm_eps) == (1e-6, 1e-12)
    assert text.encoder_hidden_size == 1024


LAYER = f"{blip_by_hand.READER}.encoder.layer.1"


@pytest.mark.parametrize(
    ("name", "value", "phrase"),
    [
        (f"{LAYER}.crossattention.self.key.bias", None, r"has no text.*self.key.bias \(1 in all\)"),
        ("blip.visual_encoder.norm.bias", None, r"has no vision.post_layernorm.bias"),
        ("mlp.layers.4.weight", None, r"has no mlp.layers.4.weight \(1 in all\)"),
        ("mlp.layers.4.bias", None, r"has no head.4.bias \(1 in all\)"),
        (f"{LAYER}.more", torch.ones(1), "no place for: text.encoder.layer.1.more"),
        (f"{LAYER}.output.dense.bias", torch.ones(3), "does not fit its _Network"),
        ("blip.visual_encoder.pos_embed", torch.ones(5, 128), "which is not of 3 dimensions"),
        ("blip.visual_encoder.pos_embed", None, "has no blip.visual_encoder.pos_embed"),
    ],
)
def test_weights_that_are_not_all_there(
    folder: Path, name: str, value: Tensor | None, phrase: str
) -> None:
    torch.save(altered(STATE, name, value), folder / FILE)
    with refused(phrase, folder):
        reward(folder)


def test_a_tokenizer_that_is_missing_or_too_large(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"The tokenizer .* can't be loaded|files are missing"):
        reward(folder, tokenizer=str(tmp_path / "none"))
    larger = blip_by_hand.bert_tokenizer(folder)
    larger.add_tokens([f"word{i}" for i in range(300)])
    larger.save_pretrained(tmp_path / "larger")
    with pytest.raises(WeightsError, match=r"words, and .* knows only 300"):
        reward(folder, tokenizer=str(tmp_path / "larger"))


def test_half_precision_is_near(folder: Path) -> None:
    media, asked = pictures(4, 3, 40, 60), prompts(*TEXTS)
    full, half = (
        reward(folder, precision=precision).score(media, asked)
        for precision in ("float32", "bfloat16")
    )
    assert 0 < float((full - half).abs().max()) < float(full.std())
    assert half.dtype == torch.float32


def test_it_keeps_to_the_contract(folder: Path) -> None:
    samples = pictures(3, 3, 40, 60), prompts(*TEXTS[:3])
    # Some processors' convolutions of one picture round otherwise than those of three.
    check_reward(reward(folder, frames=2), *samples, tolerance=1e-4)


@pytest.mark.skipif(
    not {GOLDEN, PICTURES} <= set(os.environ),
    reason=f"{GOLDEN} and {PICTURES} name no {FILE} and no assets/images of its repository",
)
def test_the_released_weights_score_as_the_authors_say() -> None:
    """The example of the README of https://github.com/THUDM/ImageReward."""
    from PIL import Image

    text = "a painting of an ocean with clouds and birds, day time, low depth field effect"
    scorer = make_reward(
        "image_reward", {"weights": os.environ[GOLDEN], "tokenizer": TOKENIZER, "device": "cpu"}
    )
    found = []
    for i in range(1, 5):
        with Image.open(Path(os.environ[PICTURES]) / f"{i}.webp") as image:
            array = np.array(image.convert("RGB"))
        media = torch.from_numpy(array).movedim(-1, 0)[None] / 255
        found += scorer.score(media, prompts(text)).tolist()
    golden = [0.5811622738838196, 0.2745276093482971, -1.4131819009780884, -2.029569625854492]
    assert found == pytest.approx(golden, abs=0.03)
