"""Every error that a user's input may reach is a sentence, and says what to do next."""

from __future__ import annotations

import ast
import re
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

CONFLICTS = frozenset({"Conflict"})
"""What a rule of the recipe finds: keys, message and hint, which become a `RecipeError`."""

PLACE = re.compile(r'^(\0|Override "\0"): (?=.)')
"""What may stand before a message, as a compiler's does: a file and a line, or an override."""

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
        parts = [
            str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values
        ]
        is_sentence = ast.unparse(node.values[-1]).strip("f'\"").endswith(".message}")
        return "".join(parts) + ("." if is_sentence else "")
    return str(node.value) if isinstance(node, ast.Constant) else ""


def faults_of_form(tree: ast.AST) -> Iterator[str]:
    """Messages that are no sentence, and hints that are one.

    A message may begin with a key, a value or a name that is written small, and end with what
    another library said, which comes after a colon.
    """
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            continue
        name, texts = node.func.id, node.args
        if name in CONFLICTS:
            _, *texts = texts
        elif name not in NAMES | {"DDRLError"}:
            continue
        message, *hints = (PLACE.sub("", literal(text), count=1) for text in texts)
        first = message.partition(" ")[0]
        if first.isalpha() and first[0].islower() and first not in SMALL:
            yield message
        is_quoted = message == VALUE or (message.endswith(VALUE) and re.search("[.:] ", message))
        if message and not message.endswith(".") and not is_quoted:
            yield message
        hints += [literal(word.value) for word in node.keywords if word.arg == "hint"]
        for hint in hints:
            first = hint.partition(" ")[0]
            if hint.endswith(".") and not hint.endswith("..."):
                yield hint
            if first.isalpha() and first[0].isupper() and not first.isupper():
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
        ('UsageError(f"{path} is {kind}")', 1),
        ('RecipeError("unknown key.")', 1),
        ('RecipeError(f"{where}: unknown key {key}.")', 1),
        ('RecipeError(f"{where}: Unknown key {key}.", hint="Write it.")', 2),
        ('RecipeError(f"{where}: {problem}", hint="write it")', 0),
        ('Conflict(("a.b",), "no step has noise", "Select one")', 3),
        ('Conflict(("a.b",), f"a.b is {value}.", "select one")', 0),
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
