"""What a release consists of: the wheel, the sdist, and what they say of themselves."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from tests.house.test_results import ROOT, git, has_history

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = f"ddrl-{PROJECT['version']}"
OF_A_WHEEL = (".py", ".css", ".j2", ".js", ".json", ".toml", ".html", "py.typed")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_wheel_is_the_package_and_its_recipes(built: Path) -> None:
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        names = {name for name in wheel.namelist() if not name.startswith(f"{NAME}.dist-info/")}
        metadata = email.message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))
        licence = wheel.read(f"{NAME}.dist-info/licenses/LICENSE")
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    recipes = {f"ddrl/{path.relative_to(ROOT)}" for path in (ROOT / "recipes").rglob("*.toml")}
    assert names == source | recipes
    assert all(name.endswith(OF_A_WHEEL) for name in names)
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    extras = set(metadata.get_all("Provides-Extra", []))
    assert extras == set(PROJECT["optional-dependencies"])


def test_the_sdist_is_the_repository(built: Path) -> None:
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    needed = {"pyproject.toml", "constraints.txt", "Makefile", "CITATION.cff", "SECURITY.md"}
    assert needed | {"README.md", "LICENSE", "CHANGELOG.md", "src/ddrl/py.typed"} <= names
    assert not [name for name in names if name.startswith(("runs/", "site/", ".venv/", "dist/"))]
    if has_history():
        listed = (git("ls-files") or b"").decode().splitlines()
        here = {name for name in listed if (ROOT / name).exists()}
        assert here - names == set()


def test_citation_and_workflow_are_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(PROJECT['version'])}$", citation, re.MULTILINE)
    assert f"license: {PROJECT['license']}" in citation
    assert "arXiv:2512.04332" in citation
    workflow = (ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8")
    assert "run: .ci/run" in workflow
    for classifier in PROJECT["classifiers"]:
        name, _, number = classifier.rpartition(" :: ")
        if name == "Programming Language :: Python":
            assert f'"{number}"' in workflow
