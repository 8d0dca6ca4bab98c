"""``geneval``: detection and colours against transformers' own pipeline, and the reward itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.rewards.rendering import prompts
from tests.rewards.tiny_clip import write_clip
from tests.rewards.tiny_detectors import write_grounding_dino, write_owl
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForZeroShotObjectDetection,
    AutoTokenizer,
    CLIPModel,
    GroundingDinoProcessor,
    Owlv2Processor,
    OwlViTProcessor,
)

from ddrl.errors import DDRLError, RewardError, WeightsError
from ddrl.records import Prompts
from ddrl.rewards.base import SampleError, make_reward
from ddrl.rewards.composition.detector import Detector, boxes_of
from ddrl.rewards.composition.object_color import ColorClassifier, crop
from ddrl.rewards.composition.prompt import COLORS, parse
from ddrl.rewards.composition.rules import Box, conditions, suppress
from ddrl.rewards.frames import Runtime
from ddrl.testing.rewards import check_reward

TEXTS = ("a photo of a dog", "a photo of two cats", "a photo of a red bird left of a cow")


def pictures(count: int = 3, height: int = 40, width: int = 60) -> Tensor:
    """Smooth random pictures."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 5, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("geneval")
    return {
        "owlv2": write_owl(base / "owlv2"),
        "owlvit": write_owl(base / "owlvit", version=1),
        "dino": write_grounding_dino(base / "dino"),
        "clip": write_clip(base / "clip"),
    }


def make(folders: dict[str, Path], kind: str = "owlv2", **options: Any) -> Any:
    given = {"weights": str(folders[kind]), "color_weights": str(folders["clip"])}
    return make_reward("geneval", {**given, "device": "cpu", **options})


def post_processed(folder: Path, media: Tensor, names: tuple[str, ...]) -> list[Any]:
    """What transformers makes of the pictures, one by one, by its own processor."""
    make_processor = {
        "owlv2": Owlv2Processor,
        "owlvit": OwlViTProcessor,
        "dino": GroundingDinoProcessor,
    }[folder.name]
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    processor: Any = make_processor(images, AutoTokenizer.from_pretrained(folder))
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    grounded = folder.name == "dino"
    text: Any = f"{names[0]}." if grounded else [[f"a photo of a {name}" for name in names]]
    more: dict[str, Any] = {} if grounded else {"max_length": 32, "truncation": True}
    found = []
    for one in media:
        levels = (255 * one).round().to(torch.uint8).movedim(0, -1).numpy()
        inputs = processor(images=levels, text=text, return_tensors="pt", **more)
        with torch.no_grad():
            output = model(**inputs)
        more_post = {"text_threshold": 0.5} if grounded else {}
        found += processor.post_process_grounded_object_detection(
            output, threshold=0.5, target_sizes=[tuple(one.shape[-2:])], **more_post
        )
    return found


@pytest.mark.parametrize(
    ("kind", "names"), [("owlv2", ("dog", "cat")), ("owlvit", ("dog", "cat")), ("dino", ("dog",))]
)
@pytest.mark.parametrize("shape", [(40, 60), (60, 40)])
def test_boxes_are_those_of_transformers(
    folders: dict[str, Path], kind: str, names: tuple[str, ...], shape: tuple[int, int]
) -> None:
    media = pictures(3, *shape)
    detector = Detector(str(folders[kind]), Runtime.of("cpu", "float32", 2))
    found = detector.find(media, [names] * 3, threshold=[0.5] * 3)
    expected = post_processed(folders[kind], media, names)
    total = 0
    for mine, theirs in zip(found, expected, strict=True):
        height, width = shape
        boxes = theirs["boxes"].clone()
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
        inside = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
        for label, name in enumerate(names):
            rows = inside & (theirs["labels"] == label) if len(names) > 1 else inside
            wanted = torch.cat([boxes[rows], theirs["scores"][rows, None]], 1)
            got = torch.tensor(
                [[b.left, b.top, b.right, b.bottom, b.score] for b in mine[name]]
            ).reshape(-1, 5)
            torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
            total += len(got)
    assert total > 1


