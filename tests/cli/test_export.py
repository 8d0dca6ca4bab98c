"""``ddrl export``: what diffusers loads gives the images of the run, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from PIL import Image
from safetensors.torch import load_file
from tests.cli.command import ddrl
from tests.flow.diffusers_jobs import Job, image_size
from tests.models.families.test_sd3 import build_pipeline
from torch import Tensor

from ddrl.runs.card_code import PROMPT
from ddrl.runs.loaded import LoadedRun, load_run
from ddrl.seeding import sample_noise
from ddrl.training.rollout import sample_ode

TEXTS = ["a thing of kind 1", ""]
TIMES = (1.0, 0.75, 0.5, 0.25)
NOISE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
FAST = ("optimizer.learning_rate=0.02", "optimizer.ema=0.5", "guard.max_ratio=0")


def write_square(stem: Path, index: int) -> None:
    stem.parent.mkdir(exist_ok=True)
    Image.new("RGB", (16, 16), (30 * index, 10, 255 - 30 * index)).save(f"{stem}.png")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("job")
    return Job.make(root, build_pipeline(root / "tokenizers"), write_square, side=16)


@pytest.fixture(scope="module")
def lora_run(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained two steps; alpha / rank is neither 1 nor 2."""
    folder = tmp_path_factory.mktemp("lora")
    job.train(folder, "model.lora.alpha=12", *FAST)
    return folder / "run"


def exported(run: Path, out: Path, *arguments: str) -> Path:
    result = ddrl("export", run, "--out", out, *arguments)
    assert result.code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(out / "README.md")
    return out


def theirs(pipeline: Any) -> Tensor:
    """What the pipeline makes of the noise."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    images: Tensor = pipeline(
        prompt=list(TEXTS),
        sigmas=list(TIMES),
        guidance_scale=1.0,
        height=16,
        width=16,
        latents=NOISE,
        output_type="pt",
    ).images
    return images


def ours(run: LoadedRun) -> Tensor:
    times = torch.tensor([*TIMES, 0.0], dtype=torch.float64)
    condition = run.model.encode(TEXTS)
    latents = sample_ode(run.forward, condition, NOISE, times=times, solver="euler")
    return run.model.decode(latents, condition)


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("dora", [False, True])
def test_lora_in_diffusers_is_the_run(job: Job, lora_run: Path, tmp_path: Path, dora: bool) -> None:
    if dora:
        job.train(tmp_path, "model.lora.dora=true", *FAST)
    folder = tmp_path / "run" if dora else lora_run
    run = load_run(folder)
    assert ours(run).shape == NOISE.new_empty(2, 3, 16, 16).shape
    out = exported(folder, tmp_path / "out")
    pipeline = StableDiffusion3Pipeline.from_pretrained(str(job.root / "model"))
    base = theirs(pipeline)
    pipeline.load_lora_weights(str(out))
    assert difference(theirs(pipeline), ours(run)) <= 1e-4
    assert difference(base, ours(run)) > 1e-3
    with run.as_base():
        assert difference(base, ours(run)) <= 1e-4


def test_averaged_weights_unless_raw(lora_run: Path, tmp_path: Path) -> None:
    files = [
        load_file(exported(lora_run, tmp_path / name, *more) / "pytorch_lora_weights.safetensors")
        for name, more in (("ema", ()), ("raw", ("--raw",)), ("step", ("--step", "2")))
    ]
    assert files[0].keys() == files[1].keys()
    assert any(not torch.equal(value, files[1][name]) for name, value in files[0].items())
    assert all(torch.equal(value, files[2][name]) for name, value in files[0].items())


def test_full_weights_in_diffusers_are_the_run(job: Job, tmp_path: Path) -> None:
    job.train(tmp_path, "model.lora.rank=0", *FAST)
    out = exported(tmp_path / "run", tmp_path / "out")
    pipeline = StableDiffusion3Pipeline.from_pretrained(str(out))
    base = StableDiffusion3Pipeline.from_pretrained(str(job.root / "model"))
    image = ours(load_run(tmp_path / "run"))
    assert difference(theirs(pipeline), image) <= 1e-4
    assert difference(theirs(base), image) > 1e-3
    assert 'from_pretrained("out", dtype=torch.float32)' in (out / "README.md").read_text()


def test_the_card(job: Job, lora_run: Path, tmp_path: Path) -> None:
    out = exported(lora_run, tmp_path / "out")
    card = (out / "README.md").read_text()
    info = json.loads((lora_run / "run.json").read_text())
    for phrase in (
        "LoRA of rank 4 of model, post-trained",
        "| Licence | that of the base model; read it before",
        "LoRA of rank 4",
        "| Step | 2 |",
        info["commit"] or "unknown",
        'StableDiffusion3Pipeline.from_pretrained("model", dtype=torch.float32)\n',
        'pipeline.load_lora_weights("out")\n',
        "| `reward` | 0.",
        "[model.lora]",
        "alpha = 12.0",
        "None yet: `ddrl evaluate`",
    ):
        assert phrase in card, phrase


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_the_lines_of_the_card_make_the_sample(
    job: Job, lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, but for the noise, which a generator of torch draws otherwise."""
    code = (exported(lora_run, tmp_path / "out") / "README.md").read_text()
    code = code.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "model").symlink_to(job.root / "model")
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        exec(code, {})
        assert image_size(Path("sample.png")) == (16, 16)
        options = ("--prompt", PROMPT, "--num", "1", "--seed", "0", "--out", "mine")
        assert ddrl("sample", lora_run, *options).code == 0
        noise = sample_noise((4, 8, 8), run_seed=0, purpose="generate", step=0, sample_ids=[0])
        code = code.replace("generator=torch.Generator().manual_seed(0)", "latents=noise")
        exec(code, {"noise": noise})
    (file,) = Path("mine").glob("000-*.png")
    assert np.abs(pixels(file) - pixels(Path("sample.png"))).max() <= 2


