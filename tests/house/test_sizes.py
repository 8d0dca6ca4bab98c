"""The house stays readable: small files and functions, no junk drawers, nothing left undone."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "ddrl"
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
MAX_MODULES = 14
JUNK_DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc"}
UNDONE = re.compile(r"\b(?:TODO|FIXME|XXX)\b|\braise NotImplementedError\b")
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:work|farm)(?![\w-])")


def findings(path: Path) -> list[str]:
    """What is wrong with one source file, a line each."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = []
    if len(lines) > MAX_FILE_LINES:
        found.append(f"{path}: {len(lines)} lines, more than {MAX_FILE_LINES}")
    if path.stem in JUNK_DRAWERS:
        found.append(f"{path}: a name that says nothing about what belongs inside")
    found += [
        f"{path}:{number}: left undone: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if UNDONE.search(line)
    ]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
        if isinstance(node, ast.ImportFrom) and any(name.name == "*" for name in node.names):
            found.append(f"{path}:{node.lineno}: import *")
    return found


def text_files() -> list[Path]:
    """Every file that git tracks, or would track, and that is text."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = (ROOT / name for name in listing.split("\0") if name)
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def test_the_source_is_readable() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert files
    assert [line for path in files for line in findings(path)] == []


def crowded(folder: Path) -> list[str]:
    """The folders with more modules than a reader takes in at a look."""
    rooms = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    counts = {room: len(list(room.glob("*.py"))) for room in rooms}
    return [f"{room}: {count} modules" for room, count in counts.items() if count > MAX_MODULES]


def test_no_folder_is_crowded(tmp_path: Path) -> None:
    assert crowded(SOURCE) == []
    for number in range(MAX_MODULES + 1):
        (tmp_path / f"module{number}.py").touch()
    assert crowded(tmp_path) == [f"{tmp_path}: 15 modules"]


def test_no_path_of_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in text_files()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "text", "phrase"),
    [
        ("long.py", "x = 1\n" * (MAX_FILE_LINES + 1), "301 lines"),
        ("function.py", "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES, "f has 61 lines"),
        ("utils.py", "", "says nothing"),
        ("star.py", "from os import *\n", "import *"),
        ("later.py", "x = 1  # TO" + "DO: y\n", "left undone"),
        ("stub.py", "def f():\n    raise Not" + "ImplementedError\n", "left undone"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, name: str, text: str, phrase: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    (found,) = findings(path)
    assert phrase in found
