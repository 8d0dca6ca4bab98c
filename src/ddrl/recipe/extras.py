"""The optional packages that a recipe's keys need, found before anything is made or downloaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddrl.errors import UsageError
from ddrl.recipe.recipe import Recipe


@dataclass(frozen=True)
class Extra:
    """An extra of ddrl that a recipe needs.

    Attributes:
        key: the key that asks for it, and its value.
        modules: what is imported.
        name: of the extra.
    """

    key: str
    modules: tuple[str, ...]
    name: str

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules that are not installed here."""
        return tuple(name for name in self.modules if importlib.util.find_spec(name) is None)

    @property
    def hint(self) -> str:
        """The command that installs it."""
        return f"pip install 'ddrl[{self.name}]'"


def missing_extras(recipe: Recipe, *, is_trained: bool = True) -> list[Extra]:
    """Return what the recipe's own keys need and is not installed; rewards' cards say theirs.

    Args:
        recipe: which.
        is_trained: whether its run is meant, not its model and data alone.
    """
    return [extra for extra in _needed(recipe, is_trained) if extra.missing]


def check_extras(recipe: Recipe, *, is_trained: bool = True) -> None:
    """Find out whether the packages are there; loads none of them.

    Raises:
        UsageError: one is not installed.
    """
    for extra in missing_extras(recipe, is_trained=is_trained):
        raise UsageError(f"{extra.key} needs {' and '.join(extra.missing)}.", hint=extra.hint)


def _needed(recipe: Recipe, is_trained: bool) -> Iterator[Extra]:
    model, data, encoder = recipe.model, recipe.data, recipe.evaluation.encoder
    if is_trained and recipe.run.wandb_project:
        yield Extra(f'run.wandb_project = "{recipe.run.wandb_project}"', ("wandb",), "wandb")
    if not model.is_embedded:
        yield Extra(f'model.family = "{model.family}"', ("diffusers", "transformers"), "models")
    if model.lora.rank:
        yield Extra(f"model.lora.rank = {model.lora.rank}", ("peft",), "models")
    if is_trained and encoder != "auto":
        yield Extra(f'evaluation.encoder = "{encoder}"', ("transformers",), "models")
    if data.source == "hub":
        yield Extra('data.source = "hub"', ("datasets",), "hub")
    if data.source != "files":
        return
    most = max(frames for *_, frames in data.shapes)
    if most > 1:
        yield Extra(f"data.frames = {most}", ("av",), "models")
    tables = Extra(f'data.path = "{data.path}"', ("pyarrow",), "parquet")
    if tables.missing and _has_tables(Path(data.path)):  # a large folder is looked into in vain
        yield tables


def _has_tables(path: Path) -> bool:
    kinds = (".parquet", ".arrow")
    return path.suffix in kinds or any(
        any(path.glob(f"{start}*{kind}")) for start in ("", "*/") for kind in kinds
    )
