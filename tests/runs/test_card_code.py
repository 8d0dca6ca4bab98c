"""The lines of a model card run as they stand, and make what ``ddrl sample`` makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import HunyuanVideo15Pipeline, WanPipeline
from PIL import Image
from tests.models.families import (
    test_cosmos,
    test_flux,
    test_flux2_klein,
    test_hunyuan_video15,
    test_qwen_image,
    test_qwen_image_edit,
    test_sana,
    test_sd3,
    test_stable_diffusion,
    test_z_image,
)
from tests.models.families.ltx import ltx2_parts, test_ltx_video
from tests.models.families.test_cosmos import Unguarded, torchvision  # noqa: F401 - a fixture
from tests.models.families.wan import test_wan_i2v, test_wan_ti2v, wan_parts
from torch import Tensor

from ddrl.builders.tasks.table import task_of
from ddrl.data.media.framing import Bucket, fit
from ddrl.data.media.images import read_image
from ddrl.data.media.reading import to_unit
from ddrl.evaluation.measures.generate import generate
from ddrl.models.pretrained import load_model
from ddrl.recipe import parse_recipe
from ddrl.runs.card_code import PROMPT, pipeline_code
from ddrl.runs.loaded import LoadedRun
from ddrl.seeding import sample_noise
from ddrl.training.forward import Forward

RECIPE = """
[model]
family = "diffusers"
path = "{path}"
dtype = "{dtype}"

[data]
source = "prompts"
path = "prompts.txt"
anchor = "synthetic"
height = {side}
width = {side}
frames = {frames}

[[reward]]
name = "ink"

[rollout]
guidance = {guidance}

