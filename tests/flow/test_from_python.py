"""What the commands do, called from Python: the same runs, and the same figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.cli.command import ddrl, write_recipe

import ddrl as library
from ddrl.disk import read_json


@pytest.fixture(autouse=True)
def _same_threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _metrics(folder: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


def test_a_run_stops_resumes_and_is_evaluated_as_the_commands_do(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    assert ddrl("train", recipe).code == 0
    commanded = ddrl("evaluate", tmp_path / "run")
    assert commanded.code == 0, commanded.stderr

    mine = tmp_path / "mine"
    overrides = [f"run.folder={mine}"]
    asked = iter([False, True])
    stopped = library.train(recipe, overrides, should_stop=lambda: next(asked))
    assert (stopped.step, stopped.steps, stopped.finished) == (2, 4, False)
    done = library.train(str(recipe), overrides)
    assert (done.folder, done.step, done.finished, done.was_finished) == (mine, 4, True, False)
    assert _metrics(mine) == _metrics(tmp_path / "run")
    rewards = [row["reward"] for row in _metrics(mine) if "reward" in row]
    assert done.reward == (rewards[0], rewards[-1])
    assert library.train(library.load_recipe(mine / "recipe.toml")).was_finished

    report = library.evaluate([mine])
    theirs = read_json(tmp_path / "run" / "evaluation" / "report.json")["runs"]["run"]
    assert report.runs[1].reward.value == pytest.approx(theirs["reward"], abs=0)
    assert report.runs[1].drift.value == pytest.approx(theirs["heldout_loss_change"], abs=0)
    assert report.verdicts()["mine"].status == theirs["verdict"]["status"]
    assert (mine / "evaluation" / "report.html").is_file()


def test_settings_of_the_process_are_the_recipe_s_meanwhile(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def settings() -> tuple[int, str]:
        return torch.get_num_threads(), torch.get_float32_matmul_precision()

    def should_stop() -> bool:
        seen.append(settings())
        return True

    seen: list[tuple[int, str]] = []
    before = settings()
    overrides = ["run.threads=2", "run.float32_matmul=high", "run.checkpoint_every=1"]
    library.train(write_recipe(tmp_path, tmp_path_factory), overrides, should_stop=should_stop)
    assert before != (2, "high")
    assert set(seen) == {(2, "high")}
    assert settings() == before
    library.evaluate([tmp_path / "run"])
    assert settings() == before


def test_what_can_not_be_called(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe = library.load_recipe(write_recipe(tmp_path, tmp_path_factory))
    with pytest.raises(library.DDRLError, match="Overrides are for a recipe that is read"):
        library.train(recipe, ["run.steps=1"])
    with pytest.raises(library.DDRLError, match="There is no run to evaluate"):
        library.evaluate([])
    with pytest.raises(library.DDRLError, match="is not the folder of a run"):
        library.evaluate([tmp_path / "none"])
