"""README is short, and its table of what runs where follows results and code."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType

import diffusers
import pytest

from ddrl.models.families.registry import FAMILIES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def where() -> ModuleType:
    """The script that makes the table."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return importlib.import_module("where")
    finally:
        sys.path.remove(str(ROOT / "docs"))


@pytest.fixture
def copied(where: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of results that the table is made from: those of the digits."""
    for name in ("digits", "compare_digits"):
        text = (where.RESULTS / f"{name}.json").read_text(encoding="utf-8")
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    read = sys.modules["results"].read_result.__wrapped__
    monkeypatch.setattr(where, "RESULTS", tmp_path)
    monkeypatch.setattr(where, "read_result", lambda name: read(name, tmp_path))
    return tmp_path


def table(where: ModuleType) -> str:
    return str(sys.modules["results"].plain(where.where_block("")))


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 110


def test_every_family_has_its_place(where: ModuleType) -> None:
    """By what the pipelines take: clips have frames, edits have a source image."""
    placed = {
        kind: {one for names in rows.values() for one in names}
        for kind, rows in where.KINDS.items()
    }
    assert set().union(*placed.values()) == set(FAMILIES)
    for kind, names in placed.items():
        for name in names:
            takes = inspect.signature(getattr(diffusers, name).__call__).parameters
            assert ("num_frames" in takes) == (kind == "Clips"), name
            assert kind != "Edits" or "image" in takes, name


def test_a_task_without_a_result_is_not_run(where: ModuleType, copied: Path) -> None:
    rows = {line.split(" | ")[0]: line for line in table(where).splitlines() if line[:2] == "| "}
    assert (
        "[measured](docs/evidence.md#digits-methods-of-one-base), three seeds"
        in (rows["| Scanned digits (tiny network)"])
    )
    assert rows["| Words, read by an OCR engine"] == "| Words, read by an OCR engine | | not run |"
    assert rows["| Released weights of any of these"].endswith("| GPU | not run |")
    assert "One small task is measured" in table(where)


def test_hardware_is_that_of_the_result(where: ModuleType, copied: Path) -> None:
    path = copied / "digits.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    result["provenance"]["hardware"] = "A Processor, 8 cores, 1 thread, NVIDIA H100"
    path.write_text(json.dumps(result), encoding="utf-8")
    (row,) = [line for line in table(where).splitlines() if line.startswith("| Scanned digits")]
    assert "A, 8 cores, NVIDIA H100" in row
    assert "Nothing has been run on released weights yet." in table(where)


def test_a_run_of_a_large_model_becomes_a_row(where: ModuleType, copied: Path) -> None:
    origin = {"hardware": "A, NVIDIA H100", "command": "ddrl train recipes/wan21_1b.toml"}
    (copied / "wan.json").write_text(json.dumps({"provenance": origin}), encoding="utf-8")
    text = table(where)
    assert "| `recipes/wan21_1b.toml` | A, NVIDIA H100 | [measured](docs/evidence.md) |" in text
    assert "not run" not in text.partition("recipes/wan21_1b.toml")[2]
    assert "Nothing has been run" not in text


def test_a_family_without_tests_stops_the_generator(
    where: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(where, "TESTS", tmp_path)
    with pytest.raises(sys.modules["results"].StaleError, match="tested on tiny random weights"):
        table(where)
