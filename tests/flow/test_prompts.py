"""Models of diffusers on prompts alone: anchors and held-out data are samples of the base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.cli.command import ddrl, metrics_of
from tests.flow.diffusers_jobs import RECIPE, weights
from tests.flow.test_stop_and_resume import assert_same
from tests.models.families.test_sd3 import build_pipeline
from tests.models.families.wan import wan_parts

from ddrl.builders import pretrained
from ddrl.builders.data.prompts import prompts_corpus
from ddrl.builders.tasks.table import task_of
from ddrl.data.layouts.files import find_samples, usable
from ddrl.models.families.sd3 import SD3
from ddrl.recipe import load_recipe
from ddrl.runs.loaded import load_run

PROMPTS = [f"a thing of kind {index}" for index in range(5)]
MORE = """
[data.synthetic]
per_prompt = 2
steps = 2
"""


def write_recipe(folder: Path, model: Path, *, side: int = 16, frames: int = 1) -> Path:
    """The recipe of a run on 5 prompts, of which 2 are held out."""
    folder.mkdir(exist_ok=True)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    text = RECIPE.format(
        model=model,
        data=folder / "prompts.txt",
        side=side,
        frames=frames,
        folder=folder,
        cache=folder / "cache",
    )
    text = text.replace('source = "files"', 'source = "prompts"\nanchor = "synthetic"')
    path = folder / "recipe.toml"
    path.write_text(text.replace("[[reward]]", f"{MORE}\n[[reward]]"))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sd3")
    build_pipeline(root / "parts").save_pretrained(root / "model")
    return root / "model"


@pytest.fixture(scope="module")
def straight(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four steps."""
    folder = tmp_path_factory.mktemp("straight")
    result = ddrl("train", write_recipe(folder, model), "run.steps=4")
    assert result.code == 0, result.stderr
    assert "samples of the base 4/4" in result.stderr  # held out
    assert "samples of the base 6/6" in result.stderr
    return folder / "run"


def test_it_trains_and_drift_is_measured(straight: Path) -> None:
    lines = metrics_of(straight)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["data_loss"] > 0 for line in lines)
    assert lines[3]["heldout_loss_change"] != 0


def test_a_resumed_run_ends_as_the_straight_one(
    model: Path, straight: Path, tmp_path: Path
) -> None:
    """Also where the cache is lost: the anchors are drawn again, from the base."""
    recipe = write_recipe(tmp_path, model)
    assert ddrl("train", recipe, "run.steps=2").code == 0
    shutil.rmtree(tmp_path / "cache")
    resumed = ddrl("train", recipe, "run.steps=4")
    assert resumed.code == 0, resumed.stderr
    assert "resuming after step 2" in resumed.stderr
    assert_same(tmp_path / "run", straight)