[evaluation]
steps = 4
solver = "{solver}"
"""


def packed(noise: Tensor, patch: int = 2) -> Tensor:
    """(B, C, H, W) as tokens of 2 x 2."""
    folded = torch.nn.functional.pixel_unshuffle(noise, patch)
    return folded.flatten(2).transpose(1, 2)


Build = Callable[[Path], Any]
Latents = Callable[[Any, Tensor], Tensor]
FAMILIES: dict[str, tuple[Build, int, int, float, Latents]] = {
    "sd3": (test_sd3.build_pipeline, 16, 1, 2.5, lambda _, z: z),
    "sana": (lambda _: test_sana.build_pipeline(), 32, 1, 2.5, lambda _, z: z),
    "flux": (
        lambda folder: test_flux.build_pipeline(folder, guidance_embeds=True),
        *(16, 1, 2.5, lambda _, z: packed(z)),
    ),
    "qwen": (
        lambda _: test_qwen_image.build_pipeline(),
        *(16, 1, 1.0, lambda _, z: test_qwen_image.packed(z)),
    ),
    "z_image": (lambda _: test_z_image.build_pipeline(), 16, 1, 2.5, lambda _, z: z),
    "flux2_klein": (lambda _: test_flux2_klein.build_pipeline(), 16, 1, 2.5, lambda _, z: z),
    "wan": (
        lambda _: wan_parts.text_pipeline(),
        *(64, 5, 2.5, lambda _, z: z),
    ),
    "wan_5b": (lambda _: test_wan_ti2v.build(WanPipeline), 64, 5, 2.5, lambda _, z: z),
    "cosmos": (lambda _: test_cosmos.build_pipeline(), 32, 5, 2.5, lambda _, z: z),
    "hunyuan": (
        lambda _: HunyuanVideo15Pipeline(**test_hunyuan_video15.parts(task="t2v")),
        *(16, 5, 2.5, lambda _, z: z),
    ),
    "ltx": (
        lambda _: test_ltx_video.build_pipeline(conditioned=False),
        *(32, 5, 2.5, lambda _, z: test_ltx_video.pack(z)),
    ),
    "ltx2": (
        lambda _: ltx2_parts.build_pipeline(newer=True),
        *(32, 5, 1.0, lambda model, z: model.denormalize(z)),
    ),
}
"""How it is built; side, frames, guidance, and how its pipeline takes noise."""


def loaded(
    folder: Path,
    solver: str,
    *,
    side: int,
    frames: int,
    guidance: float,
    dtype: str = "float32",
    model: Any = None,
) -> LoadedRun:
    """A run before its first step; ``model``: where it is not from the folder."""
    settings = {"side": side, "frames": frames, "guidance": guidance, "solver": solver}
    settings["dtype"] = dtype
    model = model or load_model(folder, dtype=getattr(torch, dtype))
    recipe = parse_recipe(RECIPE.format(path="owner/name@v1", **settings))
    return LoadedRun(
        folder=folder,
        name="run",
        recipe=recipe,
        step=0,
        weights="ema",
        model=model,
        forward=Forward(model, guidance=guidance),
        start={},
        task=task_of(recipe),
        device=torch.device("cpu"),
        metrics=[],
        info={},
        checkpoint=None,
    )


def ours(run: LoadedRun, solver: Any, condition: Any = None) -> Any:
    """The pixels of ``ddrl sample``, and the noise they are from."""
    samples = generate(
        run.forward,
        [PROMPT],
        condition=condition,
        samples_per_prompt=1,
        latent_shape=run.latent_shape,
        seed=0,
        num_steps=4,
        solver=solver,
    )
    noise = sample_noise(
        run.latent_shape, run_seed=0, purpose="generate", step=0, sample_ids=range(1)
    )
    return (samples.media[0] * 255).round().movedim(-3, -1).numpy(), noise


def theirs(lines: list[str], model: Any, latents: Tensor, folder: Path) -> Any:
    """The pixels of the card's lines, from that noise."""
    code = "\n".join(lines)
    source = '"owner/name", revision="v1"'
    draw = "generator=torch.Generator().manual_seed(0),"
    assert source in code
    assert draw in code
    more = ", safety_checker=guard" if "Cosmos" in code else ""
    code = code.replace(source, repr(str(folder)) + more).replace(draw, "latents=latents,")
    found = {"latents": latents, "guard": Unguarded()}
    with torch.random.fork_rng(devices=[]):
        exec(code, found)
    result: Any = found["result"]
    media = result.frames[0] if model.is_video() else result.images[0]
    assert isinstance(media[0] if model.is_video() else media, Image.Image)
    return np.stack([np.asarray(one) for one in media]) if model.is_video() else np.asarray(media)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lines_make_the_sample(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    build, side, frames, guidance, as_given = FAMILIES[family]
    build(tmp_path / "parts").save_pretrained(tmp_path / "model")
    for solver in ("heun", "euler") if family in {"sd3", "wan"} else ("heun",):
        run = loaded(tmp_path / "model", solver, side=side, frames=frames, guidance=guidance)
        pixels, noise = ours(run, solver)
        lines = pipeline_code(run, "owner/name@v1", ())
        made = theirs(lines, run.model, as_given(run.model, noise), tmp_path / "model")
        assert made.shape == pixels.shape
        assert np.abs(made - pixels).max() <= 2
        assert pixels.std() > 2  # or the comparison would show nothing


@pytest.mark.parametrize(
    "build", [test_stable_diffusion.build_sd, test_stable_diffusion.build_sdxl]
)
def test_of_a_table_of_levels_the_lines_run(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    build(tmp_path / "parts").save_pretrained(tmp_path / "model")
    run = loaded(tmp_path / "model", "euler", side=16, frames=1, guidance=2.5)
    lines = pipeline_code(run, "owner/name@v1", ())
    made = theirs(lines, run.model, ours(run, "euler")[1], tmp_path / "model")
    assert made.shape == (16, 16, 3)
    assert "guidance_scale=2.5" in "\n".join(lines)


def whole_clip(model: Any, noise: Tensor) -> Tensor:
    """As LTX-2 takes latents of which the first frame is given."""
    with Image.open("first_frame.png") as picture:
        levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    given = model.encode([PROMPT], first_frames=levels[None, None] / 255).given
    clip: Tensor = model.denormalize(torch.cat([given, noise], dim=2))
    return clip


FIRST_FRAMES: dict[str, tuple[Callable[[], Any], float, Latents]] = {
    "wan_i2v": (test_wan_i2v.build_pipeline, 2.5, lambda _, z: z),
    # Its published model names the class without a picture.
    "ltx2": (lambda: ltx2_parts.build_pipeline(newer=True), 1.0, whole_clip),
}


@pytest.mark.parametrize("family", FIRST_FRAMES)
def test_the_lines_take_a_first_frame(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    build, guidance, as_given = FIRST_FRAMES[family]
    side = 64
    build().save_pretrained(tmp_path / "model")
    run = loaded(tmp_path / "model", "heun", side=side, frames=5, guidance=guidance)
    model: Any = run.model
    model.given_frames = 1
    levels = (wan_parts.pixels(1, 1, 3, side, side)[0, 0] * 255).round().byte()
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save("first_frame.png")
    condition = model.encode([PROMPT], first_frames=levels[None, None] / 255, frames=5)
    made, noise = ours(run, "heun", condition)
    lines = pipeline_code(run, "owner/name@v1", ())
    assert "    image=load_image(" in "\n".join(lines)
    latents = as_given(model, noise)
    assert np.abs(theirs(lines, model, latents, tmp_path / "model") - made).max() <= 2


EDITORS: dict[str, tuple[Build, int, float, Latents]] = {
    "kontext": (test_flux.build_kontext, 16, 2.5, lambda _, z: packed(z)),
    "klein": (lambda _: test_flux2_klein.build_editor(), 64, 2.5, lambda _, z: z),
}
"""How it is built; side, guidance, and how its pipeline takes noise."""


@pytest.mark.parametrize("family", EDITORS)
def test_the_lines_take_a_source_of_any_size(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    build, side, guidance, as_given = EDITORS[family]
    build(tmp_path / "parts").save_pretrained(tmp_path / "model")
    run = loaded(tmp_path / "model", "heun", side=side, frames=1, guidance=guidance)
    check_source(run, side, as_given, tmp_path / "model")


def check_source(run: LoadedRun, side: int, as_given: Latents, folder: Path) -> None:
    """The card's lines make the sample of a source that is larger, and of another shape."""
    model: Any = run.model
    model.given_frames = 1
    levels = (wan_parts.pixels(1, 1, 3, 2 * side, 3 * side)[0, 0] * 255).round().byte()
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save("source.png")
    source = to_unit(fit(read_image(Path("source.png")), Bucket(side, side)))
    condition = model.encode([PROMPT], first_frames=source[None, None])
    made, noise = ours(run, "heun", condition)
    lines = pipeline_code(run, "owner/name@v1", ())
    found = theirs(lines, model, as_given(model, noise), folder)
    assert found.shape == made.shape
    assert np.abs(found - made).max() <= 2
    black = torch.zeros_like(source[None, None])
    other, _ = ours(run, "heun", model.encode([PROMPT], first_frames=black))
    # Another source changes more than rounding does, or the comparison would show nothing.
    assert (other != made).mean() > 0.05 + 10 * (found != made).mean()


def test_the_lines_of_an_editor_that_reads_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without torchvision its processor can't be loaded: the pipeline is built instead."""
    monkeypatch.chdir(tmp_path)
    test_qwen_image_edit.make_small(monkeypatch)
    made = test_qwen_image_edit.build_pipeline()
    monkeypatch.setattr(type(made), "from_pretrained", lambda *_, **__: made)
    model = test_qwen_image_edit.ADAPTERS["plus"](test_qwen_image_edit.build_pipeline())
    run = loaded(tmp_path, "heun", side=16, frames=1, guidance=1.0, model=model)
    check_source(run, 16, lambda _, z: test_qwen_image.packed(z), tmp_path)


def test_a_base_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline = test_sd3.build_pipeline(tmp_path / "parts").to(torch.bfloat16)
    pipeline.save_pretrained(tmp_path / "model")
    options: dict[str, Any] = {"side": 16, "frames": 1, "guidance": 2.5, "dtype": "bfloat16"}
    run = loaded(tmp_path / "model", "euler", **options)
    lines = pipeline_code(run, "owner/name@v1", ())
    noise = torch.randn(1, *run.latent_shape, generator=torch.Generator().manual_seed(0))
    made = theirs(lines, run.model, noise.bfloat16(), tmp_path / "model")
    assert made.shape == (16, 16, 3)
