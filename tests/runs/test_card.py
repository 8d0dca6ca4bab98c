"""What a model card shows of the machine it was made on, and under which terms weights are."""

from __future__ import annotations

import pytest

from ddrl.recipe import parse_recipe
from ddrl.runs.card import _front_matter, _licence, _shared_recipe, base_name, shared_path

RECIPE = """
[model]
family = "diffusers"
path = "{path}"

[data]
source = "files"
path = "/home/someone/pictures/cats"

[[reward]]
name = "clip"
options = {{ weights = "/home/someone/weights/clip" }}

[run]
folder = "/home/someone/secret-project/runs/cats"
cache = "/scratch/someone"
"""


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/someone/model", "model"),
        ("/home/someone/model/", "model"),
        ("~/model", "model"),
        ("~someone/models/model", "model"),
        (r"C:\Users\someone\model", "model"),
        ("C:/Users/someone/model", "model"),
        (r"\\server\share\model", "model"),
        ("file:///home/someone/model", "model"),
        ("models/sd3", "models/sd3"),
        ("owner/name@v1.0", "owner/name@v1.0"),
        ("", ""),
    ],
)
def test_of_an_absolute_path_the_last_part_is_shown(path: str, shown: str) -> None:
    assert shared_path(path) == shown


def test_a_recipe_without_where_things_lie() -> None:
    recipe = parse_recipe(RECIPE.format(path="/home/someone/models/sd3"))
    text = _shared_recipe(recipe)
    assert "someone" not in text
    assert 'path = "cats"' in text
    assert 'weights = "clip"' in text
    parse_recipe(text)  # and still a recipe
    assert base_name(recipe) == "sd3"
    assert "base_model" not in _front_matter(recipe)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("black-forest-labs/FLUX.1-dev", "flux-1-dev-non-commercial-license"),
        ("stabilityai/stable-diffusion-3.5-medium", "stabilityai-ai-community"),
        ("stabilityai/stable-diffusion-3.5-large@main", "stabilityai-ai-community"),
        ("someone/model", "that-of-the-base-model"),
    ],
)
def test_the_terms_of_a_base_on_the_hub(path: str, name: str) -> None:
    recipe = parse_recipe(RECIPE.format(path=path))
    hub_id = path.partition("@")[0]
    lines = _front_matter(recipe).split("\n")
    assert f'base_model: "{hub_id}"' in lines
    assert f"license_name: {name}" in lines
    assert f'license_link: "https://huggingface.co/{hub_id}"' in lines
    assert "that of the base model" in _licence(recipe)


def test_the_embedded_model_has_our_own_terms() -> None:
    recipe = parse_recipe('[[reward]]\nname = "ink"\n')
    assert "license: apache-2.0" in _front_matter(recipe).split("\n")
    assert _licence(recipe).startswith("Apache-2.0")
