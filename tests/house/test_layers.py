"""Who may import whom: imports only point down (the table of CONTRIBUTING.md, executed)."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "ddrl"
SOURCE = Path(__file__).parents[2] / "src" / PACKAGE

BASE = {"errors", "seeding", "disk"}
NAMED = {"named_code"}
MATHEMATICS = BASE | {"condition", "diffusion", "objective", "records"}
MATTER = MATHEMATICS | {"models", "data", "rewards"}

# What each top-level package or module may import of ddrl, besides itself; a dotted name opens
# one module only. `__init__` is the public list and may import anything.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "seeding": set(),
    "disk": set(),
    "recipe": {"errors", "disk"},
    "diffusion": BASE,
    "condition": BASE,
    "records": BASE | {"condition"},
    "objective": BASE | {"condition", "diffusion", "records"},
    "named_code": {"errors"},
    "models": MATHEMATICS | NAMED,
    "data": MATHEMATICS,
    "rewards": MATHEMATICS | NAMED,
    "training": MATTER,
    "evaluation": MATTER | {"training.rollout", "training.checkpoint", "training.forward"},
    "votes": {"errors", "disk"},
    "testing": MATTER | {"training.rollout", "training.forward"},
    "builders": MATTER | NAMED | {"recipe", "training"},
    "runs": MATTER | NAMED | {"recipe", "training", "evaluation", "builders"},
    "jobs": MATTER | NAMED | {"recipe", "training", "evaluation", "builders", "runs"},
    "cli": MATTER | NAMED | {"recipe", "training", "evaluation", "builders", "runs", "jobs"},
    "__main__": {"cli"},
}

# Foreign packages that a layer must do without.
OUTSIDE_WORLD = {"argparse", "configparser", "io", "json", "logging", "os", "pathlib", "pickle"}
OUTSIDE_WORLD |= {"pydantic", "random", "shutil", "socket", "subprocess", "tempfile", "tomllib"}
HEAVY = {"torch", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "safetensors", "tensorboard"}
MUST_NOT_IMPORT: dict[str, set[str]] = {
    "errors": HEAVY,
    "disk": HEAVY,
    "named_code": HEAVY,
    "recipe": HEAVY,
    "diffusion": OUTSIDE_WORLD,
    "objective": OUTSIDE_WORLD,
    "votes": HEAVY,
}

# The command line imports these when it is loaded, and all else inside the command's function.
CLI_AT_LOAD = {"errors", "cli", "runs.lock"}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `target` is absolute, `at_load` means when the module is loaded."""

    target: str
    line: int
    at_load: bool


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports_of(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[Import]:
    """Every import under a node: of any depth, under TYPE_CHECKING, and by literal name."""
    parts = module.split(".") if is_package else module.split(".")[:-1]

    def walk(node: ast.AST, at_load: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(f"{origin}.{alias.name}", node.lineno, at_load)
        elif isinstance(node, ast.Call) and node.args:
            function = ast.unparse(node.func).rsplit(".", 1)[-1]
            name = node.args[0]
            if function in {"import_module", "__import__"} and isinstance(name, ast.Constant):
                yield Import(str(name.value), node.lineno, at_load)
        for child in ast.iter_child_nodes(node):
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            late = inside or (is_type_checking(node) and child in getattr(node, "body", []))
            yield from walk(child, at_load and not late)

    yield from walk(tree, True)


def opens(allowed: set[str], target: str) -> bool:
    """Whether one of the allowed names is the target or holds it."""
    return any(target == name or target.startswith(f"{name}.") for name in allowed)


def complaint(module: str, found: Import) -> str:
    """What is wrong with one import, or an empty string."""
    unit = [*module.split("."), "__init__"][1]
    package, _, inner = found.target.partition(".")
    if unit == "__init__":
        return ""
    if package != PACKAGE:
        forbidden = package in MUST_NOT_IMPORT.get(unit, set())
        if unit == "cli" and found.at_load and package in HEAVY:
            return f"{unit} must not load {package} before a command runs"
        return f"{unit} must not import {package}" if forbidden else ""
    if unit not in MAY_IMPORT:
        return f"{unit} is not in the table of layers"
    if not opens(MAY_IMPORT[unit] | {unit}, inner):
        return f"{unit} must not import {found.target}"
    if unit == "cli" and found.at_load and not opens(CLI_AT_LOAD, inner):
        return f"{unit} must import {found.target} inside the command's function"
    return ""


def modules(folder: Path) -> dict[str, Path]:
    """The dotted name and file of every module of the package in `folder`."""
    names = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [PACKAGE, *path.relative_to(folder).with_suffix("").parts]
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def all_imports(folder: Path) -> dict[str, list[Import]]:
    """The imports of every module of the package in `folder`."""
    return {
        module: list(
            imports_of(
                ast.parse(path.read_text(encoding="utf-8")),
                module,
                is_package=path.name == "__init__.py",
            )
        )
        for module, path in modules(folder).items()
    }


def violations(folder: Path) -> list[str]:
    """Each import of the package in `folder` that breaks the table."""
    return [
        f"{module}:{found.line}: {text}"
        for module, imports in all_imports(folder).items()
        for found in imports
        if (text := complaint(module, found))
    ]


def import_cycle(folder: Path) -> list[str]:
    """A chain of modules that import each other in a circle, wherever they do; or an empty list."""
    imports = all_imports(folder)
    graph: dict[str, set[str]] = {}
    for module, found in imports.items():
        if module == PACKAGE:
            continue
        near = {one.target for one in found}
        near |= {target.rpartition(".")[0] for target in near}
        graph[module] = {name for name in near if name in imports and name not in {module, PACKAGE}}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_imports_only_point_down() -> None:
    assert modules(SOURCE)
    assert violations(SOURCE) == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    assert import_cycle(SOURCE) == []


def test_the_table_itself_has_no_circle() -> None:
    graph = {unit: {name.split(".")[0] for name in allowed} for unit, allowed in MAY_IMPORT.items()}
    assert set().union(*graph.values()) <= graph.keys()
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("file", "code", "phrase"),
    [
        ("errors.py", "import torch", "errors must not import torch"),
        ("diffusion/process.py", "from pathlib import Path", "must not import pathlib"),
        ("diffusion/process.py", "from ddrl.objective import x", "must not import ddrl.objective"),
        ("objective/loss.py", "import os.path", "must not import os"),
        ("recipe/reading/load.py", "from ddrl import seeding", "must not import ddrl.seeding"),
        (
            "models/tiny/model.py",
            "import ddrl.data.embedded.digits",
            "must not import ddrl.data.embedded.digits",
        ),
        (
            "data/embedded/digits.py",
            "from ...models import tiny",
            "must not import ddrl.models.tiny",
        ),
        ("training/trainer.py", "from ddrl.recipe import Recipe", "must not import ddrl.recipe"),
        ("training/trainer.py", "import ddrl.builders", "must not import ddrl.builders"),
        (
            "evaluation/pages/page.py",
            "from ddrl.training import trainer",
            "ddrl.training.trainer",
        ),
        ("evaluation/pages/page.py", "import ddrl.builders", "must not import ddrl.builders"),
        ("jobs/train/trainer.py", "import ddrl.cli", "must not import ddrl.cli"),
        ("rewards/base.py", "def f():\n    import ddrl.cli", "must not import ddrl.cli"),
        ("rewards/base.py", "import_module('ddrl.models')", "must not import ddrl.models"),
        ("rewards/base.py", "from ddrl import DDRLError", "must not import ddrl.DDRLError"),
        (
            "models/base.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ddrl import rewards",
            "must not import ddrl.rewards",
        ),
        ("cli/train.py", "from ddrl.training import trainer", "inside the command's function"),
        ("cli/train.py", "import torch", "before a command runs"),
        ("misc/x.py", "import ddrl.errors", "not in the table"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, code: str, phrase: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, encoding="utf-8")
    (found,) = violations(tmp_path)
    assert phrase in found


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("__init__.py", "from ddrl.training.trainer import Trainer"),
        ("seeding.py", "import torch"),
        ("objective/loss.py", "from ..diffusion.transition import Transition"),
        ("objective/loss.py", "from . import policy"),
        ("jobs/train/trainer.py", "from ddrl.recipe import Recipe\nimport ddrl.training.trainer"),
        ("evaluation/measures/generate.py", "from ddrl.training import rollout"),
        ("evaluation/measures/generate.py", "from ddrl.training.checkpoint import read"),
        ("cli/train.py", "from ddrl.errors import DDRLError\ndef f():\n    import ddrl.training"),
        ("cli/train.py", "import typing\nif typing.TYPE_CHECKING:\n    import torch"),
    ],
)
def test_what_the_table_allows_passes(tmp_path: Path, file: str, code: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, encoding="utf-8")
    assert violations(tmp_path) == []


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.py").write_text("from ddrl.data import b", encoding="utf-8")
    (folder / "b.py").write_text("from .a import x", encoding="utf-8")
    assert set(import_cycle(tmp_path)) == {"ddrl.data.a", "ddrl.data.b"}
    late = "def f():\n    from ddrl.data import b"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ddrl.data import b"
    for hidden in (late, typed):
        (folder / "a.py").write_text(hidden, encoding="utf-8")
        assert set(import_cycle(tmp_path)) == {"ddrl.data.a", "ddrl.data.b"}
    (folder / "a.py").write_text("import torch", encoding="utf-8")
    assert import_cycle(tmp_path) == []
