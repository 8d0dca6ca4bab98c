"""HPS v2.1, against open_clip's way through its weights, written out."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.models.families.tiny import clip_tokenizer
from tests.rewards import openclip_by_hand
from tests.rewards.rendering import noise, prompts
from tests.rewards.weights import altered, refused
from torch import Tensor
from transformers import CLIPModel

from ddrl.errors import WeightsError
from ddrl.rewards.base import Reward, make_reward
from ddrl.rewards.builtin.preference.hps import FILE, TOKENIZER
from ddrl.rewards.networks.openclip import clip_config, clip_names
from ddrl.rewards.networks.pixels import padded_square
from ddrl.rewards.networks.weight_files import fill
from ddrl.testing.rewards import check_reward

TEXTS = ("a cat", "two dogs on a red car", "x", "a cat")
GOLDEN = "DDRL_HPS"
STATE = openclip_by_hand.random_state()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the hub's, and the tokenizer that it needs."""
    clip_tokenizer(tmp_path).save_pretrained(tmp_path)
    torch.save({"epoch": 3, "state_dict": STATE}, tmp_path / FILE)
    return tmp_path


def reward(folder: Path, **options: object) -> Reward:
    return make_reward("hps", {"weights": str(folder), **options})


def by_hand(media: Tensor, texts: tuple[str, ...], folder: Path) -> Tensor:
    """The cosine of each picture and its text, one at a time."""
    tokenizer = clip_tokenizer(folder / "again")
    values = []
    for image, text in zip(media, texts, strict=True):
        seen = openclip_by_hand.image_features(STATE, padded_square(image[None], 28))[0]
        read = openclip_by_hand.text_features(STATE, tokenizer(text)["input_ids"])
        values.append(seen @ read)
    return torch.stack(values)


@pytest.mark.parametrize("size", [(40, 60), (28, 28)])
def test_it_is_the_cosine_of_open_clip(folder: Path, size: tuple[int, int]) -> None:
    media = noise(4, 3, *size)
    expected = by_hand(media, TEXTS, folder)
    found = reward(folder, batch_size=3).score(media, prompts(*TEXTS))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert float(expected.std()) > 0.05


def test_a_text_that_is_too_long_ends_where_the_model_does(folder: Path) -> None:
    """open_clip's tokenizer keeps the first 76 tokens and puts the end behind them."""
    text = "ab " * 60
    ids = clip_tokenizer(folder / "again")(text)["input_ids"]
    assert len(ids) > 77
    media = noise(1, 3, 28, 28)
    seen = openclip_by_hand.image_features(STATE, padded_square(media, 28))[0]
    expected = seen @ openclip_by_hand.text_features(STATE, [*ids[:76], ids[-1]])
    found = reward(folder).score(media, prompts(text))
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)


def test_a_folder_of_transformers_and_a_safetensors_file_do_as_well(
    folder: Path, tmp_path: Path
) -> None:
    media, asked = noise(4, 3, 40, 60), prompts(*TEXTS)
    expected = reward(folder).score(media, asked)
    config = clip_config(STATE, 189, folder)
    other = tmp_path / "saved"
    fill(lambda: CLIPModel(config), clip_names(STATE), folder).save_pretrained(other)
    file = tmp_path / "hps.safetensors"
    save_file({name: value.contiguous() for name, value in STATE.items()}, file)
    for weights in (other, file):
        found = reward(weights, processor=str(folder)).score(media, asked)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_the_sizes_of_the_released_model() -> None:
    """By weights of its shapes that take no memory."""
    state = {
        "token_embedding.weight": torch.empty(49408, 1024, device="meta"),
        "positional_embedding": torch.empty(77, 1024, device="meta"),
        "text_projection": torch.empty(1024, 1024, device="meta"),
        "transformer.resblocks.0.mlp.c_fc.weight": torch.empty(4096, 1024, device="meta"),
        "transformer.resblocks.23.ln_1.bias": torch.empty(1024, device="meta"),
        "visual.conv1.weight": torch.empty(1280, 3, 14, 14, device="meta"),
        "visual.positional_embedding": torch.empty(257, 1280, device="meta"),
        "visual.transformer.resblocks.0.mlp.c_fc.weight": torch.empty(5120, 1280, device="meta"),
        "visual.transformer.resblocks.31.ln_1.bias": torch.empty(1280, device="meta"),
    }
    config = clip_config(state, 49407, "weights")
    text, vision = config.text_config, config.vision_config
    assert (text.num_hidden_layers, text.num_attention_heads) == (24, 16)
    assert (vision.num_hidden_layers, vision.num_attention_heads) == (32, 16)
    assert (vision.image_size, vision.patch_size, config.projection_dim) == (224, 14, 1024)
    assert text.hidden_act == vision.hidden_act == "gelu"


