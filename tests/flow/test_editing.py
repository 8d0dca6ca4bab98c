"""Image editing through a recipe and the command line, on a tiny FLUX.1 Kontext pipeline."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from tests.cli.command import ddrl, metrics_of
from tests.data.making import write_image
from tests.flow.diffusers_jobs import Job, image_size, weights
from tests.models.families import test_flux, test_flux2_klein

from ddrl.models.families.flux import FluxCondition
from ddrl.recipe import load_recipe
from ddrl.runs.first_frames import encode_prompts, read_first_frames
from ddrl.runs.loaded import load_run

EDITS = "data.source_images=1"


def colour(index: int) -> tuple[int, int, int]:
    return (20 * index, 120, 250 - 20 * index)


def write_edits(root: Path, *, column: str = "before", name: str = "edits.csv") -> Path:
    """Triples of 8 sources, 6 instructions and 8 results, in a table."""
    rows = []
    for index in range(8):
        write_image(root / "before" / f"{index}.png", width=48, height=32, colour=colour(index))
        write_image(root / "after" / f"{index}.png", width=32, height=32, colour=colour(7 - index))
        row = {column: f"before/{index}.png", "edited": f"after/{index}.png"}
        rows.append({**row, "instruction": f"make it of kind {index % 6}"})
    with (root / name).open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return root / name


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("kontext")
    test_flux.build_kontext(root / "parts").save_pretrained(root / "model")
    write_edits(root / "data")
    return Job(root, side=16, frames=1)


@pytest.fixture(scope="module")
def run(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checked, encoded, planned, and trained from what was encoded."""
    folder = tmp_path_factory.mktemp("run")
    checked = ddrl("data", "check", job.root / "data" / "edits.csv", "--source-column", "auto")
    assert checked.code == 0, checked.stdout
    assert "8 images" in checked.stdout
    planned = ddrl("train", job.recipe(folder), EDITS, "--dry-run")
    assert planned.code == 0, planned.stderr
    encoded = ddrl("data", "encode", job.recipe(folder), EDITS)
    assert encoded.code == 0, encoded.stderr
    assert "given    8 encoded, 0 reused" in encoded.stdout
    result = job.train(folder, EDITS, "rollout.guidance=2.0")
    assert "media 0 encoded, 8 reused; given 0 encoded, 8 reused; texts 0" in result.stderr
    return folder / "run"


def test_it_learns(run: Path) -> None:
    lines = metrics_of(run)
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[-1]["heldout_loss_change"] != 0
    assert any(bool(value.any()) for name, value in weights(run, 2).items() if "lora_B" in name)


def test_each_prompt_has_its_own_source(run: Path, job: Job) -> None:
    loaded = load_run(run)
    parts = (loaded.corpus.train, loaded.corpus.heldout)
    assert sum(len(part.captions) for part in parts) == 8  # of 6 instructions
    for part in parts:
        condition = part.condition[: len(part.captions)]
        assert isinstance(condition, FluxCondition)
        assert condition.given is not None
        named = {f"make it of kind {index % 6}": index for index in range(6)}
        for row, text in enumerate(part.captions):
            index = named[text]
            files = [job.root / "data" / "before" / f"{one}.png" for one in (index, index + 6)]
            seen = [read_first_frames(loaded.recipe, [file]) for file in files if file.is_file()]
            own = [encode_prompts(loaded, [text], pixels) for pixels in seen]
            same = [
                isinstance(one, FluxCondition)
                and one.given is not None
                and torch.allclose(one.given, condition.given[row : row + 1], atol=1e-5)
                for one in own
            ]
            assert sum(same) == 1


