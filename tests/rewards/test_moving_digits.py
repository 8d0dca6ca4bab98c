"""The rewards of the embedded clips, and the judge of their motion."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddrl.data.embedded.digits import DIGIT_NAMES
from ddrl.data.embedded.moving_digits import (
    DIRECTIONS,
    frames_by_digit,
    moving_digit_splits,
    speeds,
)
from ddrl.data.embedded.sources import CaptionedMedia
from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import make_reward
from ddrl.rewards.builtin.embedded.classifier import fit_classifier
from ddrl.rewards.builtin.embedded.digit_identity import DigitIdentity
from ddrl.rewards.builtin.embedded.motion import Motion
from ddrl.rewards.builtin.embedded.prompt_words import asked_word
from ddrl.rewards.builtin.embedded.registration import fit_motions, shift
from ddrl.testing.rewards import check_reward

SPEEDS = speeds((12, 12), 8)
MOTION = Motion(**SPEEDS)


@cache
def heldout() -> CaptionedMedia:
    return moving_digit_splits().heldout


def prompts(texts: tuple[str, ...]) -> Prompts:
    return Prompts(torch.arange(len(texts)), texts, tuple({} for _ in texts))


def dot(path: list[tuple[int, int]], *, frames: int = 8) -> Tensor:
    """A clip (1, T, 3, 12, 12) of 2x2 white pixels from (x, y) on; it stays at the last place."""
    clip = torch.zeros(1, frames, 3, 12, 12)
    for t in range(frames):
        x, y = path[min(t, len(path) - 1)]
        clip[0, t, :, y : y + 2, x : x + 2] = 1
    return clip


def score(clip: Tensor, text: str, reward: Motion = MOTION) -> float:
    return float(reward.score(clip, prompts((text,))))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_dot_that_moves_as_asked(direction: str) -> None:
    step = DIRECTIONS[direction]
    clip = dot([(5 + t * step[0], 5 + t * step[1]) for t in range(5)], frames=5)
    reward = Motion(slowly=0.5, quickly=1.0)
    assert score(clip, f"a one moving {direction} quickly", reward) == pytest.approx(1)
    assert score(clip, f"a one moving {direction} slowly", reward) == pytest.approx(math.exp(-1))
    # Backwards it is two pixels per frame off, the other way round as far as asked.
    assert score(clip.flip(1), f"a one moving {direction} quickly", reward) == pytest.approx(
        math.exp(-4)
    )


def test_closed_forms() -> None:
    still, text = dot([(5, 5)]), "a one moving left quickly"
    assert score(still, text) == pytest.approx(math.exp(-2))
    assert score(still, "a one moving up slowly") == pytest.approx(math.exp(-1))
    # A jump and standing still are not the motion, although the way is as long.
    jump = dot([(9, 5), (5, 5)], frames=9)
    error = (3.5 + 7 * 0.5) / 8
    assert score(jump, text) == pytest.approx(math.exp(-error / SPEEDS["slowly"]))
    assert score(torch.zeros_like(still), text) == 0
    assert score(still * 0.3, text) == 0  # four grey pixels of 144 are black, on the whole


def test_data_is_right_and_other_captions_are_wrong() -> None:
    clips = heldout()
    right = MOTION.score(clips.media, prompts(clips.texts()))
    assert float(right.min()) > 0.99
    shuffled = tuple(clips.captions[(i + 40) % 80] for i in clips.caption_id.tolist())
    wrong = [
        value
        for value, one, other in zip(
            MOTION.score(clips.media, prompts(shuffled)).tolist(),
            clips.texts(),
            shuffled,
            strict=True,
        )
        if one.split()[3:] != other.split()[3:]
    ]
    assert wrong
    assert max(wrong) < 0.5
    reversed_ = MOTION.score(clips.media.flip(1), prompts(clips.texts()))
    assert float(reversed_.max()) < 0.2
    frozen = clips.media[:, 3:4].expand(-1, 8, -1, -1, -1)
    assert float(MOTION.score(frozen, prompts(clips.texts())).max()) < 0.4


def test_registration_finds_the_motion_of_data_and_not_of_shading() -> None:
    clips = heldout()
    motions = [(x * v, y * v) for x, y in DIRECTIONS.values() for v in SPEEDS.values()]
    names = [(way, speed) for way in DIRECTIONS for speed in SPEEDS]
    fit = fit_motions(clips.media, [*motions, (0.0, 0.0)])
    asked = [names.index((t.split()[3], t.split()[4])) for t in clips.texts()]
    assert float((fit.argmax(1) == torch.tensor(asked)).float().mean()) > 0.97
    assert float(fit.amax(1).min()) > 0.8
    # A bright place that fades while one beside it lights up: the centre moves, and nothing else.
    shaded = torch.zeros(1, 8, 3, 12, 12)
    shaded[..., 3:6, 3:5] = 1 - 0.05 * torch.arange(8.0).reshape(1, 8, 1, 1, 1)
    shaded[..., 3:6, 8:10] = 0.05 * torch.arange(8.0).reshape(1, 8, 1, 1, 1)
    assert score(shaded, "a one moving right slowly") == pytest.approx(1)
    assert int(fit_motions(shaded, [*motions, (0.0, 0.0)]).argmax(1)) == 8


def test_shifts() -> None:
    image = torch.zeros(1, 5, 5)
    image[0, 2, 2] = 1
    moved = shift(image, (1.5, -1.0))
    assert moved[0, 1].tolist() == [0, 0, 0, 0.5, 0.5]
    assert float(moved.sum()) == 1
    assert not fit_motions(torch.zeros(2, 3, 3, 5, 5), [(1.0, 0.0)]).any()


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("a three moving slowly", "no word for the direction"),
        ("a three moving left right slowly", "2 words for the direction"),
        ("a three moving left", "no word for the speed"),
        ("", "no word"),
    ],
)
def test_prompts_that_ask_for_no_motion(text: str, phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase) as caught:
        score(dot([(5, 5)]), text)
    assert "it takes one of" in caught.value.hint


def test_words_are_found_in_sentences() -> None:
    assert asked_word("A Three, moving left.", DIGIT_NAMES, "the digit") == "three"


def test_media_and_options_that_do_not_fit() -> None:
    for media in (torch.zeros(1, 3, 12, 12), torch.zeros(1, 1, 3, 12, 12)):
        with pytest.raises(RewardError, match="scored of clips"):
            score(media, "a one moving left slowly")
    with pytest.raises(RewardError, match="can't be made"):
        make_reward("motion", {"slowly": 1.0, "quickly": 0.5})


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> DigitIdentity:
    frames = frames_by_digit(moving_digit_splits().reward)
    folder: Path = tmp_path_factory.mktemp("classifier")
    fit_classifier(
        frames.media,
        frames.caption_id,
        labels=frames.captions,
        architecture="mlp",
        seed=0,
        num_steps=300,
    ).save(folder)
    reward = make_reward("digit_identity", {"weights": str(folder)})
    assert isinstance(reward, DigitIdentity)
    return reward


def test_identity_of_data(identity: DigitIdentity) -> None:
    clips = heldout()
    right = identity.score(clips.media, prompts(clips.texts()))
    others = tuple(clips.captions[(i + 1) % 80] for i in clips.caption_id.tolist())
    wrong = identity.score(clips.media, prompts(others))
    assert float((right > wrong).float().mean()) > 0.9
    assert float(right.max()) <= 0
    assert float(identity.score(torch.zeros(1, 8, 3, 12, 12), prompts(("a one",)))) < -0.5
    # The mean over frames: half of a clip counts half.
    mixed = torch.cat([clips.media[:1, :4], clips.media[1:2, :4]], dim=1)
    asked = prompts(clips.texts()[:1])
    halves = [identity.score(mixed[:, rows], asked) for rows in (slice(4), slice(4, 8))]
    torch.testing.assert_close(identity.score(mixed, asked), sum(halves) / 2)


def test_the_floor_is_of_frames(identity: DigitIdentity, tmp_path: Path) -> None:
    identity._classifier.save(tmp_path)
    floored = DigitIdentity(weights=str(tmp_path), floor=-0.01)
    clips = heldout()
    assert float(floored.score(clips.media, prompts(clips.texts())).min()) >= -0.01


def test_identity_takes_clips_of_its_size(identity: DigitIdentity) -> None:
    for shape in ((1, 3, 12, 12), (1, 8, 3, 16, 16)):
        with pytest.raises(RewardError, match="takes clips of frames"):
            identity.score(torch.zeros(shape), prompts(("a one",)))


def test_both_keep_the_contract(identity: DigitIdentity) -> None:
    clips = heldout()
    asked = prompts(clips.texts()[:6])
    for reward in (identity, MOTION):
        check_reward(reward, clips.media[:6].contiguous(), asked)
