"""No input ends in exit code 1: thousands of accidents, each made again from its number."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FrameType

import pytest
from tests.cli.command import Result, ddrl, shared_cache, write_recipe
from tests.fuzz.cases import KINDS, Start
from tests.models.families.test_sd3 import build_pipeline

CODES = {0, 2, 3, 4, 5, 6}
SECONDS = 60
NUMBERS = {
    "recipe": 110,
    "overrides": 130,
    "arguments": 60,
    "data": 90,
    "checkpoint": 40,
    "pipeline": 25,
    "comparison": 35,
    "prompts": 10,
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """A run and a pipeline that are whole."""
    root = tmp_path_factory.mktemp("whole")
    path = write_recipe(root, tmp_path_factory)
    assert ddrl("train", path, "evaluation.panel=inline").code == 0
    build_pipeline(root / "parts").save_pretrained(root / "model")
    return Start(root / "run", root / "model", shared_cache(tmp_path_factory))


@contextlib.contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise where a command hangs."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no answer in {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fault(result: Result) -> str:
    """What is wrong with how a command ended, or nothing."""
    said = result.stderr
    if result.code not in CODES:
        return f"exit code {result.code}"
    if "Traceback" in said or "sorry" in said:
        return "a traceback"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", said.replace("\r", "")):
        return "control characters"
    if result.code and not result.stdout:
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        if len(errors) != 1:
            return f"{len(errors)} errors"
        if "hint: " not in said and "must be" not in said:
            return "no hint"
    return ""


def run(kind: str, number: int, folder: Path, start: Start) -> str:
    """Run a case; return what is wrong, with all that is needed to see it again."""
    folder.mkdir()
    command = KINDS[kind](Random(f"{kind} {number}"), folder, start)
    try:
        with contextlib.chdir(folder), limit(SECONDS):
            result = ddrl(*command)
    except AssertionError as error:
        return f"{kind} {number}: {error}: {command}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = fault(result)
    return found and f"{kind} {number}: {found}: {command}\n{result.stderr[-3000:]}"


@pytest.mark.parametrize(
    ("kind", "number"),
    [("arguments", 210), ("arguments", 421), ("pipeline", 56), ("pipeline", 113)],
)
def test_what_the_thousands_found(kind: str, number: int, start: Start, tmp_path: Path) -> None:
    assert not run(kind, number, tmp_path / "case", start)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", KINDS)
def test_every_accident_is_named(kind: str, start: Start, tmp_path: Path) -> None:
    cases = (run(kind, n, tmp_path / str(n), start) for n in range(NUMBERS[kind]))
    wrong = [case for case in cases if case]
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_accidents_are_named(kind: str, start: Start, tmp_path: Path) -> None:
    """Ten times as many; `-k "thousands and data"` runs those of a kind."""
    numbers = range(NUMBERS[kind], 10 * NUMBERS[kind])
    wrong = [case for n in numbers if (case := run(kind, n, tmp_path / str(n), start))]
    assert not wrong, "\n\n".join(wrong)
