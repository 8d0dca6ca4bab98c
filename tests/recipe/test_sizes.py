"""Sizes of media by name: what they are, and what does not go with several."""

from __future__ import annotations

import pytest

from ddrl.errors import RecipeError
from ddrl.recipe import dump_toml, parse_recipe
from ddrl.recipe.sizes import read_size, size_name

TEXT = """
[model]
family = "diffusers"
path = "model"
[data]
source = "files"
path = "data"
sizes = ["640x384", "384x640"]
[[reward]]
name = "ink"
"""


def test_a_size_is_width_x_height_and_may_have_frames() -> None:
    assert read_size("640x384") == (384, 640, 1)
    assert read_size("640x384", frames=81) == (384, 640, 81)
    assert read_size("640x384x33", frames=81) == (384, 640, 33)
    for text in ("", "640", "640x", "0x16", "640*384", "640x384x0", "640 x 384", "1x1x1x1", "-1x2"):
        assert read_size(text) is None
    for text in ("640x384", "640x384x33"):
        size = read_size(text)
        assert size is not None
        assert size_name(size) == text


def test_shapes_of_a_recipe() -> None:
    made = parse_recipe(TEXT)
    assert made.data.shapes == ((384, 640, 1), (640, 384, 1))
    clips = parse_recipe(TEXT, overrides=["data.frames=33", "data.sizes=640x384,384x640x17"])
    assert clips.data.shapes == ((384, 640, 33), (640, 384, 17))
    plain = parse_recipe(TEXT.replace('sizes = ["640x384", "384x640"]', "height = 64\nframes = 5"))
    assert plain.data.shapes == ((64, 512, 5),)


def test_sizes_come_back_from_a_run_s_own_recipe() -> None:
    """Which has height and width written out as they are by default."""
    made = parse_recipe(TEXT, overrides=["data.sizes=16x16, 32x16"])
    assert made.data.sizes == ("16x16", "32x16")
    text = dump_toml(made)
    assert 'sizes = ["16x16", "32x16"]' in text
    assert "height = 512" in text
    assert parse_recipe(text) == made
    assert parse_recipe(TEXT, overrides=["data.sizes="]).data.sizes == ()


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("data.height=64", "data.height is 64, but data.sizes says", "leave data.height out"),
        ("data.width=64", "data.width is 64, but data.sizes says", "leave data.width out"),
        ("data.sizes=64x64,64", 'data.sizes has "64", which is no size', "width x height"),
        ("data.sizes=64x64,64x64x1", "data.sizes has 64x64x1 twice", "leave one"),
        ("data.sizes=5", "data.sizes is 5, but must be a list of sizes", "data.sizes: "),
        ("data.anchor=synthetic", "data.anchor synthetic samples the base at one size", "paired"),
        ("data.anchor=mixed", "data.anchor mixed samples the base at one size", "independent"),
        ("data.source_images=1", "edits are trained at one size", "give one size"),
        ("objective.advantage=tilt", "objective.advantage tilt scores all data", "another"),
    ],
)
def test_what_does_not_go_together(override: str, message: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe(TEXT, overrides=[override])
    assert hint in caught.value.hint


def test_given_frames_have_their_own_size() -> None:
    given = ["data.frames=5", "data.given_frames=1"]
    assert parse_recipe(TEXT, overrides=given).data.given_frames == 1
    with pytest.raises(RecipeError, match="given frames have the size of their own clip"):
        parse_recipe(TEXT, overrides=[*given, "data.anchor=independent"])
    with pytest.raises(RecipeError, match=r"clips have data\.frames = 1, so nothing"):
        parse_recipe(TEXT, overrides=[*given, "data.sizes=64x64,64x32x1"])


@pytest.mark.parametrize("source", ["digits", "prompts"])
def test_media_alone_have_several_sizes(source: str) -> None:
    text = TEXT.replace('source = "files"', f'source = "{source}"\nanchor = "synthetic"')
    if source == "digits":
        text = text.replace('family = "diffusers"\npath = "model"', 'family = "tiny"')
    with pytest.raises(RecipeError, match=f"data.source {source} has none of other sizes"):
        parse_recipe(text)


def test_one_size_by_name_goes_with_everything() -> None:
    one = ["data.sizes=64x32"]
    for override in ("data.anchor=synthetic", "objective.advantage=tilt"):
        assert parse_recipe(TEXT, overrides=[*one, override]).data.shapes == ((32, 64, 1),)
