"""Training on data of several sizes: every step has one, with the sampler of that size."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from PIL import Image
from tests.data.making import caption, write_image, write_video
from tests.models.families.test_sd3 import build_pipeline
from tests.models.families.wan import wan_parts
from tests.models.families.wan.test_wan_i2v import build_pipeline as build_i2v

from ddrl.builders.assets import Assets
from ddrl.builders.data.corpus import files_corpus
from ddrl.builders.data.encoding import encode_data
from ddrl.builders.data.sizes import latent_shapes, sample_size
from ddrl.builders.pretrained import build_pretrained
from ddrl.data.media.framing import Bucket
from ddrl.diffusion.schedule import time_grid
from ddrl.errors import DataError, UsageError
from ddrl.jobs.evaluate.bench import build_bench, build_drift
from ddrl.jobs.evaluate.monitors import Panel
from ddrl.jobs.plan import plan_recipe
from ddrl.jobs.train.trainer import build_job
from ddrl.models.families.wan.text_to_video import WanCondition
from ddrl.recipe import Recipe, parse_recipe
from ddrl.recipe.plan.lines import plan_lines
from ddrl.training.trainer import Trainer

CPU = torch.device("cpu")
NAMES = ("16x16", "32x16", "16x32")  # width x height
SHAPES = ((4, 8, 8), (4, 8, 16), (4, 16, 8))
TEXT = """
[model]
family = "diffusers"
path = "{root}/model"
lora = {{ rank = 4 }}
[data]
source = "files"
path = "{root}/data"
heldout = 0.4
[[reward]]
name = "ink"
[rollout]
prompts_per_step = 2
group_size = 4
steps = 2
[evaluation]
every = 0
steps = 2
samples_per_prompt = 2
[run]
steps = 6
device = "cpu"
cache = "{root}/cache"
folder = "{root}/run"
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline whose shift of times depends on the size, and pictures of three shapes.

    One caption has pictures of two shapes.
    """
    folder = tmp_path_factory.mktemp("sizes")
    pipeline = build_pipeline(folder / "parts")
    pipeline.scheduler.register_to_config(use_dynamic_shifting=True)
    pipeline.save_pretrained(folder / "model")
    (folder / "data").mkdir()
    for index in range(12):
        size = ((40, 40), (20, 36), (36, 20))[index % 3]
        noise = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "data" / f"{index:02d}.png")
        text = "two shapes" if index in (0, 1) else f"a thing of kind {index}"
        (folder / "data" / f"{index:02d}.txt").write_text(text)
    return folder


def recipe(root: Path, *overrides: str) -> Recipe:
    sizes = f"data.sizes={','.join(NAMES)}"
    return parse_recipe(TEXT.format(root=root), overrides=[sizes, *overrides])


def trained(trainer: Trainer) -> dict[str, torch.Tensor]:
    network = trainer.forward.model.transformer
    return {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}


def test_each_step_has_one_size_with_its_own_times_and_replays_exactly(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        trainer = build_job(recipe(root)).trainer
    assert "samples by size: 16x16 4, 32x16 4, 16x32 4" in caplog.text
    assert "steps of the run by size: " in caplog.text
    assert [one.latent_shape for one in trainer.collector.samplers] == list(SHAPES)
    model = trainer.forward.model
    for one in trainer.collector.samplers:
        expected = time_grid(2, shift=model.time_shift(one.latent_shape, 2))
        assert torch.equal(one.transitions.times, expected)
    square, wide, tall = (one.transitions.times.tolist() for one in trainer.collector.samplers)
    assert wide == tall != square
    seen = []
    for step in range(5):
        hand = trainer.dealer.deal(step)
        anchor = trainer.collector.pool.anchor(hand.anchor_row, device=CPU)
        assert anchor.x0.shape[1:] == SHAPES[hand.size]
        metrics = trainer.iteration()
        assert metrics["size"] == hand.size
        assert metrics["ratio_deviation"] == 0
        assert trainer.shown is not None
        height, width = (2 * side for side in SHAPES[hand.size][1:])
        assert trainer.shown.pictures.shape[1:] == (height, width, 3)
        seen.append(hand.size)
    assert len(set(seen)) > 1
    collector = trainer.collector
    assert collector.inspector.replayed == {collector.samplers[size] for size in seen}


def test_passes_change_no_gradient(root: Path) -> None:
    """With plain descent, whose steps are as large as the gradients."""
    plain = ("optimizer.epsilon=1", "optimizer.learning_rate=1")
    found = []
    for size in (0, 3):
        trainer = build_job(recipe(root, *plain, f"run.micro_batch={size}")).trainer
        start = trained(trainer)
        for _ in range(3):
            trainer.iteration()
        found.append(trained(trainer))
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(start[name], weight) for name, weight in found[0].items())


def test_anchors_of_any_prompt_have_the_step_s_size(root: Path) -> None:
    trainer = build_job(recipe(root, "data.anchor=independent")).trainer
    for step in range(4):
        hand = trainer.dealer.deal(step)
        anchor = trainer.collector.pool.anchor(hand.anchor_row, device=CPU)
        assert anchor.x0.shape[1:] == SHAPES[hand.size]
    assert math_is_finite(trainer.iteration())


def math_is_finite(metrics: dict[str, float]) -> bool:
    return all(np.isfinite(value) for value in metrics.values())


def test_one_size_by_name_is_that_of_height_and_width(root: Path) -> None:
    named = build_job(recipe(root, 'data.sizes=["32x16"]')).trainer
    sides = ["data.height=16", "data.width=32"]
    by_sides = build_job(parse_recipe(TEXT.format(root=root), overrides=sides)).trainer
    for trainer in (named, by_sides):
        assert len(trainer.collector.samplers) == 1
    rows = [[trainer.iteration() for _ in range(2)] for trainer in (named, by_sides)]
    kept = [[{k: v for k, v in m.items() if "seconds" not in k} for m in row] for row in rows]
    assert kept[0] == kept[1]
    one, other = trained(named), trained(by_sides)
    assert all(torch.equal(one[name], weight) for name, weight in other.items())


def test_drift_is_measured_on_held_out_data_of_every_size(root: Path) -> None:
    """A sample's loss does not depend on its pass, nor on what sizes are beside it."""
    made = recipe(root)
    assets = Assets.build(made, CPU)
    held = assets.corpus.heldout
    assert held.size_id is not None
    assert len(set(held.size_id.tolist())) > 1
    forward = build_job(made).trainer.forward
    whole = build_drift(made, held, CPU).losses(forward, held.condition)
    cut = build_drift(recipe(root, "run.micro_batch=1"), held, CPU)
    torch.testing.assert_close(cut.losses(forward, held.condition), whole, rtol=1e-5, atol=1e-6)
    assert len(whole) == len(held.caption_id)
    assert bool(whole.isfinite().all())


