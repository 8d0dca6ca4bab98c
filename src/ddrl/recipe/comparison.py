"""What is compared: one recipe, its variants, their strengths of regularization, and seeds.

title = "Digits: methods side by side"
recipe = "../digits.toml"                     # beside this file
folder = "runs/compare/digits"
seeds = [0, 1, 2]
set = ["evaluation.every=0"]                  # in all runs, as on the command line

[[variant]]
name = "DDRL"
set = ["objective.regularizer=data"]
beta = [0.1, 0.3, 1.0]                        # a run for each; left out: the recipe's own
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from ddrl.disk import file_stem
from ddrl.errors import RecipeError
from ddrl.recipe.reading.document import parse_document, read_text
from ddrl.recipe.reading.load import load_recipe
from ddrl.recipe.reading.shipped import shipped
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.sections.base import Section, as_tuple

Seeds = Annotated[tuple[int, ...], BeforeValidator(as_tuple)]
Betas = Annotated[tuple[float, ...], BeforeValidator(as_tuple)]
Texts = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]


class Variant(Section):
    """One method: a name and what it sets otherwise."""

    name: str = Field(min_length=1, description="What the report calls it.")
    recipe: str = Field("", description="A recipe of its own; empty = the comparison's.")
    set: Texts = Field((), description="Overrides, as on the command line.")
    beta: Betas = Field((), description="Values of `objective.beta`; empty = the recipe's own.")


class Comparison(Section):
    """Variants of one recipe, side by side."""

    title: str = Field("Methods side by side", description="Headline of the report.")
    recipe: str = Field("", description="The recipe that variants start from, beside this file.")
    folder: str = Field("runs/compare", min_length=1, description="Where runs and report go.")
    seeds: Seeds = Field((0, 1, 2), min_length=1, description="Seeds of every run.")
    set: Texts = Field((), description="Overrides of all runs; a variant's own come after.")
    variant: Annotated[tuple[Variant, ...], BeforeValidator(as_tuple)] = Field(
        min_length=1,
        description="The methods, in the order of the report.",
        examples=['name = "DDRL"'],
    )


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes:
        variant: name of its method.
        label: the method with its beta, which the seeds share.
        seed: of the run.
        recipe_path: the recipe's file.
        overrides: of it, the run's folder and seed among them.
        recipe: what these amount to.
    """

    variant: str
    label: str
    seed: int
    recipe_path: Path
    overrides: tuple[str, ...]
    recipe: Recipe

    @property
    def folder(self) -> Path:
        """Where the run is written."""
        return Path(self.recipe.run.folder)


def load_comparison(paths: Sequence[Path]) -> tuple[Comparison, Path]:
    """Read a comparison's file, or make a comparison of several recipes.

    Args:
        paths: one file with ``[[variant]]`` sections, or recipes that are variants by themselves.

    Returns:
        The comparison, and the folder that its recipes' paths start from.

    Raises:
        RecipeError: a file can't be read, or is not what it should be.
    """
    path, *others = paths
    document = None if others else parse_document(read_text(path), origin=str(path))
    if document is None or "variant" not in document.tables:
        names = [path.stem for path in paths]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise RecipeError(
                f"Two recipes are called {twice}.", hint="variants are named after their files"
            )
        variants = tuple(Variant(name=p.stem, recipe=str(p.absolute())) for p in paths)
        return Comparison(variant=variants), Path()
    return document.check(Comparison), path.parent


def plan_runs(comparison: Comparison, beside: Path) -> tuple[PlannedRun, ...]:
    """Return every run of a comparison, variant by variant, beta by beta, seed by seed.

    Args:
        comparison: what is compared.
        beside: the folder that recipes' paths start from.

    Raises:
        RecipeError: two variants share a name, a variant has no recipe, or a recipe is faulty.
    """
    stems = _stems(comparison)
    runs = [
        run
        for variant in comparison.variant
        for run in _runs_of(variant, comparison, beside, stems)
    ]
    folders = [run.folder for run in runs]
    twice = next((run for run in runs if folders.count(run.folder) > 1), None)
    if twice is not None:
        raise RecipeError(
            f'Two runs of the comparison are called "{twice.label}" with seed {twice.seed}.',
            hint="give each variant a name of its own, and each beta and seed once",
        )
    return tuple(runs)


def _runs_of(
    variant: Variant, comparison: Comparison, beside: Path, stems: Mapping[str, str]
) -> Iterator[PlannedRun]:
    name = variant.recipe or comparison.recipe
    if not name:
        raise RecipeError(
            f'Variant "{variant.name}" has no recipe.',
            hint='write recipe = "PATH" above the first [[variant]], or into this one',
        )
    path = beside / name
    if not path.exists():  # then it may be the name of one that comes with ddrl
        path = next((one.path for one in shipped() if one.name == name), path)
    for beta in variant.beta or (None,):
        label = _label(variant, beta)
        for seed in comparison.seeds:
            folder = Path(comparison.folder) / f"{stems[label]}-seed{seed}"
            overrides = (
                *comparison.set,
                *variant.set,
                *(() if beta is None else (f"objective.beta={beta!r}",)),
                f"run.seed={seed}",
                f"run.folder={folder}",
            )
            yield PlannedRun(
                variant.name, label, seed, path, overrides, load_recipe(path, overrides)
            )


def _label(variant: Variant, beta: float | None) -> str:
    return variant.name if beta is None else f"{variant.name}, beta {beta:g}"


def _stems(comparison: Comparison) -> dict[str, str]:
    """Return how the folders of each label begin; labels that would begin alike get a hash."""
    labels = {_label(one, beta) for one in comparison.variant for beta in one.beta or (None,)}
    stems = {label: file_stem(label, also=".", limit=100) for label in labels}
    counts = Counter(stems.values())
    return {
        label: stem
        if stem and counts[stem] == 1
        else f"{stem}-{hashlib.sha256(label.encode()).hexdigest()[:8]}".lstrip("-")
        for label, stem in stems.items()
    }
