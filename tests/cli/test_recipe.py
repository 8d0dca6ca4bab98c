"""``ddrl recipe``, and recipes by name: in a checkout and in a wheel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from tests.cli.command import ROOT, ddrl

from ddrl.recipe import load_recipe
from ddrl.recipe.reading.shipped import shipped

FILES = sorted((ROOT / "recipes").rglob("*.toml"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_every_recipe_says_what_it_is_and_what_it_runs_on() -> None:
    assert [one.path for one in sorted(shipped(), key=lambda one: str(one.path))] == FILES
    for one in shipped():
        assert one.line, one.name
        assert one.hardware, one.name
        assert one.name in {one.path.stem, f"compare/{one.path.stem}"}


def test_the_list(here: Path) -> None:
    result = ddrl("recipe", "list")
    assert result.code == 0
    assert re.search(r"^digits +DDRL on real scanned digits +a CPU *$", result.stdout, re.MULTILINE)
    rows = json.loads(ddrl("recipe", "list", "--json").stdout)["recipes"]
    assert [(row["name"], row["command"]) for row in rows if "words" in row["name"]] == [
        ("words", "train"),
        ("words_gpu", "train"),
        ("compare/words", "compare"),
    ]


@pytest.mark.parametrize("name", [one.name for one in shipped()])
def test_a_copy_runs_as_it_says(here: Path, name: str) -> None:
    """What it says to type next works, and the text names no file of the repository's."""
    result = ddrl("recipe", "copy", name)
    assert result.code == 0
    (file,) = here.iterdir()
    command = result.stdout.splitlines()[-1].split()
    assert command == ["ddrl", "compare" if "/" in name else "train", file.name]
    text = file.read_text(encoding="utf-8")
    if command[1] == "train":
        assert load_recipe(file) == load_recipe(name)
        assert f"ddrl train recipes/{name}.toml" not in text
    else:
        planned = ddrl("compare", file, "--dry-run")
        assert planned.code == 0, planned.stderr
        assert planned.stdout == ddrl("compare", name.removeprefix("compare/"), "--dry-run").stdout


def test_a_copy_overwrites_nothing_unasked(here: Path) -> None:
    (here / "mine.toml").write_text("mine")
    copy = ("recipe", "copy", "digits")
    ddrl(*copy, "--to", "mine.toml").failed(2, "mine.toml is there already", "--force")
    assert (here / "mine.toml").read_text() == "mine"
    assert ddrl(*copy, "--to", "mine.toml", "--force").code == 0
    assert ddrl(*copy, "--to", "a new/folder/mine.toml").code == 0
    assert "ddrl train 'a new/folder/mine.toml'" in (here / "a new/folder/mine.toml").read_text()
    ddrl(*copy, "--to", "mine.toml/inner.toml").failed(2, "can't be written", "--to FILE")
    (here / "folder").mkdir()
    assert ddrl(*copy, "--to", "folder").code == 0
    assert (here / "folder" / "digits.toml").exists()


def test_a_file_of_the_name_comes_first_and_it_is_said(here: Path) -> None:
    digits = next(one.path for one in shipped() if one.name == "digits").read_text()
    assert "beta" not in (plain := ddrl("train", "digits", "--dry-run")).stderr
    assert plain.code == 0
    (here / "digits.toml").write_text(digits.replace("group_size = 16", "group_size = 4"))
    mine = ddrl("train", "digits", "--dry-run")
    assert "10 prompts x 4 = 40 samples" in mine.stdout, digits
    assert "digits is taken from the file digits.toml, not from the recipes of ddrl" in mine.stderr
    (here / "digits.toml").rename("other.toml")
    (here / "digits").mkdir()  # a folder of data, say, is no recipe
    assert ddrl("train", "digits", "--dry-run").stdout == plain.stdout
    other = ddrl("train", "other", "--dry-run")
    assert other.stdout == mine.stdout
    assert "taken from" not in other.stderr


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (("train", "digts"), "did you mean digits? `ddrl recipe list`"),
        (("train", "recipes/digits.toml"), "did you mean digits?"),
        (("compare", "recipes/compare/words.toml"), "did you mean compare/words?"),
        (("compare", "wrods"), "did you mean words?"),
        (("recipe", "copy", "compare/digit"), "did you mean compare/digits?"),
        (("data", "encode", "nothing-like-it"), "hint: `ddrl recipe list` names the recipes"),
    ],
)
def test_an_unknown_name_is_told_near_ones(here: Path, command: tuple[str, ...], hint: str) -> None:
    ddrl(*command).failed(2, hint)


def test_a_comparison_is_not_trained(here: Path) -> None:
    ddrl("train", "compare/digits").failed(2, "ddrl compare")


def test_a_wheel_has_the_recipes(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    empty.mkdir()

    def run(*arguments: str) -> str:
        command = [sys.executable, "-P", "-m", "ddrl", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, check=True)
        return done.stdout.decode()

    rows = json.loads(run("recipe", "list", "--json"))["recipes"]
    assert [row["name"] for row in rows] == [one.name for one in shipped()]
    assert {Path(row["path"]).is_relative_to(site) for row in rows} == {True}
    run("recipe", "copy", "compare/digits")
    copied = tomllib.loads((empty / "compare-digits.toml").read_text(encoding="utf-8"))
    assert copied["recipe"] == "digits"
