"""Comparisons: files that say what is compared, and the runs they amount to."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddrl.errors import RecipeError
from ddrl.recipe.comparison import load_comparison, plan_runs

RECIPE = '[[reward]]\nname = "ink"\n'
COMPARISON = """
recipe = "plain.toml"
folder = "runs/all"
seeds = [3, 4]
set = ["run.steps=7"]

[[variant]]
name = "DDRL"
beta = [0.1, 1.0]

[[variant]]
name = "No regularizer"
set = ["objective.regularizer=none", "run.steps=5"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "plain.toml").write_text(RECIPE)
    path = tmp_path / "all.toml"
    path.write_text(COMPARISON)
    return path


def test_every_variant_beta_and_seed_is_a_run(file: Path) -> None:
    runs = plan_runs(*load_comparison([file]))
    assert [(run.label, run.seed) for run in runs] == [
        ("DDRL, beta 0.1", 3),
        ("DDRL, beta 0.1", 4),
        ("DDRL, beta 1", 3),
        ("DDRL, beta 1", 4),
        ("No regularizer", 3),
        ("No regularizer", 4),
    ]
    assert [run.recipe.objective.beta for run in runs[:4]] == [0.1, 0.1, 1.0, 1.0]
    assert [run.recipe.run.seed for run in runs[:2]] == [3, 4]
    assert len({run.folder for run in runs}) == 6
    assert runs[0].folder == Path("runs/all/ddrl-beta-0.1-seed3")


def test_variants_of_any_script_have_folders_of_their_own(file: Path) -> None:
    names = ["強い", "弱い", "!", "?", "A+", "A-", "plain"]
    variants = "".join(f'[[variant]]\nname = "{name}"\n' for name in names)
    file.write_text(COMPARISON.partition("[[variant]]")[0] + variants)
    stems = [run.folder.name.removesuffix("-seed3") for run in plan_runs(*load_comparison([file]))]
    (*own, plain) = stems[::2]
    assert len(set(own)) == len(own)
    assert (own[0], own[1], plain) == ("強い", "弱い", "plain")
    assert all(stem.strip("-.") for stem in own)


def test_a_variants_own_keys_come_after_those_of_all(file: Path) -> None:
    runs = plan_runs(*load_comparison([file]))
    assert [run.recipe.run.steps for run in runs] == [7, 7, 7, 7, 5, 5]
    assert runs[-1].recipe.objective.regularizer == "none"


def test_recipes_are_variants_by_themselves(tmp_path: Path) -> None:
    paths = [tmp_path / "one.toml", tmp_path / "two.toml"]
    for path in paths:
        path.write_text(RECIPE)
    runs = plan_runs(*load_comparison(paths))
    assert [run.variant for run in runs] == ["one"] * 3 + ["two"] * 3
    assert [run.recipe_path for run in runs[::3]] == paths


@pytest.mark.parametrize(
    ("before", "after", "message", "hint"),
    [
        ("seeds", "seed", r"all\.toml:4: Unknown key seed", "seeds"),
        ("beta =", "betas =", r"Unknown key variant\.0\.betas", "did you mean variant.beta?"),
        ('recipe = "plain.toml"', "", 'Variant "DDRL" has no recipe', r'recipe = "PATH"'),
        ("plain.toml", "other.toml", "There is no recipe", "plain.toml"),
        ("beta = [0.1, 1.0]", "beta = [0.1, 0.1]", '"DDRL, beta 0.1"', "name of its own"),
        (
            "beta = [0.1, 1.0]",
            'beta = ["much"]',
            r"all\.toml:9: variant\.0\.beta is the list .*a list of numbers",
            "objective.beta",
        ),
        ("run.steps=7", "run.step=7", "Unknown key run.step", "run.steps"),
        ("seeds = [3, 4]", "seeds = []", "seeds", "Seeds of every run"),
        ("[[variant]]", "[[variant", "Not valid TOML", ""),
    ],
)
def test_faults_are_named(file: Path, before: str, after: str, message: str, hint: str) -> None:
    file.write_text(COMPARISON.replace(before, after, 1))
    with pytest.raises(RecipeError, match=message) as caught:
        plan_runs(*load_comparison([file]))
    assert hint in caught.value.hint


def test_two_recipes_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "one.toml", tmp_path / "b" / "one.toml"]
    for path in paths:
        path.parent.mkdir()
        path.write_text(RECIPE)
    with pytest.raises(RecipeError, match="Two recipes are called one"):
        load_comparison(paths)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe"):
        load_comparison([tmp_path / "nothing.toml"])