def test_padding_and_thresholds() -> None:
    logits = torch.tensor([[4.0, 0.0], [-4.0, 1.0], [-4.0, -4.0]])
    shares = torch.tensor([[0.5, 0.25, 0.2, 0.1], [0.9, 0.5, 0.4, 0.4], [0.5, 0.5, 1.0, 1.0]])
    plain = boxes_of(logits, shares, (50, 100), threshold=0.5, padded=False)
    assert [label for label, _ in plain] == [0, 1]
    edges = [(round(b.left), round(b.top), round(b.right), round(b.bottom)) for _, b in plain]
    assert edges == [(40, 10, 60, 15), (70, 15, 100, 35)]  # cut off at the picture
    assert [b.score for _, b in plain] == pytest.approx([0.98201, 0.73106], abs=1e-4)
    square = boxes_of(logits, shares, (50, 100), threshold=0.5, padded=True)
    edges = [(round(b.left), round(b.top), round(b.right), round(b.bottom)) for _, b in square]
    assert edges == [(40, 20, 60, 30), (70, 30, 100, 50)]  # shares of 100 x 100
    below = shares.clone()
    below[0, 1] = 0.9  # in the padding
    assert [
        label for label, _ in boxes_of(logits, below, (50, 100), threshold=0.5, padded=True)
    ] == [1]
    assert boxes_of(logits, shares, (50, 100), threshold=0.99, padded=False) == []


def test_a_box_that_is_cut_out() -> None:
    frame = torch.arange(3 * 6 * 8).reshape(3, 6, 8).float()
    assert torch.equal(crop(frame, Box(1.5, 2.0, 4.2, 5.0, 1)), frame[:, 2:5, 1:5])
    assert torch.equal(crop(frame, Box(0, 0, 8, 6, 1)), frame)


