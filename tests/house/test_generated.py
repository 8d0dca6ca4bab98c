"""What is generated is not out of date, and the example does what it says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_pages(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "docs/generate.py", "--check", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_generated_pages_are_what_the_code_says() -> None:
    done = check_pages("--allow-dirty")
    assert done.returncode == 0, done.stderr


def test_the_results_behind_the_pages_can_be_published() -> None:
    done = check_pages()
    assert done.returncode == 0, done.stderr


def test_the_library_example_raises_its_reward(capsys: pytest.CaptureFixture[str]) -> None:
    example = _load(ROOT / "examples" / "library_use.py")
    first, last = example.main(num_pretrain=150, num_iterations=8)
    assert last > first
    assert "iteration  8" in capsys.readouterr().out


def test_the_library_example_is_short() -> None:
    source = (ROOT / "examples" / "library_use.py").read_text(encoding="utf-8")
    loop = source.partition("kernel = ")[2].partition("return")[0]
    assert len(loop.splitlines()) <= 40
