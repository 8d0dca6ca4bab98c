"""Stages: a run goes on with an adapter, an export or another run, and computes what that did."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.command import ddrl
from tests.cli.test_export import NOISE, TIMES, difference, exported, theirs, write_square
from tests.flow.diffusers_jobs import Job
from tests.models.families.test_sd3 import build_pipeline
from torch import Tensor

from ddrl.builders.identity import base_parts, weights_hash
from ddrl.builders.tasks.table import task_of
from ddrl.errors import DDRLError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.lora.adapter import lora_rank
from ddrl.recipe import Recipe, load_recipe
from ddrl.runs.loaded import load_run

FAST = (
    *("optimizer.learning_rate=0.02", "optimizer.ema=0.5", "guard.max_ratio=0", "run.steps=1"),
    *("run.checkpoint_every=1", "evaluation.every=0", "rollout.steps=1", "rollout.group_size=2"),
)
FORMATS = ("diffusers", "comfyui", "kohya")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("job")
    return Job.make(root, build_pipeline(root / "tokenizers"), write_square, side=16)


@pytest.fixture(scope="module")
def runs(job: Job, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of an adapter with the default alpha, of one of another, of DoRA, and of all weights."""
    overrides = {
        "lora": (),
        "other": ("model.lora.alpha=12",),
        "dora": ("model.lora.dora=true",),
        "full": ("model.lora.rank=0",),
    }
    found = {}
    for name, more in overrides.items():
        folder = tmp_path_factory.mktemp(name)
        job.train(folder, *more, *FAST)
        found[name] = folder / "run"
    return found


def recipe_of(job: Job, folder: Path, *overrides: str) -> Recipe:
    return load_recipe(job.recipe(folder), overrides=overrides)


def started(job: Job, folder: Path, *overrides: str) -> DiffusersModel:
    """The model of a new run, before its first step."""
    model = task_of(recipe_of(job, folder, *overrides)).model(torch.device("cpu"))
    assert isinstance(model, DiffusersModel)
    return model


def velocity(model: Any) -> Tensor:
    with torch.no_grad():
        condition = model.encode(["a thing of kind 1", ""])
        result: Tensor = model.predict(NOISE, torch.tensor(TIMES[1:3]), condition)
    return result


@functools.cache
def of(run: Path) -> Tensor:
    return velocity(load_run(run).model)


