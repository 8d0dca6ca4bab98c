"""Every error that a user's input may reach is a sentence, and says what to do next."""

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
        ("builders/tasks/pretrained.py", "blank"),  # caught by the plan
        ("data/encoded/filling.py", "_media"),  # a caller's own encoder broke its promise
        ("data/encoded/filling.py", "texts"),
    }
)
"""Errors that need no hint, by file and function."""

SMALL = frozenset({"diffusers"})
"""Names that are written small wherever they stand."""

VALUE = "\0"

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


def literal(node: ast.expr) -> str:
    """A text as it is typed, with a mark for each value in it; empty for what is made elsewhere."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else VALUE for part in node.values]
        return "".join(map(str, parts))
    return str(node.value) if isinstance(node, ast.Constant) else ""


def faults_of_form(tree: ast.AST) -> Iterator[str]:
    """Messages that are no sentence, and hints that are one.

    A message may begin with a key, a value or a name that is written small. Those of recipes follow
    a file and a line, as a compiler's do, and have no stop.
    """
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            continue
        if node.func.id not in NAMES | {"DDRLError"} or node.func.id == "RecipeError":
            continue
        message = literal(node.args[0])
        first = message.partition(" ")[0]
        if first.isalpha() and first[0].islower() and first not in SMALL:
            yield message
        if message and not message.endswith((".", VALUE)):
            yield message
        for word in node.keywords:
            hint = literal(word.value) if word.arg == "hint" else ""
            if hint.endswith(".") and not hint.endswith("..."):
                yield hint


def test_every_message_is_a_sentence_and_no_hint_ends_in_a_stop() -> None:
    found = [
        f"{path.relative_to(SOURCE)}: {text}"
        for path in sorted(SOURCE.rglob("*.py"))
        for text in faults_of_form(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('UsageError("the folder is empty.")', 1),
        ('UsageError("The folder is empty")', 1),
        ('UsageError(f"{path} is empty.", hint="name another.")', 1),
        ('UsageError("model.path is empty.", hint="name another, such as ...")', 0),
        ('UsageError(f"The cause: {error}")', 0),
        ('RecipeError("unknown key")', 0),
    ],
)
def test_what_is_no_sentence(source: str, count: int) -> None:
    assert len(list(faults_of_form(ast.parse(source)))) == count


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