@pytest.fixture
def copy(straight: Path, tmp_path: Path) -> Path:
    """The run, without the samples that were made for it."""
    shutil.copytree(straight, tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.toml"
    cache = str(straight.parent / "cache")
    recipe.write_text(recipe.read_text().replace(cache, str(tmp_path / "cache")))
    return tmp_path / "run"


def test_samples_are_compared_with_the_base_and_called_so(straight: Path, copy: Path) -> None:
    for run in (straight, copy):
        result = ddrl("evaluate", run)
        assert result.code == 0, result.stderr
        assert "real data" not in result.stdout
        page = (run / "evaluation" / "report.html").read_text()
        assert "real data" not in page.lower()
        assert "Samples of the base" in page
    reports = [
        json.loads((run / "evaluation" / "report.json").read_text()) for run in (straight, copy)
    ]
    assert reports[0]["has_real"] is False
    assert reports[0]["real_frechet"] is None
    assert "4 samples of the base model" in reports[0]["environment"]["Held-out data"]
    assert reports[0]["runs"]["run"]["method"].startswith("Reward (ink) and samples of the base")
    # The copy's held-out data were made by a process that had trained weights loaded.
    for name in ("reward", "frechet", "heldout_loss_change"):
        one, other = (report["runs"]["run"][name] for report in reports)
        assert one == pytest.approx(other, abs=1e-5), name


def test_samples_and_export(copy: Path, tmp_path: Path) -> None:
    result = ddrl("sample", copy, "--num", "1", "--out", tmp_path / "samples")
    assert result.code == 0, result.stderr
    manifest = json.loads((tmp_path / "samples" / "manifest.json").read_text())
    assert len(manifest["prompts"]) == 3
    assert set(manifest["prompts"]) < set(PROMPTS)
    export = ddrl("export", copy, "--out", tmp_path / "export")
    assert export.code == 0, export.stderr
    assert "samples of the base" in (tmp_path / "export" / "README.md").read_text()


def test_without_a_data_term_no_anchor_is_made(model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, model)
    result = ddrl("train", recipe, "objective.regularizer=none", "data.anchor=paired")
    assert result.code == 0, result.stderr
    assert "samples of the base 6/6" not in result.stderr
    assert "data_loss" not in metrics_of(tmp_path / "run")[0]
    assert any(bool(value.any()) for value in weights(tmp_path / "run", 2).values())


BAD = [
    ("data.path={folder}/none.txt", "", 3, ["none.txt can't be read", "set data.path"]),
    ("run.steps=2", "\n \n", 3, ["There is no prompt in", "prompts.txt"]),
    ("run.steps=2", "one\ncaf\udce9\n", 3, ["prompts.txt:2: is not UTF-8", "data.on_broken"]),
    ("data.anchor=paired", "one\ntwo", 2, ["data.source prompts has no media", '"synthetic"']),
    ("data.anchor=mixed", "one\ntwo", 2, ["data.source prompts has no media", '"files"']),
]


@pytest.mark.parametrize("dry", [True, False], ids=["dry", "train"])
@pytest.mark.parametrize(("override", "content", "code", "phrases"), BAD)
def test_bad_prompts_are_told_before_the_model_is_loaded(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    override: str,
    content: str,
    code: int,
    phrases: list[str],
    dry: bool,
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(pretrained, "load_model", load)
    recipe = write_recipe(tmp_path, model)
    (tmp_path / "prompts.txt").write_bytes(content.encode("utf-8", "surrogateescape"))
    more = ["--dry-run"] if dry else []
    result = ddrl("train", recipe, override.format(folder=tmp_path), *more)
    if dry and "none.txt" in override:  # a plan may come before its data
        assert (result.code, "not here yet: there is no data at" in result.stderr) == (0, True)
    else:
        result.failed(code, *phrases)


def test_held_out_samples_are_neither_selected_nor_as_many_as_the_run_is_long(
    model: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, model)
    best = ["data.synthetic.per_prompt=4", "data.synthetic.keep=0.5"]
    trained = ddrl("train", recipe, *best)
    assert trained.code == 0, trained.stderr
    assert "samples of the base 8/8" in trained.stderr  # of 2 held-out prompts
    assert "samples of the base 12/12" in trained.stderr  # of 3 others
    assert "the best 6 of 12 synthetic samples are kept" in trained.stderr
    heldout = load_run(tmp_path / "run", weights="base").corpus.heldout
    assert heldout.caption_id.tolist() == [0] * 4 + [1] * 4
    base = task_of(load_recipe(recipe, [])).model(torch.device("cpu"))
    assert isinstance(base, SD3)
    for steps in (2, 300):
        auto = load_recipe(recipe, ["data.synthetic.per_prompt=0", f"run.steps={steps}"])
        assert len(prompts_corpus(auto, base).heldout.x0) == 16


def test_one_prompt_is_too_few(model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, model)
    (tmp_path / "prompts.txt").write_text("one\none\n")
    result = ddrl("train", recipe)
    assert "1 of 1 prompts are in" in result.stderr
    result.failed(3, "There is 1 usable sample")


def test_encode_has_nothing_to_do(model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, model)
    ddrl("data", "encode", recipe).failed(2, "has no media", "ddrl data synthesize")


def test_anchors_of_clips_can_be_read_back_as_data(tmp_path: Path) -> None:
    pipeline = wan_parts.text_pipeline()
    pipeline.save_pretrained(tmp_path / "model")
    recipe = write_recipe(tmp_path, tmp_path / "model", frames=5)
    out = tmp_path / "out"
    result = ddrl("data", "synthesize", recipe, "--out", out)
    assert result.code == 0, result.stderr
    assert "prompts  3" in result.stdout
    assert "samples  6 made, 0 reused" in result.stdout
    samples = usable(find_samples(out), on_broken="stop")
    assert len(samples) == 6
    assert {sample.name.rpartition(".")[2] for sample in samples} == {"mp4"}
    files = ["data.source=files", f"data.path={out}", "data.anchor=paired"]
    trained = ddrl("train", recipe, *files)
    assert trained.code == 0, trained.stderr
    assert "media 6 encoded" in trained.stderr
    again = ddrl("data", "synthesize", recipe, "--out", out)
    assert "samples  0 made, 6 reused" in again.stdout
    mixed = ["data.source=files", f"data.path={out}", "data.anchor=mixed"]
    mixed.append(f"run.folder={tmp_path / 'mixed'}")
    assert ddrl("train", recipe, *mixed).code == 0
    first = weights(tmp_path / "mixed", 2)
    assert any(not torch.equal(first[n], w) for n, w in weights(tmp_path / "run", 2).items())
