"""The tables of mutants: which fault is put where, and which tests ought to notice it."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "SOURCE", "Mutant", "Table", "read_tables"]

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "ddrl"
TABLES = Path(__file__).parent


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        package: the table that it stands in.
        file: what is changed, below ``src/ddrl``.
        old: text that occurs there exactly once.
        new: what takes its place.
        tests: test files below ``tests``, those that ought to notice it first.
        equivalent: why it changes nothing that could be noticed; empty for a real fault.
    """

    package: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    equivalent: str = ""

    @property
    def title(self) -> str:
        """One line that tells it from the others."""
        first, second = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file}: {first[:70]}  ->  {second[:70]}"

    def problems(self) -> Iterator[str]:
        """Why it can't be applied, a line each."""
        path = SOURCE / self.file
        if not path.is_file():
            yield f"{self.title}: there is no such file"
            return
        text = path.read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            yield f"{self.title}: its old text occurs {count} times"
            return
        try:
            before, after = ast.parse(text), ast.parse(self.applied())
        except SyntaxError as error:
            yield f"{self.title}: no Python any more ({error})"
            return
        if ast.dump(before) == ast.dump(after):
            yield f"{self.title}: changes nothing"
        for test in self.tests:
            if not (ROOT / "tests" / test).exists():
                yield f"{self.title}: there is no tests/{test}"

    def applied(self) -> str:
        """The file's text with the fault."""
        return (SOURCE / self.file).read_text(encoding="utf-8").replace(self.old, self.new)


@dataclass(frozen=True)
class Table:
    """The mutants of one package.

    Attributes:
        package: its name.
        target: the share of them that tests have to notice.
        mutants: in the order of the table.
    """

    package: str
    target: float
    mutants: tuple[Mutant, ...]


def read_tables() -> list[Table]:
    """Every table of this folder, by name.

    A table has a ``target`` and a ``[[file]]`` for each source file, with its ``path``, its
    ``tests`` and its ``mutants``, which are ``{ old, new }``, with ``tests`` of their own in front
    of the file's where other tests ought to notice, and with ``equivalent`` where none can.
    """
    return [_read(path) for path in sorted(TABLES.glob("*.toml"))]


def _read(path: Path) -> Table:
    read: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    mutants = [
        Mutant(
            path.stem,
            file["path"],
            each["old"],
            each["new"],
            tuple(dict.fromkeys([*each.get("tests", ()), *file["tests"]])),
            each.get("equivalent", ""),
        )
        for file in read["file"]
        for each in file["mutants"]
    ]
    return Table(path.stem, float(read["target"]), tuple(mutants))