def test_an_audit_samples_each_prompt_at_the_size_of_its_data(root: Path) -> None:
    made = recipe(root, "evaluation.prompts=4")
    assets = Assets.build(made, CPU)
    corpus = assets.corpus
    bench = build_bench(assets.task, corpus, assets.scorer, CPU)
    forward = build_job(made).trainer.forward
    sets = bench.sample(forward, assets.latent_shapes())
    wanted = corpus.heldout.prompt_sizes().tolist()
    for one in sets:
        assert {wanted[prompt] for prompt in one.prompts.prompt_id.tolist()} == {
            SHAPES.index((4, one.media.shape[-2] // 2, one.media.shape[-1] // 2))
        }
    values = bench.values(sets)
    assert values.prompt_id.tolist() == [i for i in range(len(bench.prompts)) for _ in range(2)]
    for one in sets:
        alone = bench.values([one])
        rows = np.isin(values.prompt_id, alone.prompt_id)
        assert np.array_equal(values.reward[rows], alone.reward)
        assert np.array_equal(values.features[rows], alone.features)
    # Real media of each size are measured as they are, in the order of the data.
    real = [corpus.real.media[torch.tensor([row])] for row in range(len(corpus.real))]
    brightness = [float(one.mean()) for one in real]
    assert len({one.shape for one in real}) > 1
    order = np.argsort(bench.real.pixels["brightness"])
    assert np.abs(np.array(brightness)[order] - np.sort(brightness)).max() < 0.02


def test_a_background_or_inline_panel_takes_several_sizes(root: Path) -> None:
    trainer = build_job(
        recipe(root, "evaluation.every=1", "evaluation.panel_samples=6", "evaluation.prompts=3")
    ).trainer
    audit = trainer.audit()
    assert {"heldout_loss", "audit/reward", "audit/frechet"} <= audit.metrics.keys()
    assert audit.shown is not None
    assert len(audit.shown.pictures) == 3


def test_what_is_said_of_sizes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    more = recipe(root, f"data.sizes={','.join(NAMES)},64x16")
    with caplog.at_level(logging.WARNING):
        _, report = encode_data(more, build_pretrained(more, CPU))
    assert report.sizes == {"16x16": 4, "32x16": 4, "16x32": 4, "64x16": 0}
    assert "sizes    16x16: 4, 32x16: 4, 16x32: 4, 64x16: 0" in report.lines()
    (note,) = report.notes
    assert note == "no sample has the size 64x16: leave it out of data.sizes"
    assert note in caplog.text
    few = recipe(root, "rollout.prompts_per_step=4", "run.steps=1")
    with caplog.at_level(logging.WARNING):
        build_job(few)
    assert "the run has no step of the size" in caplog.text


def test_the_plan_is_of_the_largest_size(root: Path) -> None:
    several, largest = plan_recipe(recipe(root)), plan_recipe(recipe(root, "data.sizes=32x16"))
    assert several.memory == largest.memory
    assert several.steps == largest.steps
    smallest = plan_recipe(recipe(root, "data.sizes=16x16"))
    assert several.memory.peak[1] > smallest.memory.peak[1]
    (line,) = [line for line in plan_lines(several) if line.startswith("  sizes")]
    assert line.split(maxsplit=1)[1] == (
        "16x16, 32x16, 16x32; a step has one; times and memory below are of 32x16"
    )


def test_a_size_that_the_model_can_t_make_is_named_as_it_was_written(root: Path) -> None:
    odd, wide = recipe(root, "data.sizes=16x16,32x17"), recipe(root, "data.sizes=16x16,512x16")
    model: Any = build_pretrained(odd, CPU)
    with pytest.raises(DataError, match=r"The size 32x17 can't be had: .* not 32x17") as caught:
        latent_shapes(odd, model)
    assert caught.value.hint == "the nearest is 32x16"
    with pytest.raises(DataError, match="not 512x16") as caught:
        latent_shapes(wide, model)
    assert caught.value.hint == "choose sides of at most 192"


def test_the_size_of_samples(root: Path) -> None:
    made = recipe(root)
    assert sample_size(made, "") == (16, 16, 1)
    assert sample_size(made, "48x16") == (16, 48, 1)
    with pytest.raises(UsageError, match="--size 48 is no size"):
        sample_size(made, "48")
    embedded = parse_recipe('[[reward]]\nname = "ink"\n')
    with pytest.raises(UsageError, match="one size"):
        sample_size(embedded, "8x8")


def test_given_frames_have_the_size_of_their_clip(tmp_path: Path) -> None:
    """Also where clips of two sizes begin with the same bytes."""
    build_i2v().save_pretrained(tmp_path / "model")
    for index in range(8):
        width, height = (64, 32) if index % 2 else (32, 64)
        clip = tmp_path / "data" / f"{index}.mp4"
        path = write_video(clip, frames=5, first=8 * (index // 2), width=width, height=height)
        caption(path, "grows")
    made = recipe(
        tmp_path,
        *("data.sizes=64x32,32x64", "data.frames=5", "data.given_frames=1"),
        *("rollout.group_size=2", "model.lora.targets=to_q"),
    )
    model: Any = build_pretrained(made, CPU)
    corpus = files_corpus(made, model)
    part = corpus.train
    assert part.size_id is not None
    sizes = part.prompt_sizes()
    assert sorted(set(sizes.tolist())) == [0, 1]
    assert torch.equal(sizes[part.caption_id], part.size_id)
    for prompt, size in enumerate(sizes.tolist()):
        condition = part.condition[torch.tensor([prompt])]
        assert isinstance(condition, WanCondition)
        bucket = Bucket(*made.data.shapes[size])
        latent = model.latent_shape(bucket.height, bucket.width, bucket.frames)
        given = [v for v in vars(condition).values() if v is not None and v.ndim == 5]
        assert given
        assert all(value.shape[-2:] == latent[-2:] for value in given)
    trainer = build_job(made).trainer
    assert [trainer.iteration()["ratio_deviation"] for _ in range(3)] == [0, 0, 0]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of videos, with pictures and clips of two lengths."""
    folder = tmp_path_factory.mktemp("mixed")
    parts = {**wan_parts.text_parts(), "vae": wan_parts.vae()}
    WanPipeline(transformer=wan_parts.transformer(), **parts).save_pretrained(folder / "model")
    for index in range(9):
        stem = folder / "data" / f"{index}"
        if index % 3 == 0:
            write_image(stem.with_suffix(".png"), width=32, height=32)
        else:
            length = 5 if index % 3 == 1 else 9
            write_video(stem.with_suffix(".mp4"), frames=length, width=32, height=16, first=index)
        stem.with_suffix(".txt").write_text(f"a thing of kind {index}")
    return folder


def test_pictures_and_clips_of_several_lengths(mixed: Path) -> None:
    made = parse_recipe(
        TEXT.format(root=mixed),
        overrides=[
            *("data.sizes=32x32x1,32x16,32x16x9", "data.frames=5", "data.heldout=0.35"),
            *("rollout.group_size=2", "rollout.prompts_per_step=1", "model.lora.targets=to_q"),
            *("evaluation.every=1", "evaluation.panel_samples=6"),
        ],
    )
    assert made.data.shapes == ((32, 32, 1), (16, 32, 5), (16, 32, 9))
    trainer = build_job(made).trainer
    latents = [one.latent_shape[1:] for one in trainer.collector.samplers]
    factor = 32 // latents[0][1]
    side = 32 // factor
    assert latents == [(1, side, side), (2, side // 2, side), (3, side // 2, side)]
    sizes = {trainer.iteration()["size"] for _ in range(6)}
    assert len(sizes) >= 2
    panel = trainer.watch.monitor
    assert isinstance(panel, Panel)
    held = panel._bench.corpus.heldout.prompt_sizes().tolist()
    assert len(set(held)) == 2
    audit = trainer.audit()
    assert {"heldout_loss", "audit/frechet"} <= audit.metrics.keys()
    # Pictures and middle frames are shown on one canvas, and motion has no figures.
    assert audit.shown is not None
    assert audit.shown.pictures.shape == (3, 32, 32, 3)
    assert panel._bench.real.frames is None
    assert panel._found.values.frames is None


def test_a_streamed_set_has_sizes_as_its_files_have(root: Path, tmp_path: Path) -> None:
    rows = []
    for path in sorted((root / "data").glob("*.png")):
        shutil.copy(path, tmp_path / path.name)
        rows.append({"file_name": path.name, "caption": path.with_suffix(".txt").read_text()})
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    streamed = recipe(root, "data.source=hub", f"data.path={tmp_path}")
    model: Any = build_pretrained(streamed, CPU)
    _, report = encode_data(streamed, model)
    assert report.sizes == {"16x16": 4, "32x16": 4, "16x32": 4}
    corpus = files_corpus(streamed, model)
    for part in (corpus.train, corpus.heldout):
        assert part.size_id is not None
        for row, size in enumerate(part.size_id.tolist()):
            assert part.x0[torch.tensor([row])].shape[1:] == SHAPES[size]
