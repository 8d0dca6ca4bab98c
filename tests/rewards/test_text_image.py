"""Rewards by CLIP and SigLIP, against their formula written out with transformers' own parts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.rewards.rendering import prompts
from tests.rewards.tiny_clip import write_clip, write_siglip
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, CLIPImageProcessorPil, SiglipImageProcessorPil

from ddrl.errors import RewardError, WeightsError
from ddrl.rewards.base import make_reward
from ddrl.rewards.builtin.preference.pickscore import PROCESSOR
from ddrl.rewards.card import RewardCard
from ddrl.rewards.networks.towers import preprocess

TEXTS = ("a cat", "two dogs on a red car", "x", "a cat")
GOLDEN = "DDRL_PICKSCORE"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_siglip(tmp_path_factory.mktemp("siglip"))


def random_pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth_pixels(*shape: int) -> Tensor:
    coarse = random_pixels(shape[0], 3, 8, 8)
    return torch.nn.functional.interpolate(coarse, shape[-2:], mode="bicubic").clamp(0, 1)


def cosine_of(folder: Path, media: Tensor, texts: tuple[str, ...], processor: Any) -> Tensor:
    """The cosine of each image and its text, one at a time."""
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    values = []
    for image, text in zip(media, texts, strict=True):
        levels = (255 * image).round().to(torch.uint8).movedim(0, -1).numpy()
        pixels = processor(images=levels, return_tensors="pt")["pixel_values"]
        # SigLIP was trained on texts padded to a fixed length, CLIP on texts as they are.
        padding = {"clip": False, "siglip": "max_length"}[model.config.model_type]
        ids = tokenizer(
            text,
            padding=padding,
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )["input_ids"]
        with torch.no_grad():
            out = model(input_ids=ids, pixel_values=pixels)
        a, b = out.image_embeds[0], out.text_embeds[0]
        values.append(a @ b / a.norm() / b.norm())
    return torch.stack(values)


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (28, 28), (20, 90)])
def test_clip_is_the_cosine(clip: Path, size: tuple[int, int]) -> None:
    media = random_pixels(4, 3, *size)
    expected = cosine_of(clip, media, TEXTS, CLIPImageProcessorPil.from_pretrained(clip))
    found = make_reward("clip", {"weights": str(clip)}).score(media, prompts(*TEXTS))
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)
    assert float(expected.std()) > 0.05
    assert float(found.abs().max()) <= 1


def test_siglip_is_the_cosine(siglip: Path) -> None:
    media = random_pixels(4, 3, 40, 60)
    expected = cosine_of(siglip, media, TEXTS, SiglipImageProcessorPil.from_pretrained(siglip))
    found = make_reward("clip", {"weights": str(siglip)}).score(media, prompts(*TEXTS))
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)
    assert float(expected.std()) > 0.02


def test_pickscore_is_scaled_by_the_weights_own_number(clip: Path) -> None:
    media = random_pixels(4, 3, 40, 60)
    cosine = make_reward("clip", {"weights": str(clip)}).score(media, prompts(*TEXTS))
    found = make_reward("pickscore", {"weights": str(clip)}).score(media, prompts(*TEXTS))
    scale = load_file(clip / "model.safetensors")["logit_scale"].exp()
    assert float(scale) == pytest.approx(14.29, abs=0.01)
    torch.testing.assert_close(found, scale * cosine)


def test_frames_of_a_clip(clip: Path) -> None:
    reward = make_reward("clip", {"weights": str(clip), "frames": 3})
    most = make_reward("clip", {"weights": str(clip), "frames": 3, "over_frames": "max"})
    media = random_pixels(2, 5, 3, 28, 28)
    asked = prompts(*TEXTS[:2])
    each = torch.stack([reward.score(media[:, t], asked) for t in (0, 2, 4)], dim=1)
    torch.testing.assert_close(reward.score(media, asked), each.mean(1))
    torch.testing.assert_close(most.score(media, asked), each.amax(1))
    one = make_reward("clip", {"weights": str(clip), "frames": 1})
    torch.testing.assert_close(one.score(media, asked), each[:, 1])  # the middle one


def test_a_text_does_not_depend_on_its_neighbours(clip: Path) -> None:
    media = random_pixels(4, 3, 28, 28)
    one, four = (make_reward("clip", {"weights": str(clip), "batch_size": n}) for n in (1, 4))
    torch.testing.assert_close(
        one.score(media, prompts(*TEXTS)), four.score(media, prompts(*TEXTS))
    )


@pytest.mark.parametrize("size", [(64, 64), (512, 512), (300, 480), (225, 224), (480, 832)])
@pytest.mark.parametrize("pixels", [random_pixels, smooth_pixels])
@pytest.mark.parametrize("processor", [CLIPImageProcessorPil(), SiglipImageProcessorPil()])
def test_the_preprocessing_is_that_of_the_processor(
    size: tuple[int, int], pixels: Any, processor: Any
) -> None:
    media = pixels(1, 3, *size)
    levels = (255 * media[0]).round().to(torch.uint8).movedim(0, -1).numpy()
    expected = processor(images=levels, return_tensors="pt")["pixel_values"]
    found = preprocess(media, processor)
    assert found.shape == expected.shape == (1, 3, 224, 224)
    std = torch.tensor(tuple(processor.image_std))[:, None, None]
    off = 255 * std * (found - expected).abs()
    assert float(off.max()) <= 2.01  # levels
    assert float(off.mean()) < 0.02


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ("missing", r"has no visual_projection.weight \(1 in all\)"),
        ("unexpected", r"no place for: extra.weight \(1 in all\)"),
        ("shape", "can't be loaded"),
        ("truncated", "can't be loaded"),
        ("no file", "can't be loaded"),
        ("no tokenizer", "the same tokens"),
    ],
)
@pytest.mark.parametrize("name", ["clip", "pickscore"])
def test_weights_that_are_not_all_there(
    tmp_path: Path, name: str, change: str, phrase: str
) -> None:
    folder = write_clip(tmp_path / "clip")
    file = folder / "model.safetensors"
    weights = load_file(file)
    if change == "missing":
        del weights["visual_projection.weight"]
    elif change == "unexpected":
        weights["extra.weight"] = torch.zeros(2)
    elif change == "shape":
        weights["visual_projection.weight"] = torch.zeros(3, 3)
    save_file(weights, file, metadata={"format": "pt"})
    if change == "truncated":
        file.write_bytes(file.read_bytes()[:-9])
    elif change == "no file":
        file.unlink()
    elif change == "no tokenizer":
        for path in folder.iterdir():
            if path.name.startswith(("tokenizer", "vocab", "merges")):
                path.unlink()
    with pytest.raises(WeightsError, match=phrase) as caught:
        make_reward(name, {"weights": str(folder)})
    assert str(folder) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_buffer_that_older_checkpoints_hold_is_no_fault(tmp_path: Path) -> None:
    """PickScore_v1 and OpenAI's CLIPs were saved with the positions, which are 0, 1, 2, ..."""
    folder = write_clip(tmp_path / "clip")
    media, asked = random_pixels(2, 3, 28, 28), prompts(*TEXTS[:2])
    before = make_reward("clip", {"weights": str(folder)}).score(media, asked)
    weights = load_file(folder / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    weights["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    after = make_reward("clip", {"weights": str(folder)}).score(media, asked)
    assert torch.equal(before, after)


def test_weights_of_another_kind_of_model(tmp_path: Path) -> None:
    from tests.models.families.tiny import clip_text_model, clip_tokenizer

    clip_text_model().save_pretrained(tmp_path)
    clip_tokenizer(tmp_path).save_pretrained(tmp_path)
    CLIPImageProcessorPil().save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="has no image tower"):
        make_reward("clip", {"weights": str(tmp_path)})


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"device": "cuda:99"}, "no device 'cuda:99'"),
        ({"precision": "float8"}, "'precision' of reward 'clip' can't be 'float8'"),
        ({"frames": 0}, "frames and batch_size must be at least 1"),
        ({"frames": "4"}, "'frames' of reward 'clip' can't be '4'"),
    ],
)
def test_wrong_options(clip: Path, options: dict[str, object], phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase):
        make_reward("clip", {"weights": str(clip), **options})


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RewardCard, "missing_modules", lambda card: card.modules)
    with pytest.raises(RewardError, match="'pickscore' needs transformers") as caught:
        make_reward("pickscore", {})
    assert caught.value.hint == "pip install 'ddrl[models]'"


