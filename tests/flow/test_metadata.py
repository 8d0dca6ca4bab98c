"""What data says of prompts beyond their text reaches rewards, from a recipe to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import ddrl
from tests.data.making import write_image, write_lines
from tests.flow.diffusers_jobs import RECIPE
from tests.models.families.test_sd3 import build_pipeline

REWARD = "tests.cli.rewards:Metadata"
KINDS = range(5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sd3")
    build_pipeline(root / "parts").save_pretrained(root / "model")
    return root / "model"


def line(kind: int) -> dict[str, Any]:
    asked = [{"class": "bench", "count": kind + 1}]
    return {"prompt": f"a thing of kind {kind}", "kind": kind, "bright": kind > 2, "include": asked}


def known(kind: int, **more: Any) -> str:
    return json.dumps({**{key: line(kind)[key] for key in ("kind", "bright", "include")}, **more})


def write_recipe(folder: Path, model: Path, data: Path, log: Path) -> Path:
    text = RECIPE.format(
        model=model, data=data, side=16, frames=1, folder=folder, cache=folder / "cache"
    )
    options = f'name = "{REWARD}"\noptions.log = "{log}"'
    text = text.replace('name = "ink"', options)
    path = folder / "recipe.toml"
    path.write_text(f"{text}\n[[evaluation.reward]]\n{options.replace('seen', 'heldout')}\n")
    return path


def seen(log: Path) -> set[str]:
    """The metadata that a reward has been given since this was asked for."""
    lines = set(log.read_text().splitlines())
    log.unlink()
    return lines


def test_metadata_of_prompts_reaches_training_selection_and_evaluation(
    model: Path, tmp_path: Path
) -> None:
    log = tmp_path / "seen.jsonl"
    data = write_lines(tmp_path / "prompts.jsonl", *(line(kind) for kind in KINDS))
    recipe = write_recipe(tmp_path, model, data, log)
    how = ["data.source=prompts", "data.anchor=synthetic", "data.synthetic.steps=2"]
    best = ["data.synthetic.per_prompt=4", "data.synthetic.keep=0.5", "objective.advantage=tilt"]
    trained = ddrl("train", recipe, *how, *best)
    assert trained.code == 0, trained.stderr
    in_training = seen(log)
    assert len(in_training) == 3
    evaluated = ddrl("evaluate", tmp_path / "run")
    assert evaluated.code == 0, evaluated.stderr
    in_evaluation = seen(log)
    assert in_evaluation == seen(tmp_path / "heldout.jsonl")
    assert in_training | in_evaluation == {known(kind) for kind in KINDS}


def test_metadata_of_a_list_is_that_on_which_a_captions_files_agree(
    model: Path, tmp_path: Path
) -> None:
    log, kinds = tmp_path / "seen.jsonl", [*KINDS, *KINDS]
    lines = []
    for number, kind in enumerate(kinds):
        name = write_image(tmp_path / "data" / f"{number}.png", colour=(25 * number, 0, 0)).name
        lines.append({**line(kind), "path": name, "file": number})
    write_lines(tmp_path / "data" / "list.jsonl", *lines)
    each = {known(kind, file=number) for number, kind in enumerate(kinds)}
    recipe = write_recipe(tmp_path, model, tmp_path / "data", log)
    for what in ("encoded", "reused"):
        to = f"run.folder={tmp_path / what}"
        trained = ddrl("train", recipe, "data.heldout=0.1", "run.steps=3", to)
        assert trained.code == 0, trained.stderr
        assert f"10 {what}" in trained.stderr
        found = seen(log)
        assert len(found & {known(kind) for kind in KINDS}) == 4
        assert len(found & each) == 1  # the other file of its caption is held out
        assert len(found) == 5
    audited = ddrl("reward", "audit", REWARD, "--data", tmp_path / "data", "--option", f"log={log}")
    assert audited.code == 0, audited.stderr
    assert seen(log) == each
