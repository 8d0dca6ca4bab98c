"""HPSv3, against transformers' parts put together as the authors' code does."""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.rewards.rendering import noise, prompts
from tests.rewards.tiny_hpsv3 import make
from tests.rewards.tiny_videoreward import Tiny
from tests.rewards.weights import altered, refused
from torch import Tensor
from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

from ddrl.errors import RewardError, WeightsError
from ddrl.rewards.base import Reward, SampleError, make_reward
from ddrl.rewards.builtin.preference.hpsv3 import FILE, PIXELS
from ddrl.rewards.networks.hpsv3_prompt import REWARD_TOKEN, question
from ddrl.rewards.networks.qwen2vl import frame_size
from ddrl.testing.rewards import check_reward

TEXTS = ("a cat runs left", "two dogs", "a cat and two dogs look left and right")
GOLDEN = "DDRL_HPSV3"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make(tmp_path_factory.mktemp("hpsv3"))


def reward(tiny: Tiny, **options: object) -> Reward:
    return make_reward("hpsv3", {"weights": str(tiny.folder), "base": str(tiny.base), **options})


def outputs(tiny: Tiny, media: Tensor) -> Tensor:
    """The head's two numbers, sample by sample, as the authors' code goes."""
    network = tiny.network
    tokens = AutoTokenizer.from_pretrained(tiny.base)
    tokens.add_tokens([REWARD_TOKEN], special_tokens=True)
    values = []
    for image, text in zip(media, TEXTS, strict=True):
        picture = Image.fromarray((255 * image).round().byte().movedim(0, -1).numpy())
        picture = picture.resize((448, 448), Image.Resampling.BICUBIC)
        seen = Qwen2VLImageProcessorPil()(images=np.array(picture), return_tensors="pt")
        assert seen["image_grid_thw"].tolist() == [[1, 32, 32]]
        written = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * 256 + "<|vision_end|>"
            f"{question(text)}<|im_end|>\n<|im_start|>assistant\n"
        )
        ids = tokens(written, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            embedded = network.get_input_embeddings()(ids)
            visual = network.model.visual(seen["pixel_values"], grid_thw=seen["image_grid_thw"])
            embedded[ids == tokens.convert_tokens_to_ids("<|image_pad|>")] = visual.pooler_output
            hidden = network.model.language_model(inputs_embeds=embedded).last_hidden_state
            at = int((ids[0] == tokens.convert_tokens_to_ids(REWARD_TOKEN)).nonzero())
            values.append(network.rm_head(hidden[0, at]))
    return torch.stack(values)


def test_it_is_the_mean_less_kappa_deviations(tiny: Tiny) -> None:
    media = noise(3, 3, 48, 48)
    raw = outputs(tiny, media)
    assert float(raw.std(0).min()) > 0.02  # the samples differ
    found = reward(tiny, batch_size=2).score(media, prompts(*TEXTS))
    torch.testing.assert_close(found, raw[:, 0], atol=2e-3, rtol=1e-3)  # Pillow's levels, or ours
    lower = reward(tiny, kappa=2.0).score(media, prompts(*TEXTS))
    torch.testing.assert_close(found - lower, 2 * raw[:, 1].exp(), atol=5e-3, rtol=1e-3)


def test_frames_of_a_clip(tiny: Tiny) -> None:
    media, asked = noise(2, 3, 3, 28, 28), prompts(*TEXTS[:2])
    scorer = reward(tiny, frames=2)
    each = torch.stack([scorer.score(media[:, t], asked) for t in (0, 2)], dim=1)
    torch.testing.assert_close(scorer.score(media, asked), each.mean(1), atol=1e-5, rtol=1e-5)


def test_half_precision_is_near(tiny: Tiny) -> None:
    media, asked = noise(3, 3, 28, 28), prompts(*TEXTS)
    full, half = (reward(tiny, precision=p).score(media, asked) for p in ("float32", "bfloat16"))
    assert 0 < float((full - half).abs().max()) < float(full.std())
    assert half.dtype == torch.float32


def test_the_names_of_today_are_read_as_well(tiny: Tiny, tmp_path: Path) -> None:
    media, asked = noise(2, 3, 28, 28), prompts(*TEXTS[:2])
    state = {name: value.clone() for name, value in tiny.network.state_dict().items()}
    save_file(state, tmp_path / "today.safetensors")
    found = reward(tiny, weights=str(tmp_path / "today.safetensors")).score(media, asked)
    assert torch.equal(found, reward(tiny).score(media, asked))


@pytest.mark.parametrize(
    ("name", "value", "phrase"),
    [
        ("model.norm.weight", None, r"has no language_model.norm.weight \(1 in all\)"),
        ("visual.merger.mlp.0.bias", None, r"has no visual.merger.mlp.0.bias \(1 in all\)"),
        ("model.more", torch.ones(1), r"no place for: language_model.more \(1 in all\)"),
        ("rm_head.3.bias", None, r"has no rm_head.3.bias \(1 in all\)"),
        ("rm_head.1.bias", torch.ones(1), r"no place for: rm_head.1.bias \(1 in all\)"),
        ("rm_head.5.weight", torch.ones(3, 6), "do not lead from 32 features to a mean"),
        ("rm_head.0.weight", torch.ones(12, 7), "do not lead from 32 features to a mean"),
        ("model.norm.weight", torch.ones(3), "does not fit its Qwen2VLModel"),
        ("model.embed_tokens.weight", torch.ones(9, 32), "does not fit its Qwen2VLModel"),
    ],
)
def test_weights_that_are_not_all_there(
    tiny: Tiny, tmp_path: Path, name: str, value: Tensor | None, phrase: str
) -> None:
    save_file(altered(load_file(tiny.folder / FILE), name, value), tmp_path / FILE)
    with refused(phrase, tmp_path):
        reward(tiny, weights=str(tmp_path))


def test_files_that_are_missing(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"There is no {FILE}"):
        reward(tiny, weights=str(tmp_path))
    with pytest.raises(WeightsError, match="can't be loaded"):
        reward(tiny, base=str(tmp_path))
    (tmp_path / FILE).write_bytes(b"broken")
    with pytest.raises(WeightsError, match="can't be read"):
        reward(tiny, weights=str(tmp_path))
    with pytest.raises(RewardError, match="kappa must be at least 0"):
        reward(tiny, kappa=-1.0)


def test_a_prompt_with_a_token_of_the_model_fails_alone(tiny: Tiny) -> None:
    media = noise(3, 3, 28, 28)
    good = reward(tiny).score(media, prompts(*TEXTS))
    with pytest.raises(SampleError, match="sample 1: the prompt holds a special token") as caught:
        reward(tiny).score(media, prompts(TEXTS[0], f"a {REWARD_TOKEN} cat", TEXTS[2]))
    torch.testing.assert_close(caught.value.value[[0, 2]], good[[0, 2]], atol=1e-5, rtol=1e-5)
    assert bool(caught.value.value[1].isnan())


def test_the_prompt_is_the_one_it_was_trained_with() -> None:
    text = question("{text_prompt}")
    assert hashlib.sha256(text.encode()).hexdigest().startswith("f6ee57479d4e9eee76b49c00dc962e1e")
    assert text.count(REWARD_TOKEN) == 1


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(512, 512, (448, 448)), (64, 64, (448, 448)), (480, 832, (336, 588)), (832, 480, (588, 336))],
)
def test_size_that_pictures_are_looked_at(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    size = frame_size(height, width, grain=28, min_pixels=PIXELS, max_pixels=PIXELS)
    assert size == expected


def test_it_keeps_to_the_contract(tiny: Tiny) -> None:
    check_reward(reward(tiny, frames=1), noise(3, 3, 28, 28), prompts(*TEXTS))


@pytest.mark.skipif(GOLDEN not in os.environ, reason=f"{GOLDEN} names no {FILE}")
def test_the_released_weights_against_the_authors_package() -> None:
    """HPSv3's repository publishes no score of a picture, so its code is the reference."""
    pytest.importorskip("hpsv3", reason="the authors' package is not installed")
    coarse = noise(2, 3, 8, 8)
    media = torch.nn.functional.interpolate(coarse, (512, 512), mode="bicubic").clamp(0, 1)
    texts = ["a colourful blur", "a cat"]
    images = [Image.fromarray((255 * m).round().byte().movedim(0, -1).numpy()) for m in media]
    inferencer = importlib.import_module("hpsv3").HPSv3RewardInferencer(
        checkpoint_path=os.environ[GOLDEN]
    )
    expected = [float(row[0]) for row in inferencer.reward(prompts=texts, image_paths=images)]
    del inferencer
    scorer = make_reward("hpsv3", {"weights": os.environ[GOLDEN]})
    found = scorer.score(media, prompts(*texts)).tolist()
    assert found == pytest.approx(expected, abs=0.2)  # both in bfloat16, of other kernels
