"""Which embedded clips a recipe can ask for."""

from __future__ import annotations

import pytest
from tests.recipe.texts import REWARD, failure, recipe

CLIPS = [
    *("data.source=moving_digits", "data.height=12", "data.width=12", "data.frames=8"),
    *("model.network=dit", "model.patch=3", "model.patch_frames=8"),
]


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        (["data.height=512"], "data.height is 512, but moving_digits has clips of 9 to 32", "12"),
        (["data.width=8"], "data.width is 8, but moving_digits has clips of 9 to 32", "12"),
        (["data.frames=1"], "data.frames is 1, but moving_digits has clips of 2 to 16", "to 8"),
        (["model.network=mlp"], "the network of clips is a transformer", '"dit"'),
        (["model.patch=5"], "data.height 12 can't be cut into patches of model.patch = 5", "12"),
        (["model.patch_frames=3"], "data.frames 8 can't be cut into patches", "multiple"),
        (["data.given_frames=8"], "nothing would be left to generate", "data.frames"),
        (["model.family=diffusers", "model.path=m"], "can't be trained on", "moving_digits"),
    ],
)
def test_what_is_refused(overrides: list[str], message: str, hint: str) -> None:
    said, advice = failure(REWARD, *CLIPS, *overrides)
    assert message in said
    assert hint.removesuffix("12") in advice


@pytest.mark.parametrize("more", [[], ["data.given_frames=1"], ["model.patch_frames=2"]])
def test_what_is_not(more: list[str]) -> None:
    assert recipe(*CLIPS, *more).data.source == "moving_digits"
