"""`import ddrl` offers an exact, sorted, documented list of names."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

import ddrl


def is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def kind_and_name(name: str) -> tuple[int, str]:
    """The linter's order: CONSTANTS, then Classes, then functions and the rest."""
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def has_own_docstring(value: object) -> bool:
    """Whether a class, function or module says what it is (a dataclass's signature does not)."""
    if not (inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)):
        return True
    text = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
    signature = f"{getattr(value, '__name__', '')}("
    return bool(text and text.strip() and not text.startswith(signature))


def test_the_list_is_sorted_and_without_repetition() -> None:
    names = list(ddrl.__all__)
    assert names
    assert names == sorted(set(names), key=kind_and_name)


def test_dir_offers_exactly_the_list() -> None:
    offered = {name for name in dir(ddrl) if not is_dunder(name)}
    assert offered == {name for name in ddrl.__all__ if not is_dunder(name)}


@pytest.mark.parametrize("name", ddrl.__all__)
def test_each_name_is_there_and_documented(name: str) -> None:
    assert has_own_docstring(getattr(ddrl, name)), f"ddrl.{name} has no docstring of its own"


def test_type_checkers_find_each_name_where_it_is_loaded_from() -> None:
    tree = ast.parse(inspect.getsource(ddrl))
    seen = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ddrl.")
        for alias in node.names
    }
    assert seen == ddrl._HOME


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = "import sys, ddrl; print(*(name for name in sys.modules if name.startswith('ddrl')))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == ["ddrl"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    name = "no_such_name"
    with pytest.raises(AttributeError, match=name):
        getattr(ddrl, name)
