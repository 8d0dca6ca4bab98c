"""The embedded words from a recipe to samples and judges, through the command line and real OCR."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.cli.command import ddrl, metrics_of, shared_cache

from ddrl.builders.tasks.words import Words
from ddrl.recipe import parse_recipe
from ddrl.records import Prompts

RECIPES = Path(__file__).parents[2] / "recipes"

RECIPE = """\
[model]
network = "dit"
width = 16
depth = 1
heads = 2
patch = 8

[model.pretrain]
steps = 4
batch_size = 8

[data]
source = "words"

[[reward]]
name = "ocr"

[rollout]
prompts_per_step = 2
group_size = 2
steps = 3

[evaluation]
every = 0

[run]
steps = 2
tensorboard = false
threads = 1
folder = "{folder}"
cache = "{cache}"
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(folder=folder / "run", cache=shared_cache(tmp_path_factory)))
    return path


def test_a_run_and_its_samples(recipe: Path) -> None:
    folder = recipe.parent / "run"
    result = ddrl("train", recipe)
    assert result.code == 0, result.stderr
    lines = metrics_of(folder)
    assert len(lines) == 2
    assert 0 <= lines[0]["reward/ocr"] <= 1
    result = ddrl("sample", folder, "--prompt", 'the word "tap" in blue', "--num", "2")
    assert result.code == 0, result.stderr
    assert (folder / "samples" / "grid.png").is_file()
    ddrl("sample", folder, "--prompt", 'the word "tap" in pink').failed(3, "word 'pink'")
    ddrl("sample", folder, "--prompt", 'the word "TAP" in blue').failed(3, "letter 'T'")


@pytest.mark.parametrize("name", ["words", "words_gpu"])
def test_the_plans_of_the_shipped_recipes(name: str) -> None:
    result = ddrl("train", RECIPES / f"{name}.toml", "--dry-run", "run.device=cpu")
    assert result.code == 0, result.stderr
    assert "at the peak" in result.stdout


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("model.network=mlp", "the network that spells is a transformer"),
        ("model.patch=16", "has patches of 4 or 8"),
        ("model.width=24", "has a multiple of 16"),
        ("data.frames=4", "words are drawn in pictures"),
    ],
)
def test_what_words_do_not_go_with(recipe: Path, key: str, said: str) -> None:
    ddrl("train", recipe, key, "--dry-run").failed(2, said)


@pytest.mark.slow
def test_judges_take_data_and_not_other_captions(recipe: Path) -> None:
    task = Words(parse_recipe(recipe.read_text()))
    judges, data = task.jury().judges, task.splits.heldout
    right = Prompts(data.caption_id, data.texts(), tuple({} for _ in data.texts()))
    others = (data.caption_id + 33) % 64  # another word; the colour of all but a few is another
    wrong = Prompts(others, tuple(data.captions[i] for i in others.tolist()), right.metadata)
    for name in ("judge_accuracy", "colour_accuracy"):
        assert float(judges[name](data.media, right).mean()) > 0.9
        assert float(judges[name](data.media, wrong).mean()) < 0.3
    noise = torch.rand(data.media[:8].shape, generator=torch.Generator().manual_seed(0))
    assert float(judges["judge_accuracy"](noise, right.select(range(8))).mean()) == 0


@pytest.mark.slow
def test_what_the_recipe_is_for(tmp_path: Path) -> None:
    """Half an hour on one core: DDRL takes most of the gain in OCR, and the data's loss stays."""
    found = {}
    for name, overrides in {"ddrl": [], "none": ["objective.regularizer=none"]}.items():
        places = [f"run.folder={tmp_path / name}", f"run.cache={tmp_path / 'cache'}"]
        result = ddrl("train", RECIPES / "words.toml", *places, *overrides, "evaluation.every=0")
        assert result.code == 0, result.stderr
        result = ddrl("evaluate", tmp_path / name, "--json")
        assert result.code == 0, result.stderr
        runs = json.loads(result.stdout)["runs"]
        base, found[name] = runs["base"], runs[name]
    gain = {name: row["reward"] - base["reward"] for name, row in found.items()}
    assert base["reward"] > 0.4
    assert gain["none"] > 0.04
    assert gain["ddrl"] > 0.6 * gain["none"]
    assert found["ddrl"]["heldout_loss_change"] < 0.05 < found["none"]["heldout_loss_change"]