def test_half_precision_is_near(clip: Path) -> None:
    media = random_pixels(4, 3, 28, 28)
    full, half = (
        make_reward("clip", {"weights": str(clip), "precision": p}).score(media, prompts(*TEXTS))
        for p in ("float32", "bfloat16")
    )
    assert 0 < float((full - half).abs().max()) < 0.05
    assert half.dtype == torch.float32


@pytest.mark.skipif(GOLDEN not in os.environ, reason=f"{GOLDEN} names no folder of PickScore_v1")
def test_the_released_weights() -> None:
    """The score of the model's page, by transformers' own processor; the right prompt is first."""
    from transformers import AutoProcessor

    folder = Path(os.environ[GOLDEN])
    beside = (folder / "preprocessor_config.json").is_file()
    processor = AutoProcessor.from_pretrained(folder if beside else PROCESSOR)
    model = AutoModel.from_pretrained(folder).eval()
    red = torch.tensor([0.9, 0.1, 0.1])[:, None, None].expand(3, 256, 256)
    media = torch.stack([red, smooth_pixels(1, 3, 300, 256)[0, :, :256]])
    texts = ("a plain red picture", "a colourful blur")
    levels = [(255 * m).round().to(torch.uint8).movedim(0, -1).numpy() for m in media]
    inputs = processor(
        text=list(texts), images=levels, padding=True, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**inputs).logits_per_image
    reward = make_reward("pickscore", {"weights": str(folder), "device": "cpu"})
    found = reward.score(media, prompts(*texts))
    torch.testing.assert_close(found, expected.diagonal(), atol=0.05, rtol=0)
    assert bool((found > reward.score(media, prompts(*texts[::-1]))).all())
