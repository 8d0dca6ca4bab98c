"""The fenced blocks of README and the pages, and what a reader does with each."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from ddrl.cli.app import app
from ddrl.recipe import Recipe, load_recipe
from ddrl.recipe.comparison import load_comparison, plan_runs
from ddrl.recipe.serving import load_serving
from ddrl.rewards.base import BUILTIN, reward_class

__all__ = ["ROOT", "Block", "blocks", "check_arguments", "check_toml", "pages"]

ROOT = Path(__file__).parents[2]
WITH_TEST = {"docs/tutorial.md"}  # tests/flow/test_tutorial.py
FENCE = re.compile(r"^(?P<in> *)```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^(?P=in)```", re.M | re.S)
NAMED_INSIDE = re.compile(r"# (\S+\.(?:py|toml))$")
NAMED_BEFORE = re.compile(r"`([\w./-]+\.(?:py|toml|txt))`")

# What a part of a recipe may be a part of: the embedded task, or a model on files or prompts.
WHOLE: tuple[dict[str, Any], ...] = (
    {"reward": [{"name": "ink"}]},
    {
        "reward": [{"name": "ocr"}],
        "model": {"family": "diffusers", "path": "models/any"},
        "data": {"source": "files", "path": "data/posters"},
    },
    {
        "reward": [{"name": "ocr"}],
        "model": {"family": "diffusers", "path": "models/any"},
        "data": {"source": "prompts", "path": "prompts.txt", "anchor": "synthetic"},
    },
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its file, from the repository's root.
        line: of its fence.
        kind: the word behind the fence.
        body: its text.
        file: the file that it is, by its first line or the paragraph before it; else empty.
    """

    page: str
    line: int
    kind: str
    body: str
    file: str

    @property
    def commands(self) -> list[str]:
        """The lines that a reader types."""
        return [line[2:].strip() for line in self.body.splitlines() if line.startswith("$ ")]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README, CONTRIBUTING and every page of the site, but for those with a test of their own."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return [name for name in names if name not in WITH_TEST]


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        before = text[: found.start()].rstrip("\n").rpartition("\n\n")[2]
        first = NAMED_INSIDE.match(found["body"].partition("\n")[0])
        ends = {"python": ".py", "toml": ".toml", "text": ".txt"}.get(found["kind"], "?")
        named = [name for name in NAMED_BEFORE.findall(before) if name.endswith(ends)]
        file = first[1] if first else (named[-1] if named else "")
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found["kind"], found["body"], file)


def check_arguments(command: str) -> list[str]:
    """Parse a command of ddrl with its own parser, and run nothing.

    Returns:
        Its words, without the program.

    Raises:
        Exception: the parser's own, of an option or a command that does not exist.
    """
    words = shlex.split(command, comments=True)[1:]
    found: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(found, "commands") and rest:
        name = rest.pop(0)
        assert name in found.commands, f"there is no command {name!r}: {command}"
        found = found.commands[name]
    found.make_context("ddrl", rest)
    return words


def check_toml(block: Block) -> None:
    """Read a block as what it is: a recipe or a part of one, a comparison, a service, a project.

    A file of its own is in the working folder.

    Raises:
        Exception: it is none of these.
    """
    data = tomllib.loads(block.body)
    if "project" in data:
        groups = set(data["project"]["entry-points"])
        assert groups == {"ddrl.rewards"}, f"ddrl reads no entry points of {groups}"
    elif block.file and "variant" in data:
        plan_runs(*load_comparison([Path(block.file)]))
    elif "serve" in data or any("requirements" in one for one in data.get("reward", [])):
        path = Path(block.file or "service.toml")
        path.write_text(block.body, encoding="utf-8")
        load_serving(path)
    elif block.file:
        _check_rewards(load_recipe(block.file))
    else:
        _check_part(data)


def _check_part(part: dict[str, Any]) -> None:
    """Read a part of a recipe within the first whole that takes it."""
    if isinstance(part.get("reward"), dict):  # [reward.options], of the reward of a block before
        part = {**part, "reward": [{"name": "vlm_judge", **part["reward"]}]}
    errors: list[Exception] = []
    for whole in WHOLE:
        try:
            return _check_rewards(Recipe.model_validate(_merged(whole, part)))
        except ValidationError as error:
            errors.append(error)
    raise errors[-1]


def _check_rewards(recipe: Recipe) -> None:
    """See that the built-in rewards have the options that are set."""
    named = [(one.name, one.options) for one in recipe.reward]
    named += [(one.name, one.options) for one in recipe.evaluation.reward]
    for name, options in named:
        if name in BUILTIN:
            inspect.signature(reward_class(name)).bind_partial(**dict(options))


def _merged(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """A table with the keys of another, which win."""
    found = dict(whole)
    for key, value in part.items():
        inside = found.get(key)
        if isinstance(inside, dict) and isinstance(value, dict):
            found[key] = _merged(inside, value)
        else:
            found[key] = value
    return found