@pytest.mark.parametrize("name", ["lora", "other", "dora"])
def test_a_run_goes_on_with_the_adapter_of_another(
    job: Job, runs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    alpha = {"other": ("model.lora.alpha=12",)}.get(name, ())
    start = (f"model.lora.start={runs[name]}", "model.lora.rank=0")
    model = started(job, tmp_path, *start, *alpha)
    assert torch.equal(velocity(model), of(runs[name]))
    assert lora_rank(model.transformer) == 4
    other = started(job, tmp_path, *start, "model.lora.alpha=3")
    assert difference(velocity(other), of(runs[name])) <= 1e-5


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_goes_on_with_an_export(
    job: Job, runs: dict[str, Path], tmp_path: Path, format: str
) -> None:
    for name in ("lora", "other") if format == "diffusers" else ("other",):
        out = exported(runs[name], tmp_path / name, "--format", format)
        place = out if name == "lora" else out / "pytorch_lora_weights.safetensors"
        model = started(job, tmp_path, f"model.lora.start={place}", "model.lora.rank=0")
        assert difference(velocity(model), of(runs[name])) <= (1e-5 if name == "other" else 0)


def test_the_strength_of_a_file_is_its_header_or_its_tensors(
    job: Job, runs: dict[str, Path], tmp_path: Path
) -> None:
    """As a file of another trainer has it: alpha 1 of rank 4 in kohya's, twice that by header."""
    out = exported(runs["lora"], tmp_path / "out", "--format", "kohya")
    tensors = load_file(out / "pytorch_lora_weights.safetensors")
    for name, value in tensors.items():
        if name.endswith(".alpha"):
            tensors[name] = torch.ones_like(value)
        elif ".lora_up." in name:
            tensors[name] = 4 * value
    save_file(tensors, tmp_path / "other.safetensors")
    start = f"model.lora.start={tmp_path / 'other.safetensors'}"
    model = started(job, tmp_path, start, "model.lora.rank=0")
    assert difference(velocity(model), of(runs["lora"])) <= 1e-5


def test_modules_may_have_ranks_of_their_own(
    job: Job, runs: dict[str, Path], tmp_path: Path
) -> None:
    out = exported(runs["lora"], tmp_path / "out")
    tensors = load_file(out / "pytorch_lora_weights.safetensors")
    first = next(name for name in tensors if ".lora_A." in name)
    second = first.replace(".lora_A.", ".lora_B.")
    tensors[first] = torch.cat([tensors[first], torch.ones_like(tensors[first])])
    tensors[second] = torch.cat([tensors[second], torch.zeros_like(tensors[second])], 1)
    save_file(tensors, tmp_path / "mixed.safetensors")
    start = f"model.lora.start={tmp_path / 'mixed.safetensors'}"
    model = started(job, tmp_path, start, "model.lora.rank=0")
    assert lora_rank(model.transformer) == 8
    assert difference(velocity(model), of(runs["lora"])) <= 1e-5


def test_a_whole_run_from_an_adapter(job: Job, runs: dict[str, Path], tmp_path: Path) -> None:
    """Trained, exported, and read again; its base is the adapter that it began with."""
    start = (f"model.lora.start={runs['lora']}", "model.lora.rank=0")
    log = job.train(tmp_path, *start, *FAST).stderr
    assert f"going on with the adapter of {runs['lora']}, rank 4" in log
    run = load_run(tmp_path / "run")
    with run.as_base():
        assert torch.equal(velocity(run.model), of(runs["lora"]))
    assert difference(velocity(run.model), of(runs["lora"])) > 1e-4
    card = (exported(tmp_path / "run", tmp_path / "out") / "README.md").read_text()
    assert "LoRA of rank 4" in card
    plan, _ = task_of(recipe_of(job, tmp_path, *start)).sketch()
    assert lora_rank(plan.transformer) == 4


def test_what_an_adapter_starts_from_is_part_of_the_base(
    job: Job, runs: dict[str, Path], tmp_path: Path
) -> None:
    fresh = started(job, tmp_path)
    model = started(job, tmp_path, f"model.lora.start={runs['lora']}", "model.lora.rank=0")
    assert weights_hash(fresh) == weights_hash(model)  # samples of the base are drawn without it
    assert set(base_parts(model)) - set(base_parts(fresh)) == {"adapter"}


@pytest.mark.parametrize("name", ["other", "dora", "full"])
def test_a_run_is_the_base_of_the_next(
    job: Job, runs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    model = started(job, tmp_path, f"model.start={runs[name]}")
    assert difference(velocity(model), of(runs[name])) <= 1e-5
    assert lora_rank(model.transformer) == 4  # of the new adapter
    trained = [n for n, p in model.transformer.named_parameters() if p.requires_grad]
    assert all("lora_" in n for n in trained)


@pytest.mark.parametrize("name", ["other", "dora"])
def test_merged_into_a_whole_pipeline(
    job: Job, runs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    out = exported(runs[name], tmp_path / "out", "--merged")
    model = started(job, tmp_path, f"model.path={out}")
    assert difference(velocity(model), of(runs[name])) <= 1e-5
    pipeline = type(model.pipeline).from_pretrained(str(out))
    assert difference(theirs(pipeline), theirs(model.pipeline)) <= 1e-4
    assert "a LoRA merged" in (out / "README.md").read_text()


def test_whole_weights_are_of_the_bases_type(job: Job, tmp_path: Path) -> None:
    """A base in bfloat16, trained in full, comes out as large as it went in."""
    from diffusers import StableDiffusion3Pipeline

    base = StableDiffusion3Pipeline.from_pretrained(str(job.root / "model"))
    base.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    place = "transformer/diffusion_pytorch_model.safetensors"
    job.train(tmp_path, f"model.path={tmp_path / 'base'}", "model.lora.rank=0", *FAST)
    out = exported(tmp_path / "run", tmp_path / "out")
    for part in ("transformer", "vae"):
        file = f"{part}/diffusion_pytorch_model.safetensors"
        assert {t.dtype for t in load_file(out / file).values()} == {torch.bfloat16}
        assert (out / file).stat().st_size == (tmp_path / "base" / file).stat().st_size
    out = exported(tmp_path / "run", tmp_path / "wide", "--dtype", "float32")
    assert {t.dtype for t in load_file(out / place).values()} == {torch.float32}


def test_an_adapter_in_fewer_bits(runs: dict[str, Path], tmp_path: Path) -> None:
    out = exported(runs["lora"], tmp_path / "out", "--dtype", "bfloat16")
    tensors = load_file(out / "pytorch_lora_weights.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def edited(out: Path, to: Path, change: Any) -> Path:
    """A copy of an adapter's file whose tensors are changed."""
    tensors = load_file(out / "pytorch_lora_weights.safetensors")
    save_file({k: v for name, t in tensors.items() for k, v in change(name, t).items()}, to)
    return to


def test_what_is_no_start(job: Job, runs: dict[str, Path], tmp_path: Path) -> None:
    out = exported(runs["lora"], tmp_path / "out")
    first = min(load_file(out / "pytorch_lora_weights.safetensors"))
    block = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight"
    foreign = edited(out, tmp_path / "a", lambda n, t: {n.replace("attn", "attention"): t})
    text = edited(
        out, tmp_path / "b", lambda n, t: {n: t, "lora_te1_x.lora_up.weight": t[:1].clone()}
    )
    small = edited(out, tmp_path / "c", lambda n, t: {n: t[:, :3].contiguous()})
    half = edited(out, tmp_path / "d", lambda n, t: {} if ".lora_B." in n else {n: t})
    no_adapter = edited(out, tmp_path / "e", lambda n, t: {n.replace("lora_", "matrix_"): t})
    (tmp_path / "f").write_text("no tensors")
    (tmp_path / "empty").mkdir()
    assert block.startswith("transformer.")
    for place, phrases in {
        foreign: ("of another network", first.replace("attn", "attention")),
        text: ("adapts a text encoder, too (lora_te1_x.lora_up.weight)",),
        small: ("of another network", "3 numbers", "transformer_blocks"),
        half: ("is not whole", "the second factor of"),
        no_adapter: ("is no LoRA adapter", "matrix_A"),
        tmp_path / "f": ("can't be read as safetensors",),
        tmp_path / "empty": ("holds 0 .safetensors files",),
        tmp_path / "nowhere": ("is not there",),
        runs["full"]: ("has no adapter", "trained all weights"),
    }.items():
        with pytest.raises(DDRLError) as caught:
            started(job, tmp_path, f"model.lora.start={place}", "model.lora.rank=0")
        for phrase in phrases:
            assert phrase in str(caught.value), place
        assert caught.value.hint
    start = f"model.lora.start={runs['lora']}"
    for key, phrase in (("rank=8", "has rank 4"), ("dora=true", "has no magnitudes")):
        with pytest.raises(DDRLError, match=phrase):
            started(job, tmp_path, start, "model.lora.rank=0", f"model.lora.{key}")
    for more in ("model.lora.targets=attn.to_q", "data.target=teacher"):
        result = ddrl("train", job.recipe(tmp_path), start, more, "model.lora.rank=0")
        result.failed(2, "model.lora.start")


@pytest.mark.parametrize(
    ("run", "arguments", "phrase"),
    [
        ("full", ("--merged",), "--merged is for adapters, and this run trained all weights"),
        ("full", ("--format", "kohya"), "--format kohya is for adapters"),
        ("lora", ("--merged", "--format", "kohya"), "--merged writes a whole pipeline"),
        ("dora", ("--format", "comfyui"), "comfyui is not written for DoRA"),
    ],
)
def test_what_an_export_can_not_be(
    runs: dict[str, Path], tmp_path: Path, run: str, arguments: tuple[str, ...], phrase: str
) -> None:
    result = ddrl("export", runs[run], "--out", tmp_path / "out", *arguments)
    result.failed(2, phrase)
    assert not (tmp_path / "out").exists()
