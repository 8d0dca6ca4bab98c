"""Every built-in reward keeps the contract, has a card, and needs nothing until it is made."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.rewards.rendering import noise, prompts, render
from tests.rewards.tiny_clip import write_clip
from tests.rewards.tiny_videoreward import make
from torch import Tensor

from ddrl.data.embedded.digits import digit_splits
from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import BUILTIN, Reward, make_reward, reward_class
from ddrl.rewards.builtin.embedded.classifier import fit_classifier
from ddrl.rewards.card import RewardCard
from ddrl.testing.require import ConformanceError
from ddrl.testing.rewards import check_reward

TEXTS = ("a cat runs left", "two dogs", "a cat and two dogs look left and right")


def digits(folder: Path) -> tuple[Reward, Tensor, Prompts]:
    data = digit_splits().reward
    fitted = fit_classifier(
        data.media, data.caption_id, labels=data.captions, architecture="mlp", seed=0, num_steps=9
    )
    fitted.save(folder)
    reward = make_reward("classifier", {"weights": str(folder)})
    return reward, data.media[:3], prompts(*data.texts()[:3])


def ocr(folder: Path) -> tuple[Reward, Tensor, Prompts]:
    media = torch.stack([render(word) for word in ("house", "mouse", "tree")])
    return make_reward("ocr", {}), media, prompts('"house"', '"house"', '"free"')


def video_align(folder: Path) -> tuple[Reward, Tensor, Prompts]:
    reward = make_reward("video_align", {"weights": str(make(folder).folder)})
    return reward, noise(3, 4, 3, 48, 48), prompts(*TEXTS)


def without_model(name: str, **options: Any) -> Callable[[Path], tuple[Reward, Tensor, Prompts]]:
    return lambda _: (make_reward(name, options), noise(3, 3, 24, 32), prompts(*TEXTS))


def with_clip(name: str) -> Callable[[Path], tuple[Reward, Tensor, Prompts]]:
    def case(folder: Path) -> tuple[Reward, Tensor, Prompts]:
        reward = make_reward(name, {"weights": str(write_clip(folder))})
        return reward, noise(3, 3, 40, 60), prompts(*TEXTS)

    return case


CASES = {
    "classifier": digits,
    "clip": with_clip("clip"),
    "ink": without_model("ink"),
    "jpeg": without_model("jpeg"),
    "ocr": ocr,
    "pickscore": with_clip("pickscore"),
    "video_align": video_align,
}

# In test_moving_digits.py and test_group_level.py.
ELSEWHERE = {"digit_identity", "diversity", "motion"}
ELSEWHERE |= {"geneval", "remote", "vbench", "vlm_judge"}  # in files of their names
ELSEWHERE |= {"aesthetic", "hps", "hpsv3", "image_reward"}  # likewise


def test_no_builtin_one_is_left_out() -> None:
    assert set(BUILTIN) - set(CASES) == ELSEWHERE


@pytest.mark.parametrize("name", CASES)
def test_the_contract(name: str, tmp_path: Path) -> None:
    reward, media, asked = CASES[name](tmp_path)
    check_reward(reward, media, asked)


@pytest.mark.parametrize("name", ["clip", "jpeg", "ocr"])
def test_the_contract_with_clips(name: str, tmp_path: Path) -> None:
    reward, media, asked = CASES[name](tmp_path)
    frames = torch.stack([media, media.flip(-1), media.flip(-2)], dim=1)
    check_reward(reward, frames, asked)


@pytest.mark.parametrize("name", BUILTIN)
def test_the_card(name: str) -> None:
    card = getattr(reward_class(name), "card", None)
    assert isinstance(card, RewardCard)
    assert all((card.rewards, card.range, card.prompt, card.hacks, card.cost, card.license))
    assert set(card.media) <= {"images", "clips"}
    assert bool(card.extra) == bool(card.modules)
    labels = [label for label, _ in card.rows()]
    assert labels[0] == "rewards"
    assert ("needs" in labels) == bool(card.modules)


def test_nothing_heavy_is_loaded_until_a_reward_is_made() -> None:
    code = (
        "import sys\nfrom ddrl.rewards.base import BUILTIN, reward_class\n"
        "[reward_class(name).card.missing_modules() for name in BUILTIN]\n"
        "print(sorted({'transformers', 'rapidocr', 'onnxruntime', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_size_of_a_jpeg() -> None:
    media = torch.stack([noise(3, 64, 64), torch.full((3, 64, 64), 0.5)])
    small = make_reward("jpeg", {}).score(media, prompts("a", "b"))
    large = make_reward("jpeg", {"prefer": "incompressible"}).score(media, prompts("a", "b"))
    assert torch.equal(small, -large)
    assert float(large[0]) > 5 * float(large[1]) > 0
    rough = make_reward("jpeg", {"prefer": "incompressible", "quality": 10})
    assert float(rough.score(media, prompts("a", "b"))[0]) < float(large[0])
    clip = torch.stack([media[0], media[1]])[None]
    mean = make_reward("jpeg", {"prefer": "incompressible"}).score(clip, prompts("a"))
    torch.testing.assert_close(mean[0], large.mean())


class Planted:
    """The mean, and one fault."""

    def __init__(self, fault: str) -> None:
        self.fault, self.calls = fault, 0
        media: Any = {"media": ("clips",), "images": ("images",)}.get(fault, ("images", "clips"))
        self.card = RewardCard("x", "x", "x", "x", "x", media=media)

    def score(self, media: Tensor, prompts: Prompts) -> Any:
        self.calls += 1
        value = media.flatten(1).mean(1)
        if self.fault == "change":
            media.mul_(0.5)
        faulty = {
            "list": value.tolist(),
            "shape": value[:, None],
            "integers": value.long(),
            "infinite": value / 0,
            "constant": value * 0 + 1,
            "state": value + self.calls,
            "batch": value - value.mean(),
            "position": value + torch.arange(len(value)),
            "zero": value.nan_to_num(0),
            "spread": torch.where(value.isnan().any(), torch.nan, value),
        }
        return faulty.get(self.fault, value)


@pytest.mark.parametrize(
    ("fault", "phrase"),
    [
        ("change", "changes the media"),
        ("list", "returns a list"),
        ("shape", r"returns \(3, 1\)"),
        ("integers", "not floats"),
        ("infinite", "not finite"),
        ("constant", "every sample scores the same"),
        ("state", "not deterministic"),
        ("position", "in another order"),
        ("batch", "alone scores otherwise"),
        ("zero", "NaN get a score"),
        ("spread", "takes the others' scores away"),
        ("media", "does not say that it scores images"),
        ("images", "does not say that it scores clips"),
    ],
)
def test_a_planted_fault_is_found(fault: str, phrase: str) -> None:
    with pytest.raises(ConformanceError, match=phrase):
        check_reward(Planted(fault), noise(3, 3, 8, 8), prompts(*TEXTS))


def test_a_reward_without_a_fault_passes() -> None:
    check_reward(Planted("none"), noise(3, 3, 8, 8), prompts(*TEXTS))


def test_the_classifier_refuses_other_sizes(tmp_path: Path) -> None:
    reward, media, asked = digits(tmp_path)
    for wrong in (media[:, None], media[..., :7], media[:, :1]):
        with pytest.raises(RewardError, match=r"takes media of shape \(B, 3, 8, 8\)"):
            reward.score(wrong, asked)
