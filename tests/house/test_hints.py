"""Every error that a user's input may reach says what to do next."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddrl.errors

SOURCE = Path(ddrl.errors.__file__).parent
NAMES = {name for name in ddrl.errors.__all__ if name[0].isupper()} - {"DDRLError"}
"""`DDRLError` itself is a fault of ours, and a user can do nothing about it."""

SILENT = frozenset(
    {
        ("builders/planning.py", "blank"),  # caught by the plan
        ("data/filling.py", "_media"),  # a caller's own encoder broke its promise
        ("data/filling.py", "texts"),
    }
)
"""Errors that need no hint, by file and function."""

MATHEMATICS = ("diffusion/", "evaluation/")
"""Layers that are called with arrays: what their callers hand over is not a user's input."""


def silent_raises(tree: ast.AST, function: str = "") -> Iterator[tuple[str, int]]:
    """The function and line of each error of ours that is made without a hint."""
    for node in ast.iter_child_nodes(tree):
        named = node.name if isinstance(node, ast.FunctionDef) else function
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in NAMES
            and not any(keyword.arg in {"hint", None} for keyword in node.keywords)
        ):
            yield function, node.lineno
        yield from silent_raises(node, named)


def test_every_error_has_a_hint() -> None:
    found = {
        (path.relative_to(SOURCE).as_posix(), function): line
        for path in sorted(SOURCE.rglob("*.py"))
        if not path.relative_to(SOURCE).as_posix().startswith(MATHEMATICS)
        for function, line in silent_raises(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found.keys() == SILENT, {key: line for key, line in found.items() if key not in SILENT}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('def f():\n    raise UsageError("No.")', 1),
        ('def f():\n    raise UsageError("No.", hint="try")', 0),
        ("def f():\n    raise UsageError(*words, **what)", 0),
        ('def f():\n    raise DDRLError("ours")', 0),
        ('def f():\n    return DataError("No.")', 1),
    ],
)
def test_what_is_silent(source: str, count: int) -> None:
    assert len(list(silent_raises(ast.parse(source)))) == count
