"""``ddrl compare``: several methods and seeds, killed in the middle, resumed, and put together."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from tests.cli.command import ddrl, finish, spawn, write_recipe

import ddrl as ddrl_package

AT = "reward.0.options.at"
COMPARISON = """
title = "Small"
recipe = "{recipe}"
folder = "{folder}"
seeds = [0]
set = [
    "reward.0.name=tests.cli.rewards:Gate",
    "reward.0.options.folder={gate}",
    "reward.0.options.at={at}",
]

[[variant]]
name = "DDRL"
beta = [1.0]

[[variant]]
name = "No regularizer"
set = ["objective.regularizer=none"]
"""


def write_comparison(folder: Path, recipe: Path, *, at: int) -> Path:
    """Two methods; the first run that reaches iteration ``at`` waits for the test."""
    path = folder / "small.toml"
    gate = folder / "gate"
    gate.mkdir(exist_ok=True)
    path.write_text(COMPARISON.format(recipe=recipe, folder=folder / "all", gate=gate, at=at))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that was killed while a run trained, and then resumed."""
    folder = tmp_path_factory.mktemp("compared")
    recipe = write_recipe(folder, tmp_path_factory)
    comparison = write_comparison(folder, recipe, at=2)
    process = spawn("compare", comparison, "--workers", "1")
    try:
        gate = folder / "gate"
        while not (gate / "reached").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        child = int((folder / "all/ddrl-beta-1-seed0/lock").read_text().split()[1])
    finally:
        process.kill()
        process.communicate()
    (gate / "go").touch()
    wait_for_end(child)
    assert list((folder / "all/ddrl-beta-1-seed0/checkpoints").glob("step-*")), "it has saved"
    result = ddrl("compare", comparison, "--workers", "2")
    assert result.code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(folder / "all/comparison.html")
    (folder / "stderr").write_text(result.stderr)
    return folder


def wait_for_end(child: int) -> None:
    """Linux asks a run to save and end when the process that started it has ended."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.kill(child, 0)
            stat = Path(f"/proc/{child}/stat").read_text()
        except (ProcessLookupError, FileNotFoundError):
            return
        if stat.rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("a run outlives the comparison that started it")


def test_numbers_of_all_methods(finished: Path) -> None:
    numbers = json.loads((finished / "all/comparison.json").read_text())
    assert [cell["label"] for cell in numbers["cells"]] == ["DDRL, beta 1", "No regularizer"]
    for cell in numbers["cells"]:
        assert cell["seeds"] == [0]
        report = (
            finished / f"all/{cell['label'].lower().replace(', ', '-').replace(' ', '-')}-seed0"
        )
        audit = json.loads((report / "audit/report.json").read_text())
        name = next(key for key in audit["runs"] if key != "base")
        expected = audit["runs"][name]["reward"]
        assert cell["figures"]["reward"]["per_seed"] == [pytest.approx(expected)]
        for measure, found in audit["runs"][name]["measures"].items():
            assert cell["figures"][measure]["per_seed"] == [pytest.approx(found["value"])]
        assert (report / f"audit/samples/{report.name}.png").exists()
    assert "<h1>Small</h1>" in (finished / "all/comparison.html").read_text()


def test_where_the_numbers_come_from(finished: Path) -> None:
    made = json.loads((finished / "all/comparison.json").read_text())["provenance"]
    run = json.loads((finished / "all/no-regularizer-seed0/run.json").read_text())
    assert made["trained_at"] == [run["commit"]]
    assert made["audited_at"] == [run["commit"]]
    assert made["sources"] == [run["sources"]]
    assert made["files"].keys() == {"small.toml", "recipe.toml"}
    assert made["seeds"] == [0]
    commit = run["commit"] or "unknown"
    assert f"commit {commit}" in (finished / "all/comparison.html").read_text()


def test_again_runs_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("all/*/checkpoints/*/*")}
    assert before
    result = ddrl("compare", finished / "small.toml")
    assert result.code == 0
    assert "2 of 2 runs are there" in result.stderr
    assert "trained" not in result.stderr
    after = {path: path.stat().st_mtime_ns for path in finished.glob("all/*/checkpoints/*/*")}
    assert after == before


def test_the_same_as_a_call(finished: Path) -> None:
    report = ddrl_package.compare([finished / "small.toml"])
    assert report.variants == ("DDRL", "No regularizer")
    numbers = json.loads((finished / "all/comparison.json").read_text())
    assert (
        report.cells[0].mean("reward").value == numbers["cells"][0]["figures"]["reward"]["mean"][0]
    )


def test_a_call_that_is_to_stop_reports_what_is_there(finished: Path) -> None:
    report = ddrl_package.compare(
        [finished / "small.toml"], seeds=[0, 7], should_stop=lambda: True, workers=1
    )
    assert [cell.seeds for cell in report.cells] == [(0,), (0,)]
    assert [cell.failed for cell in report.cells] == [("missing",), ("missing",)]


def test_dry_run_lists_the_runs(finished: Path) -> None:
    result = ddrl("compare", finished / "small.toml", "--dry-run", "--seeds", "0,7")
    assert result.code == 0
    states = [line.split()[0] for line in result.stdout.splitlines()]
    assert states == ["done", "missing", "done", "missing"]


def test_a_run_that_fails_does_not_stop_the_others(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    path = write_comparison(tmp_path, recipe, at=99)
    nowhere = tmp_path / "nowhere"
    broken = f'"objective.regularizer=none", "{AT}=1", "reward.0.options.folder={nowhere}"'
    path.write_text(path.read_text().replace('"objective.regularizer=none"', broken))
    result = ddrl("compare", path, "--workers", "2")
    assert result.code == 4  # that of the run that failed
    assert "1 of 2 runs failed; the first, No regularizer with seed 0" in result.stderr
    numbers = json.loads((tmp_path / "all/comparison.json").read_text())
    assert numbers["cells"][0]["figures"]["reward"]["per_seed"][0] is not None
    assert len(numbers["cells"][1]["failed"]) == 1


def test_ctrl_c_saves_and_says_how_to_go_on(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    path = write_comparison(tmp_path, recipe, at=2)
    process = spawn("compare", path, "--workers", "1")
    try:
        while not (tmp_path / "gate/reached").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        (tmp_path / "gate/go").touch()
        result = finish(process)
    finally:
        process.kill()
    assert result.code == 130, result.stderr
    assert "Stopped; 0 of 2 runs are finished." in result.stderr
    assert f"Resume with: ddrl compare {path}" in result.stderr
    assert list((tmp_path / "all/ddrl-beta-1-seed0/checkpoints").glob("step-*"))


def test_a_misspelt_option_is_found_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text('recipe = "x.toml"\n[[variants]]\nname = "DDRL"\n')
    result = ddrl("compare", path)
    assert result.code == 2
    assert "error:" in result.stderr


def test_a_folder_that_is_relative_is_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in every comparison that comes with ddrl."""
    monkeypatch.chdir(finished)
    text = (finished / "small.toml").read_text()
    relative = text.replace(f'folder = "{finished}/all"', 'folder = "all"')
    assert relative != text
    (tmp_path / "relative.toml").write_text(relative)
    result = ddrl("compare", tmp_path / "relative.toml")
    assert result.code == 0, result.stderr
    assert "2 of 2 runs are there" in result.stderr
    assert "trained" not in result.stderr
