"""``ddrl export`` of the embedded model: what stays beside it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tests.cli.command import contents, ddrl
from tests.cli.test_export import exported

from ddrl.models.tiny.model import TinyModel
from ddrl.runs.loaded import load_run


def report(step: int) -> str:
    verdict = {"status": "hacked", "sentence": "The reward was hacked."}
    return json.dumps({"runs": {"run": {"verdict": verdict, "num_steps": step}}})


def test_the_card_has_the_verdict(trained: Path) -> None:
    (trained / "evaluation").mkdir()
    audit = trained / "evaluation" / "report.json"
    for step, phrase in (
        (4, "## Audit\n\nThe reward was hacked.\n"),
        (2, "Of step 2, which is not the step of these weights: The reward was hacked.\n"),
    ):
        audit.write_text(report(step))
        assert phrase in (exported(trained, trained / "export") / "README.md").read_text()


def test_the_embedded_model(finished: Path, tmp_path: Path) -> None:
    out = exported(finished, tmp_path / "out")
    run = load_run(finished)
    loaded = TinyModel.load(out).transformer.state_dict()
    assert all(torch.equal(v, loaded[n]) for n, v in run.model.transformer.state_dict().items())
    assert "TinyModel.load" in (out / "README.md").read_text()


def test_an_earlier_export_is_replaced_and_nothing_else(finished: Path, tmp_path: Path) -> None:
    out = exported(finished, tmp_path / "out")
    first = contents(out)
    (out / "mine.txt").write_text("mine")
    outside = tmp_path / "outside.txt"
    outside.touch()
    manifest = json.loads((out / "export.json").read_text())
    (out / "old").mkdir()
    (out / "old" / "stale.bin").touch()
    manifest["files"] += ["old/stale.bin", "../outside.txt"]
    (out / "export.json").write_text(json.dumps(manifest))
    exported(finished, out)
    assert {**first, "mine.txt": contents(out)["mine.txt"]} == contents(out)
    assert outside.exists()
    assert not (out / "old").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "outside.txt"]


def refused(code: int, arguments: Sequence[str | Path], *phrases: str) -> None:
    ddrl("export", *arguments).failed(code, *phrases)


def test_what_can_not_be_exported(finished: Path, recipe: Path) -> None:
    here = recipe.parent
    refused(2, [here / "nowhere"], f"{here / 'nowhere'} is not the folder of a run", "ddrl train")
    empty = here / "empty"
    empty.mkdir()
    (empty / "recipe.toml").write_text(recipe.read_text())
    refused(5, [empty], "has no checkpoint yet")
    assert [path.name for path in empty.iterdir()] == ["recipe.toml"]
    refused(5, [finished, "--out", here / "out", "--step", "3"], "no checkpoint of step 3")
    refused(2, [finished, "--out", empty], f"{empty} is in use", "--out FOLDER")
    refused(2, [finished, "--out", recipe], f"{recipe} is in use")
    refused(2, [finished, "--out", recipe / "out"], "can't be written")
    assert not (here / "out").exists()