def test_sample(run: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    result = ddrl("sample", run, "--num", "1", "--out", out)  # the data's own, each with its source
    assert result.code == 0, result.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert 1 < len(manifest["prompts"]) < 8
    assert image_size(out / "grid.png") == (16, 17 * len(manifest["prompts"]) - 1)
    red = write_image(tmp_path / "red.png", width=64, height=48, colour=(250, 0, 0))
    blue = write_image(tmp_path / "blue.png", width=64, height=48, colour=(0, 0, 250))
    both: list[str | Path] = ["--prompt", "paint it", "--prompt", "paint it"]
    result = ddrl("sample", run, *both, "--source", red, "--source", blue, "--out", other)
    assert result.code == 0, result.stderr
    manifest = json.loads((other / "manifest.json").read_text())
    assert manifest["first_frames"] == [str(red), str(blue)]
    one = ("--prompt", "a")
    ddrl("sample", run, *one).failed(2, "is given a source image", "--source picture.png")
    (tmp_path / "text.png").write_text("no picture")
    named = ("--source", tmp_path / "text.png")
    ddrl("sample", run, *one, *named).failed(3, "The source image", "text.png")


def test_evaluation_and_export(run: Path, tmp_path: Path) -> None:
    result = ddrl("evaluate", run)
    assert result.code == 0, result.stderr
    report = json.loads((run / "evaluation" / "report.json").read_text())
    assert list(report["runs"]) == ["base", "run"]
    assert ddrl("export", run, "--out", tmp_path / "export").code == 0
    card = (tmp_path / "export" / "README.md").read_text()
    assert 'image=ImageOps.fit(load_image("source.png"), (16, 16))' in card
    assert "FluxKontextPipeline" in card


@pytest.mark.parametrize(
    ("overrides", "code", "phrases"),
    [
        ((), 3, ["FluxKontext needs source images", "set data.source_images = 1"]),
        (("data.source_column=before",), 2, ["no source image would be read", "source_images = 1"]),
        ((EDITS, "data.frames=5"), 2, ["data.frames is 5", "set data.frames = 1"]),
        ((EDITS, "data.given_frames=1"), 2, ["no model takes both", "set one of them to 0"]),
        (
            (EDITS, "data.source_column=beside"),
            3,
            ["has no column 'beside'; it has before, edited, instruction", "name one of these"],
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_encoded(
    job: Job, tmp_path: Path, overrides: tuple[str, ...], code: int, phrases: list[str]
) -> None:
    cache = f"run.cache={tmp_path}/cache"
    for command in (["train"], ["data", "encode"]):
        ddrl(*command, job.recipe(tmp_path), cache, *overrides).failed(code, *phrases)
    assert not (tmp_path / "cache" / "encoded" / "media").exists()


def test_no_column_of_sources(job: Job, tmp_path: Path) -> None:
    table = write_edits(tmp_path / "data", column="first_one")
    cache, path = f"run.cache={tmp_path}/cache", f"data.path={table}"
    for command in (["train"], ["data", "encode"]):
        result = ddrl(*command, job.recipe(tmp_path), cache, path, EDITS)
        result.failed(3, "has no column of source images of a usual name", "data.source_column")
    result = ddrl("data", "check", table, "--source-column", "first_one")
    assert result.code == 0, result.stdout
    own = ddrl("data", "check", job.root / "data" / "edits.csv")  # as if it had no sources
    own.failed(3, "no column of captions", "data.source_images = 1")
    encoded = ddrl(
        "data", "encode", job.recipe(tmp_path), cache, path, EDITS, "data.source_column=first_one"
    )
    assert encoded.code == 0, encoded.stderr


def test_sources_that_are_missing_or_broken(job: Job, tmp_path: Path) -> None:
    table = write_edits(tmp_path / "data")
    (tmp_path / "data" / "before" / "3.png").unlink()
    (tmp_path / "data" / "before" / "5.png").write_text("no picture")
    checked = ddrl("data", "check", table, "--source-column", "auto")
    assert checked.code == 3
    assert "names a source image 'before/3.png', which is not there" in checked.stdout
    assert "after/5.png: its source image is" in checked.stdout
    cache, path = f"run.cache={tmp_path}/cache", f"data.path={table}"
    for command in (["train"], ["data", "encode"]):
        result = ddrl(*command, job.recipe(tmp_path), cache, path, EDITS)
        result.failed(3, "source image 'before/3.png', which is not there", "data.on_broken")
    result = ddrl("data", "encode", job.recipe(tmp_path), cache, path, EDITS, "data.on_broken=skip")
    assert result.code == 0, result.stderr
    assert "given    6 encoded" in result.stdout


def test_samples_of_the_base_as_data(job: Job, tmp_path: Path) -> None:
    """Anchors that the base makes of the data's sources; as files they would have none."""
    synthetic = [EDITS, "data.anchor=synthetic", "data.synthetic.per_prompt=2", "run.steps=1"]
    job.train(tmp_path, *synthetic)
    (line,) = metrics_of(tmp_path / "run")
    assert line["step"] == 1
    result = ddrl("data", "synthesize", job.recipe(tmp_path), *synthetic, "--out", tmp_path / "out")
    result.failed(2, "source images are not kept", "leave --out out")


def test_one_base_makes_pictures_and_edits(job: Job, tmp_path: Path) -> None:
    """FLUX.2 klein, by the recipe alone."""
    test_flux2_klein.build_editor().save_pretrained(tmp_path / "model")
    base, plain = f"model.path={tmp_path}/model", f"data.path={tmp_path}/data"
    for index in range(8):
        write_image(tmp_path / "data" / f"{index}.png", colour=colour(index))
        (tmp_path / "data" / f"{index}.txt").write_text(f"a thing of kind {index}")
    shared = [base, "data.height=64", "data.width=64", "run.steps=1"]
    for name, more in (("of texts", [plain]), ("edits", [EDITS])):
        job.train(tmp_path / name, *shared, *more)
        result = ddrl("sample", tmp_path / name / "run", "--num", "1")
        assert result.code == 0, result.stderr
    red = write_image(tmp_path / "red.png", width=64, height=64, colour=(250, 0, 0))
    ddrl("sample", tmp_path / "of texts" / "run", "--source", red).failed(
        2, "text alone", "--source"
    )


def test_a_base_of_texts_refuses_sources(job: Job, tmp_path: Path) -> None:
    test_flux.build_pipeline(tmp_path, guidance_embeds=True).save_pretrained(tmp_path / "text")
    base = f"model.path={tmp_path}/text"
    result = ddrl("train", job.recipe(tmp_path), base, EDITS, "--dry-run")
    result.failed(3, "Flux takes no source images", "take a base that edits pictures")


def test_a_plan_counts_the_source_s_tokens(job: Job, tmp_path: Path) -> None:
    """The same network with and without a source image beside the noisy tokens."""
    from ddrl.jobs.plan import plan_recipe

    test_flux.build_pipeline(tmp_path, guidance_embeds=True).save_pretrained(tmp_path / "text")
    sizes = ["data.height=256", "data.width=256"]
    edits = load_recipe(job.recipe(tmp_path), [EDITS, *sizes])
    texts = load_recipe(job.recipe(tmp_path), [f"model.path={tmp_path}/text", *sizes])
    of_edits, of_texts = (plan_recipe(one).memory.peak[1] for one in (edits, texts))
    assert of_edits > 1.5 * of_texts