@pytest.mark.parametrize(
    ("name", "value", "phrase"),
    [
        ("visual.proj", None, r"has no visual_projection.weight \(1 in all\)"),
        ("visual.transformer.resblocks.1.attn.in_proj_bias", None, r"has no .*k_proj.*3 in all"),
        ("text_projection", None, r"has no text_projection \(1 in all\)"),
        ("visual.extra.weight", torch.ones(1), "no place for: visual.extra.weight"),
        ("ln_final.weight", torch.ones(3), "does not fit its CLIPModel"),
        ("visual.proj", torch.ones(160), "no place for: visual.proj|has no visual_projection"),
        ("positional_embedding", torch.ones(77), r"the shape \(77,\), which is not of 2 dim"),
        ("visual.conv1.weight", torch.ones(90, 3, 14, 14), "are no multiples of 64 and 80"),
    ],
)
def test_weights_that_are_not_all_there(
    folder: Path, name: str, value: Tensor | None, phrase: str
) -> None:
    torch.save(altered(STATE, name, value), folder / FILE)
    with refused(phrase, folder):
        reward(folder)


def test_files_that_are_missing_or_foreign(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=f"There is no {FILE} in"):
        reward(tmp_path / "empty", processor=str(folder))
    (folder / FILE).write_bytes(b"PK broken")
    with pytest.raises(WeightsError, match="can't be read"):
        reward(folder)
    torch.save({"state_dict": [1, 2]}, folder / FILE)
    with pytest.raises(WeightsError, match="holds no state dict"):
        reward(folder)


def test_a_pickle_runs_no_code(folder: Path) -> None:
    torch.save({"state_dict": STATE, "then": Path("x")}, folder / FILE)
    with pytest.raises(WeightsError, match="holds other objects than tensors"):
        reward(folder)


def test_half_precision_is_near(folder: Path) -> None:
    media, asked = noise(4, 3, 40, 60), prompts(*TEXTS)
    full, half = (
        reward(folder, precision=precision).score(media, asked)
        for precision in ("float32", "bfloat16")
    )
    assert 0 < float((full - half).abs().max()) < 0.3 * float(full.std())
    assert half.dtype == torch.float32


def test_it_keeps_to_the_contract(folder: Path) -> None:
    check_reward(reward(folder, frames=2), noise(3, 3, 40, 60), prompts(*TEXTS[:3]))


@pytest.mark.skipif(GOLDEN not in os.environ, reason=f"{GOLDEN} names no {FILE}")
def test_the_released_weights_against_the_authors_package() -> None:
    """HPSv2's repository publishes no score of v2.1, so its code is the reference."""
    pytest.importorskip("hpsv2", reason="the authors' package is not installed")
    from PIL import Image

    coarse = noise(2, 3, 8, 8)
    media = torch.nn.functional.interpolate(coarse, (300, 400), mode="bicubic").clamp(0, 1)
    texts = ("a colourful blur", "a cat")
    score = importlib.import_module("hpsv2.img_score").score
    expected = []
    for image, text in zip(media, texts, strict=True):
        picture = Image.fromarray((255 * image).round().byte().movedim(0, -1).numpy())
        expected.append(float(score(picture, text, os.environ[GOLDEN])[0]))
    found = make_reward("hps", {"weights": os.environ[GOLDEN], "processor": TOKENIZER})
    value = found.score(media, prompts(*texts)).tolist()
    assert value == pytest.approx(expected, abs=2e-3)  # theirs is in half precision