def check_nothing_says_where_it_lay(out: Path, *places: Path) -> None:
    for path in (one for one in out.rglob("*") if one.is_file()):
        content = path.read_bytes()
        for private in places:
            assert str(private).encode() not in content, path


def test_nothing_of_an_export_says_where_it_lay(job: Job, lora_run: Path, tmp_path: Path) -> None:
    places = (tmp_path, job.root, lora_run, tmp_path.parents[2])
    out = exported(lora_run, tmp_path / "out")
    check_nothing_says_where_it_lay(out, *places)
    recipe = (out / "README.md").read_text().partition("```toml\n")[2]
    section = recipe.partition("[run]\n")[2].partition("\n\n")[0]
    keys = {line.partition(" = ")[0] for line in section.split("\n")}
    assert {"steps", "seed"} <= keys
    assert not {"folder", "cache"} & keys
    assert 'path = "model"' in recipe
    merged = exported(lora_run, tmp_path / "merged", "--merged")
    assert len(list(merged.rglob("*config.json"))) > 5
    check_nothing_says_where_it_lay(merged, *places)
    assert b"_name_or_path" not in b"".join(p.read_bytes() for p in merged.rglob("*.json"))


OTHERS = "LoRA of rank 4 of {0}, post-trained", "| Base model | {0} |", 'path = "{0}"'


@pytest.mark.parametrize(
    ("recorded", "shown", "revision"),
    [
        ("owner/name", "owner/name", ""),
        ("owner/name@v1", "owner/name@v1", 'revision="v1", '),
        ("/cache/hub/models--owner--name/snapshots/0a1b", "owner/name@0a1b", 'revision="0a1b", '),
    ],
)
def test_the_card_names_the_base_that_the_run_recorded(
    job: Job, lora_run: Path, tmp_path: Path, recorded: str, shown: str, revision: str
) -> None:
    """And not the folder in which it lies here, which a folder of the id's name may even be."""
    run = recorded_as(lora_run, tmp_path, job.root / "model", recorded)
    out = exported(run, tmp_path / "out", "--model", str(job.root / "model"))
    card = (out / "README.md").read_text()
    for phrase in OTHERS:
        assert phrase.format(shown) in card
    assert f'from_pretrained("owner/name", {revision}dtype' in card
    assert 'base_model: "owner/name"' in card
    assert "the path of yours" not in card
    assert json.loads((out / "export.json").read_text())["base"] == shown
    check_nothing_says_where_it_lay(out, job.root, tmp_path)


def recorded_as(run: Path, folder: Path, base: Path, path: str) -> Path:
    """A copy of the run whose recipe names another base."""
    shutil.copytree(run, folder / "run")
    recipe = folder / "run" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(f'path = "{base}"', f'path = "{path}"'))
    assert path in recipe.read_text()
    return folder / "run"


def test_the_card_of_a_base_without_a_public_name(
    job: Job, lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder, also when it is named as an id would be."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "base").symlink_to(job.root / "model")
    monkeypatch.chdir(tmp_path)
    run = recorded_as(lora_run, tmp_path, job.root / "model", "/home/someone/models/gone")
    card = (exported(run, tmp_path / "out", "--model", "here/base") / "README.md").read_text()
    assert "| Base model | base, a folder whose public name is not known |" in card
    assert "base_model:" not in card
    assert "put the path of yours here.\npipeline = " in card
    assert "someone" not in card
    merged = exported(run, tmp_path / "merged", "--merged", "--model", "here/base")
    assert "the path of yours" not in (merged / "README.md").read_text()  # it is the export's own


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_an_export_is_read_by_whom_the_umask_lets(
    lora_run: Path, finished: Path, tmp_path: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        for run, name in ((lora_run, "one"), (finished, "two")):
            out = exported(run, tmp_path / name)
            files = [path for path in out.rglob("*") if path.is_file()]
            assert any(path.suffix == ".safetensors" for path in files)
            assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}
    finally:
        os.umask(before)
