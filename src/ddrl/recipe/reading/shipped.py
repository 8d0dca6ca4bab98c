"""The recipes that come with ddrl, by name: a wheel's package data, or a checkout's folder."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ddrl.disk import read_document
from ddrl.errors import UsageError
from ddrl.recipe.reading.keys import nearest
from ddrl.recipe.reading.toml import parse_toml

COMPARISONS = "compare/"
"""How the names of comparisons begin."""

_PACKAGE = Path(__file__).parents[2]
_HARDWARE = re.compile(r"^# Hardware: (.+)\.$", re.MULTILINE)
_FIRST = re.compile(r"# (.+?)(?:[:.]\s|[:.]$)", re.DOTALL)
_BASE = re.compile(r'^recipe = "\.\./(\w+)\.toml"', re.MULTILINE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shipped:
    """A recipe or comparison that comes with ddrl.

    Attributes:
        name: what a command takes.
        path: of its file.
        line: what it is, in a few words.
        hardware: what it is made for.
    """

    name: str
    path: Path
    line: str
    hardware: str

    @property
    def command(self) -> str:
        """The subcommand that takes it."""
        return "compare" if self.name.startswith(COMPARISONS) else "train"

    def copy(self, file: str) -> str:
        """Its text for another place: what it names is found from there.

        Args:
            file: what commands in its comments call it.
        """
        text = read_document(self.path).replace(f"recipes/{self.name}.toml", file)
        return _BASE.sub(r'recipe = "\1"  # of ddrl; or a path from here', text)


@cache
def shipped() -> tuple[Shipped, ...]:
    """Return every recipe that comes with ddrl, then every comparison, each by name."""
    folder = _PACKAGE / "recipes"
    checkout = _PACKAGE.parents[1]
    if not folder.is_dir() and (checkout / "pyproject.toml").is_file():
        folder = checkout / "recipes"
    recipes = {path.stem: _describe(path.stem, path) for path in sorted(folder.glob("*.toml"))}
    comparisons = []
    for path in sorted((folder / COMPARISONS).glob("*.toml")):
        text = read_document(path)
        base = _BASE.search(text)
        hardware = recipes[base[1]].hardware if base else ""
        title = str(parse_toml(text).get("title", ""))
        comparisons.append(Shipped(COMPARISONS + path.stem, path, title, hardware))
    return (*recipes.values(), *comparisons)


def _describe(name: str, path: Path) -> Shipped:
    text = read_document(path)
    hardware, first = _HARDWARE.search(text), _FIRST.match(text)
    line = first[1].replace("\n# ", " ") if first else ""
    return Shipped(name, path, line, hardware[1] if hardware else "")


def find_shipped(name: str) -> Shipped:
    """Return the recipe or comparison of a name.

    Raises:
        UsageError: there is none; the hint has near names.
    """
    found = {one.name: one for one in shipped()}
    if name in found:
        return found[name]
    raise UsageError(f"No recipe of ddrl is called {name!r}.", hint=near_names(name))


def near_names(name: str) -> str:
    """Return a hint for what is no recipe: names that it may mean, and what lists them."""
    names = [one.name for one in shipped()]
    stem = name.removesuffix(".toml")
    meant = max((n for n in names if f"/{stem}".endswith(f"/{n}")), key=len, default=None)
    close = meant or nearest(stem, names) or nearest(stem.rpartition("/")[2], names)
    listing = "`ddrl recipe list` names the recipes that come with ddrl"
    return f"did you mean {close}? {listing}" if close else listing


def find_recipe(path: Path, *, is_comparison: bool = False) -> Path:
    """Return the file that a command means; one that is there comes before a recipe of its name.

    Args:
        path: as it was typed: a file, with or without ``.toml``, or a recipe's name.
        is_comparison: comparisons come before recipes, and may leave out :data:`COMPARISONS`.

    Returns:
        The file, or ``path`` where there is none.
    """
    name = path.as_posix()
    found = {one.name: one.path for one in shipped()}
    known = (found.get(COMPARISONS + name) if is_comparison else None) or found.get(name)
    own = next((p for p in (path, Path(f"{path}.toml")) if p.is_file()), None)
    if own is not None and known is not None:
        logger.info("%s is taken from the file %s, not from the recipes of ddrl", name, own)
    return own or known or path