def test_colors_are_clips(folders: dict[str, Path]) -> None:
    classifier = ColorClassifier(str(folders["clip"]), Runtime.of("cpu", "float32", 7))
    model = CLIPModel.from_pretrained(folders["clip"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(folders["clip"])
    processor = AutoImageProcessor.from_pretrained(folders["clip"], backend="pil")
    (frame,) = pictures(1, 60, 80)
    seen = set()
    for left, top in [(0, 0), (30, 10), (50, 5), (10, 30), (45, 25)]:
        levels = (255 * frame).round()[:, top : top + 28, left : left + 28]  # needs no resize
        pixels = processor(images=levels.to(torch.uint8), return_tensors="pt", do_resize=False)
        scores = []
        with torch.no_grad():
            image = model.get_image_features(**pixels).pooler_output[0]
            for color in COLORS:
                rows = []
                for text in (f"{color} dog", f"{color}-colored dog", f"{color} object"):
                    ids = tokenizer(f"a photo of a {text}", return_tensors="pt")
                    row = model.get_text_features(**ids).pooler_output[0]
                    rows.append(row / row.norm())
                mean = torch.stack(rows).mean(0)
                scores.append(float(mean / mean.norm() @ image))
        expected = COLORS[scores.index(max(scores))]
        found = classifier.color(frame, "dog", Box(left, top, left + 28, top + 28, 1))
        assert found == expected
        seen.add(found)
    assert len(seen) > 1


@pytest.mark.parametrize("kind", ["owlv2", "dino"])
def test_the_score_is_the_share_of_conditions(folders: dict[str, Path], kind: str) -> None:
    media = pictures()
    reward = make(folders, kind, threshold=0.55, counting_threshold=0.5, max_overlap=0.4)
    found = reward.score(media, prompts(*TEXTS))
    detector = Detector(str(folders[kind]), Runtime.of("cpu", "float32", 4))
    colors = ColorClassifier(str(folders["clip"]), Runtime.of("cpu", "float32", 16))
    for i, (text, limit) in enumerate(zip(TEXTS, (0.55, 0.5, 0.55), strict=True)):
        wanted = parse(text)
        (boxes,) = detector.find(media[i, None], [wanted.names], threshold=[limit])
        kept = {name: suppress(b, max_overlap=0.4, limit=16) for name, b in boxes.items()}
        met = conditions(wanted, kept, partial(colors.color, media[i]))
        assert float(found[i]) == pytest.approx(sum(met) / len(met))
    strict = make(
        folders, kind, strict=True, threshold=0.55, counting_threshold=0.5, max_overlap=0.4
    )
    assert torch.equal(strict.score(media, prompts(*TEXTS)), (found == 1).float())


def test_the_contract(folders: dict[str, Path]) -> None:
    reward = make(folders, threshold=0.5, max_overlap=0.3)
    check_reward(reward, pictures(4), prompts(*TEXTS, "a photo of four cows"))


def test_frames_of_a_clip(folders: dict[str, Path]) -> None:
    media, asked = pictures(4), prompts("a photo of three cats", "a photo of a dog and a cow")
    each = make(folders, threshold=0.5)
    one, other = (each.score(media[[i, i + 2]], asked) for i in (0, 1))
    clips = torch.stack([media[[0, 1]], media[[2, 3]]])
    mean = make(folders, threshold=0.5, frames=2).score(clips, asked)
    torch.testing.assert_close(mean, (one + other) / 2)
    best = make(folders, threshold=0.5, frames=2, over_frames="max").score(clips, asked)
    torch.testing.assert_close(best, torch.maximum(one, other))


def test_a_prompt_that_is_not_understood_has_no_number(folders: dict[str, Path]) -> None:
    media = pictures()
    media[2] = torch.nan
    reward = make(folders, threshold=0.5)
    asked = prompts("a photo of a dog", "dogs at night", "a photo of a dog")
    with pytest.raises(SampleError, match="does not begin with a, an or a number") as caught:
        reward.score(media, asked)
    assert set(caught.value.causes) == {1}
    assert caught.value.value.isnan().tolist() == [False, True, True]
    alone = reward.score(media[:1], prompts("a photo of a dog"))
    assert torch.equal(caught.value.value[:1], alone)


def test_metadata_says_what_is_asked(folders: dict[str, Path]) -> None:
    line = {"tag": "counting", "include": [{"class": "cat", "count": 2}]}
    line["exclude"] = [{"class": "cat", "count": 3}]
    media, texts = pictures(1), ("a pair of cats",)
    reward = make(folders, threshold=0.5)
    by_metadata = reward.score(media, Prompts(torch.tensor([0]), texts, (line,)))
    assert torch.equal(by_metadata, reward.score(media, prompts("a photo of two cats")))
    broken = Prompts(torch.tensor([0]), texts, ({"include": []},))
    with pytest.raises(SampleError, match="metadata has no list of clauses"):
        reward.score(media, broken)


def test_weights_that_can_not_be_used(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"detector .*nowhere can't be loaded"):
        make({**folders, "owlv2": tmp_path / "nowhere"})
    with pytest.raises(WeightsError, match="clip"):
        make({**folders, "owlv2": folders["clip"]})
    with pytest.raises(DDRLError, match="owlv2"):
        make({**folders, "clip": folders["owlv2"]})
    part = write_owl(tmp_path / "part")
    state = load_file(part / "model.safetensors")
    del state["class_head.dense0.weight"]
    save_file(state, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"has no class_head.dense0.weight"):
        make({**folders, "owlv2": part})


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"threshold": 1.5}, "from 0 to 1"),
        ({"max_overlap": -0.1}, "from 0 to 1"),
        ({"frames": 0}, "at least 1"),
        ({"treshold": 0.1}, "has no option 'treshold'"),
    ],
)
def test_wrong_options(options: dict[str, Any], phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase):
        make_reward("geneval", options)
