"""VideoReward, against PEFT's unmerged network and the authors' way through it, written out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.rewards.rendering import prompts
from tests.rewards.tiny_videoreward import MEAN, STD, Tiny, make, write_config
from tests.rewards.weights import altered, refused
from torch import Tensor
from transformers import AutoTokenizer

from ddrl.errors import RewardError
from ddrl.rewards.base import Reward, SampleError, make_reward
from ddrl.rewards.builtin.preference.video_align import MIN_PIXELS, frame_index
from ddrl.rewards.networks.qwen2vl import frame_size, patches
from ddrl.rewards.networks.videoreward_prompt import REWARD_TOKENS, question

BOUNDS = {"grain": 28, "min_pixels": MIN_PIXELS, "max_pixels": 200704}
TEXTS = ("a cat runs left", "two dogs", "a cat and two dogs look left and right")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make(tmp_path_factory.mktemp("videoreward"))


def clips(count: int = 3, frames: int = 6, size: int = 48) -> Tensor:
    return torch.rand((count, frames, 3, size, size), generator=torch.Generator().manual_seed(0))


def reward(tiny: Tiny, **options: object) -> Reward:
    return make_reward("video_align", {"weights": str(tiny.folder), "clip_fps": 4.0, **options})


def raw_scores(tiny: Tiny, media: Tensor, texts: tuple[str, ...]) -> Tensor:
    """Sample by sample, as the authors' code goes: embed, put the clip in, read at the tokens."""
    network = tiny.network
    tokens = AutoTokenizer.from_pretrained(tiny.base)
    tokens.add_tokens(list(REWARD_TOKENS), special_tokens=True)
    values = []
    for clip, text in zip(media, texts, strict=True):
        index = torch.linspace(0, len(clip) - 1, 4).round().long()
        levels = torch.nn.functional.interpolate(
            (255 * clip[index]).round(), (336, 336), mode="bicubic", antialias=True
        )
        pixels, grid = by_hand(levels.clamp(0, 255).round()), torch.tensor([[2, 24, 24]])
        written = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\n<|vision_start|>" + "<|video_pad|>" * 288 + "<|vision_end|>"
            f"{question(text)}<|im_end|>\n<|im_start|>assistant\n"
        )
        ids = tokens(written, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            embedded = network.get_input_embeddings()(ids)
            seen = network.model.visual(pixels, grid_thw=grid).pooler_output
            embedded[ids == tokens.convert_tokens_to_ids("<|video_pad|>")] = seen
            hidden = network.model.language_model(inputs_embeds=embedded).last_hidden_state
            at = [int((ids[0] == i).nonzero()) for i in tokens.convert_tokens_to_ids(REWARD_TOKENS)]
            values.append(network.rm_head(hidden[0, at])[:, 0])
    return torch.stack(values)


def by_hand(levels: Tensor) -> Tensor:
    """Patches of one clip (T, 3, H, W), one after another."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    pixels = (levels / 255 - mean) / std
    rows = []
    for t in range(0, len(pixels), 2):
        for y in range(0, pixels.shape[-2], 28):
            for x in range(0, pixels.shape[-1], 28):
                for dy, dx in ((0, 0), (0, 14), (14, 0), (14, 14)):
                    patch = pixels[t : t + 2, :, y + dy : y + dy + 14, x + dx : x + dx + 14]
                    rows.append(patch.movedim(0, 1).flatten())
    return torch.stack(rows)


def test_the_three_dimensions_and_their_sum(tiny: Tiny) -> None:
    media = clips()
    raw = raw_scores(tiny, media, TEXTS)
    assert float(raw.std(0).min()) > 0.01  # the samples differ
    expected = (raw - torch.tensor(MEAN)) / torch.tensor(STD)
    for column, dimension in enumerate(("visual", "motion", "text")):
        found = reward(tiny, dimension=dimension).score(media, prompts(*TEXTS))
        torch.testing.assert_close(found, expected[:, column], atol=1e-4, rtol=1e-4)
    found = reward(tiny, batch_size=2).score(media, prompts(*TEXTS))
    torch.testing.assert_close(found, expected.sum(1), atol=1e-4, rtol=1e-4)
    found = reward(tiny, normalized=False).score(media, prompts(*TEXTS))
    torch.testing.assert_close(found, raw.sum(1), atol=1e-4, rtol=1e-4)


def test_only_the_text_score_hears_the_prompt(tiny: Tiny) -> None:
    """What the card says: the prompt comes behind the two other tokens."""
    media = clips(1)
    for dimension in ("visual", "motion", "text"):
        scorer = reward(tiny, dimension=dimension)
        one, two = (scorer.score(media, prompts(text)) for text in TEXTS[:2])
        assert torch.allclose(one, two, atol=1e-5) == (dimension != "text"), dimension


def test_a_head_with_an_output_per_dimension(tmp_path: Path) -> None:
    three = make(tmp_path, output_dim=3)
    network = three.network
    every = reward(three, normalized=False).score(clips(2), prompts(*TEXTS[:2]))
    total = torch.zeros(2)
    kept = network.rm_head.weight.data
    for i in range(3):  # a network of one output per row of the head
        network.rm_head.weight.data = kept[i : i + 1]
        total += raw_scores(three, clips(2), TEXTS[:2])[:, i]
    torch.testing.assert_close(every, total, atol=1e-4, rtol=1e-4)


def test_the_names_of_today_are_read_as_well(tiny: Tiny, tmp_path: Path) -> None:
    media, asked = clips(2), prompts(*TEXTS[:2])
    (tmp_path / "checkpoint-1").mkdir()
    torch.save(tiny.network.state_dict(), tmp_path / "checkpoint-1" / "model.pth")
    write_config(tmp_path, tiny.base)
    found = make_reward("video_align", {"weights": str(tmp_path), "clip_fps": 4.0})
    torch.testing.assert_close(found.score(media, asked), reward(tiny).score(media, asked))


LAYER = "base_model.model.model.layers.1.mlp.up_proj"


@pytest.mark.parametrize(
    ("name", "value", "phrase"),
    [
        ("base_model.model.model.norm.weight", None, "has no language_model.norm.weight"),
        (f"{LAYER}.lora_A.default.weight", None, "up_proj has no LoRA of rank 4"),
        (f"{LAYER}.lora_A.default.weight", torch.ones(2, 32), "up_proj has no LoRA of rank 4"),
        (f"{LAYER}.base_layer.weight", None, r"has no language_model.layers.1.mlp.up_proj.weight"),
        ("base_model.model.more", torch.ones(1), r"no place for: more \(1 in all\)"),
        (
            "base_model.model.visual.lora_A.default.weight",
            torch.ones(1),
            "no place for: visual.lora",
        ),
        ("base_model.model.rm_head.weight", None, r"rm_head.weight of shape \(0,\), not \(1, 32\)"),
        ("base_model.model.model.norm.weight", torch.ones(3), "does not fit its Qwen2VLModel"),
        ("base_model.model.model.embed_tokens.weight", torch.ones(9, 32), "does not fit"),
    ],
)
def test_weights_that_are_not_all_there(
    tiny: Tiny, tmp_path: Path, name: str, value: Tensor | None, phrase: str
) -> None:
    state = torch.load(tiny.folder / "checkpoint-12" / "model.pth", weights_only=True)
    (tmp_path / "checkpoint-3").mkdir()
    torch.save(altered(state, name, value), tmp_path / "checkpoint-3" / "model.pth")
    write_config(tmp_path, tiny.base)
    with refused(phrase):
        make_reward("video_align", {"weights": str(tmp_path)})


def test_files_that_are_missing_or_broken(tiny: Tiny, tmp_path: Path) -> None:
    def fails(phrase: str, **options: object) -> None:
        with refused(phrase):
            make_reward("video_align", {"weights": str(tmp_path), **options})

    fails("model_config.json can't be read")
    write_config(tmp_path, tiny.base, model_config__use_special_tokens=False)
    fails("read in another way than the released one")
    write_config(tmp_path, tiny.base)
    fails("no checkpoint-.*/model.pth")
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "model.pth").write_bytes(b"PK broken")
    fails("model.pth can't be read")
    fails("can't be loaded", base=str(tmp_path / "none"))
    config = tmp_path / "gpt"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    AutoTokenizer.from_pretrained(tiny.base).save_pretrained(config)
    fails("is a gpt2, not a Qwen2-VL", base=str(config))


def test_a_prompt_with_a_token_of_the_model_fails_alone(tiny: Tiny) -> None:
    media, good = clips(), reward(tiny).score(clips(), prompts(*TEXTS))
    with pytest.raises(SampleError, match="sample 1: the prompt holds a special token") as caught:
        reward(tiny).score(media, prompts(TEXTS[0], "a <|VQ_reward|> cat", TEXTS[2]))
    torch.testing.assert_close(caught.value.value[[0, 2]], good[[0, 2]], atol=1e-5, rtol=1e-5)
    assert bool(caught.value.value[1].isnan())


@pytest.mark.parametrize("shape", [(2, 3, 48, 48), (2, 1, 3, 48, 48), (2, 4, 1, 48, 48)])
def test_what_is_no_clip(tiny: Tiny, shape: tuple[int, ...]) -> None:
    with pytest.raises(RewardError, match="scores clips of shape"):
        reward(tiny).score(torch.zeros(shape), prompts(*TEXTS[:2]))


def test_the_prompt_is_the_one_it_was_trained_with() -> None:
    text = question("{text_prompt}")
    assert hashlib.sha256(text.encode()).hexdigest().startswith("fdb6309bac618dd0c8b1b589")
    assert [text.count(token) for token in REWARD_TOKENS] == [1, 1, 1]


@pytest.mark.parametrize(
    ("frames", "fps", "expected"),
    [
        (81, 16.0, [0, 9, 18, 27, 36, 44, 53, 62, 71, 80]),
        (33, 16.0, [0, 11, 21, 32]),
        (9, 16.0, [0, 3, 5, 8]),
        (3, 16.0, [0, 2]),
        (2, 16.0, [0, 1]),
        (6, 2.0, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_frames_that_are_looked_at(frames: int, fps: float, expected: list[int]) -> None:
    assert frame_index(frames, clip_fps=fps, fps=2.0).tolist() == expected


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(480, 832, (336, 588)), (64, 64, (336, 336)), (448, 448, (448, 448)), (400, 401, (392, 392))],
)
def test_size_that_frames_are_looked_at(height: int, width: int, expected: tuple[int, int]) -> None:
    assert frame_size(height, width, **BOUNDS) == expected


@given(height=st.integers(16, 2000), width=st.integers(16, 2000))
def test_sizes_stay_in_their_bounds(height: int, width: int) -> None:
    rows, columns = frame_size(height, width, **BOUNDS)
    assert rows % 28 == columns % 28 == 0
    if max(height, width) <= 8 * min(height, width):
        assert MIN_PIXELS <= rows * columns <= 200704


def test_patches_are_in_the_order_of_the_vision_tower() -> None:
    levels = (255 * clips(2, 4, 56)).round()
    found = patches(levels, size=14, merge=2, depth=2)
    torch.testing.assert_close(found, torch.cat([by_hand(clip) for clip in levels]))
    from transformers import Qwen2VLImageProcessorPil

    still = levels[0, 0].to(torch.uint8)
    theirs = Qwen2VLImageProcessorPil(min_pixels=1)(
        images=still.movedim(0, -1).numpy(), return_tensors="pt"
    )["pixel_values"]
    same = levels[:1, :1].expand(1, 2, 3, 56, 56)
    torch.testing.assert_close(patches(same, size=14, merge=2, depth=2), theirs)
