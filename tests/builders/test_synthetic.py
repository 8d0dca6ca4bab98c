"""Samples of the base as data: what they depend on, and what is made anew when that changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.models.families.test_sd3 import build_pipeline
from torch import Tensor

from ddrl.builders.data.corpus import Part
from ddrl.builders.store import Progress
from ddrl.builders.synthetic import drawing as synthetic
from ddrl.builders.synthetic.drawing import Synthetic, synthesize
from ddrl.errors import DataError
from ddrl.jobs.train.trainer import build_job
from ddrl.models.base import DiffusionModel
from ddrl.models.families.sd3 import SD3
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import TinyCondition, TinyModel
from ddrl.recipe import Recipe, parse_recipe
from ddrl.training.trainer import Trainer

TEXTS = ("zero", "one", "two")
NOTHING = torch.empty(0, dtype=torch.int64)
REWARD = '[[reward]]\nname = "ink"\n'


def model(*, seed: int = 0, texts: Sequence[str] = TEXTS) -> TinyModel:
    made = TinyModel(TinyConfig(tuple(texts), 8, 8, width=16, depth=1), seed=seed)
    noise = torch.Generator().manual_seed(seed)
    for parameter in made.transformer.parameters():  # the last layer starts at 0
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=noise)
    return made


def part(of: TinyModel, texts: Sequence[str] = TEXTS) -> Part:
    return Part(tuple(texts), of.encode(texts), NOTHING, torch.empty(0, 1, 8, 8))


def recipe(cache: Path, *overrides: str) -> Recipe:
    where = [f"run.cache={cache}", f"run.folder={cache / 'run'}", "run.device=cpu"]
    small = ["data.anchor=synthetic", "data.synthetic.per_prompt=3", "rollout.steps=4"]
    return parse_recipe(REWARD, overrides=[*where, *small, *overrides])


def draw(
    of: Recipe, base: DiffusionModel, prompts: Part, *, progress: Progress | None = None
) -> Synthetic:
    """As many as the recipe says."""
    wanted = of.data.synthetic.per_prompt
    return synthesize(of, base, prompts, per_prompt=wanted, progress=progress)


def made(cache: Path, *overrides: str, of: TinyModel | None = None) -> Synthetic:
    base = of or model()
    return draw(recipe(cache, *overrides), base, part(base))


def test_samples_of_every_prompt_in_order(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    base = model()
    first = draw(
        recipe(tmp_path),
        base,
        part(base),
        progress=lambda what, done, total, _: seen.append((what, done, total)),
    )
    assert first.latents.shape == (9, 1, 8, 8)
    assert first.caption_id.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [one.sample for one in first.samples] == [0, 1, 2] * 3
    assert seen == [("samples of the base", done, 9) for done in (3, 6, 9)]
    assert first.num_made == 9
    rows = first.latents[:]
    assert len({row.numpy().tobytes() for row in rows}) == 9
    again = made(tmp_path)
    assert again.num_made == 0
    assert torch.equal(again.latents[:], rows)
    assert again.lines() == ["samples  0 made, 9 reused"]


def test_the_index_says_how_each_was_made(tmp_path: Path) -> None:
    first = made(tmp_path, "data.synthetic.seed=5")
    made(tmp_path, "data.synthetic.sampler=ode", "evaluation.steps=3")
    index = json.loads((tmp_path / "synthetic" / "index.json").read_text())["samples"]
    assert len(index) == 18
    entry = index[first.samples[4].key]
    assert (entry["prompt"], entry["sample"], entry["sampler"]) == ("one", 1, "sde")
    assert entry["noise"] == [5, first.samples[4].prompt_name, 1]
    assert (entry["kernel"], entry["steps"]) == ("flow_sde", 4)


@pytest.mark.parametrize("sampler", ["sde", "ode"])
def test_the_batch_does_not_matter(tmp_path: Path, sampler: str) -> None:
    how = [f"data.synthetic.sampler={sampler}", "evaluation.steps=3"]
    together = made(tmp_path / "a", *how)
    apart = made(tmp_path / "b", *how, "run.micro_batch=2")
    assert [one.key for one in together.samples] == [one.key for one in apart.samples]
    torch.testing.assert_close(together.latents[:], apart.latents[:], rtol=0, atol=1e-5)


def test_more_per_prompt_extend_those_that_are_there(tmp_path: Path) -> None:
    few = made(tmp_path)
    many = made(tmp_path, "data.synthetic.per_prompt=5")
    assert many.num_made == 6
    rows = [i for i, one in enumerate(many.samples) if one.sample < 3]
    assert torch.equal(many.latents[:][rows], few.latents[:])
    assert made(tmp_path, "data.synthetic.per_prompt=2").num_made == 0


ANEW = [
    "data.synthetic.seed=1",
    "data.synthetic.sampler=ode",
    "data.synthetic.steps=5",
    "data.synthetic.guidance=2",
    "rollout.guidance=3",
    "rollout.eta=0.5",
    "rollout.kernel=ddim",
    "rollout.steps=6",
    "rollout.time_shift=3",
    "rollout.storage_dtype=bfloat16",
    "run.precision=bfloat16",
]
REUSED = [
    "run.seed=1",
    "run.steps=3",
    "run.micro_batch=1",
    "objective.beta=0.3",
    "rollout.group_size=4",
    "evaluation.steps=5",
    "data.synthetic.steps=4",
    "data.synthetic.guidance=1",
    "data.anchor=mixed",
]


def test_what_samples_depend_on(tmp_path: Path) -> None:
    first = made(tmp_path)
    for override in ANEW:
        other = made(tmp_path, override)
        assert other.num_made == 9, override
        assert not torch.equal(other.latents[:], first.latents[:]), override
    for override in REUSED:
        assert made(tmp_path, override).num_made == 0, override
    assert torch.equal(made(tmp_path).latents[:], first.latents[:])


def test_what_samples_of_the_ode_depend_on(tmp_path: Path) -> None:
    ode = ("data.synthetic.sampler=ode", "evaluation.steps=3")
    made(tmp_path, *ode)
    for override in ("evaluation.steps=4", "evaluation.solver=euler", "data.synthetic.steps=5"):
        assert made(tmp_path, *ode, override).num_made == 9, override
    for override in ("rollout.eta=0.5", "rollout.steps=5", "evaluation.seed=1"):
        assert made(tmp_path, *ode, override).num_made == 0, override


def test_another_prompt_makes_its_own_and_no_other(tmp_path: Path) -> None:
    base = model(texts=("zero", "one", "two", "three"))
    first = draw(recipe(tmp_path), base, part(base, TEXTS))
    mixed = draw(recipe(tmp_path), base, part(base, ("three", "two", "zero")))
    assert (first.num_made, mixed.num_made) == (9, 3)
    assert torch.equal(mixed.latents[:][3:6], first.latents[:][6:9])


def test_another_weight_makes_all_anew(tmp_path: Path) -> None:
    base = model()
    made(tmp_path, of=base)
    moved = next(p for n, p in base.transformer.named_parameters() if n.endswith("bias"))
    moved.data[-1] += 1e-3
    assert made(tmp_path, of=base).num_made == 9
    moved.data[-1] -= 1e-3
    assert made(tmp_path, of=model(seed=1)).num_made == 9
    assert made(tmp_path, of=model()).num_made == 0


def test_a_broken_file_is_made_anew(tmp_path: Path) -> None:
    first = made(tmp_path)
    broken = next((tmp_path / "synthetic" / "media").rglob(f"{first.samples[4].key}.safetensors"))
    broken.write_bytes(broken.read_bytes()[:40])
    again = made(tmp_path)
    assert again.num_made == 1
    torch.testing.assert_close(again.latents[:], first.latents[:], rtol=0, atol=1e-5)


def test_what_was_stopped_goes_on(tmp_path: Path) -> None:
    base = model()

    def stop(_what: str, done: int, _total: int, _note: str) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(recipe(tmp_path), base, part(base), progress=stop)
    rest = made(tmp_path)
    assert rest.num_made == 3
    assert torch.equal(rest.latents[:], made(tmp_path / "straight").latents[:])


def test_large_ones_stay_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = made(tmp_path).latents
    monkeypatch.setattr(synthetic, "_IN_MEMORY", 100)
    read = made(tmp_path).latents
    assert isinstance(kept, Tensor)
    assert not isinstance(read, Tensor)
    rows = torch.tensor([7, 0, 7])
    assert torch.equal(read[rows], kept[rows])


def test_a_sample_that_is_not_finite(tmp_path: Path) -> None:
    base = model()
    for parameter in base.transformer.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(DataError, match=r"Sample 0 of the base for 'zero' is not finite") as caught:
        made(tmp_path, of=base)
    assert "data.synthetic" in caught.value.hint
    assert not list((tmp_path / "synthetic").rglob("*.safetensors"))


def test_an_adapter_is_no_part_of_the_base(tmp_path: Path) -> None:
    base = SD3(build_pipeline(tmp_path / "tokenizers"))
    texts = ("a cat", "a dog")
    prompts = Part(texts, base.encode(texts), NOTHING, torch.empty(0, *base.latent_shape(16, 16)))
    first = draw(recipe(tmp_path), base, prompts)
    assert first.num_made == 6
    add_lora(base.transformer, LoRASettings(rank=2, alpha=4.0), targets=base.lora_targets)
    for name, parameter in base.transformer.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.1)  # as if it had been trained
    assert draw(recipe(tmp_path), base, prompts).num_made == 0
    again = draw(recipe(tmp_path / "again"), base, prompts)
    torch.testing.assert_close(again.latents[:], first.latents[:], rtol=0, atol=1e-5)


def test_what_is_seen_of_a_prompt_counts(tmp_path: Path) -> None:
    base = model()
    known = part(base)
    assert draw(recipe(tmp_path), base, known).num_made == 9
    labels = TinyCondition(torch.tensor([1, 2, 1]))  # "two" as another text encoder has it
    other = Part(TEXTS, labels, NOTHING, known.x0)
    assert draw(recipe(tmp_path), base, other).num_made == 3


SMALL = """
[model]
width = 16
depth = 1
[model.pretrain]
steps = 20
batch_size = 16
[[reward]]
name = "ink"
[rollout]
prompts_per_step = 3
group_size = 4
steps = 4
"""


def test_few_samples_that_come_often_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = [f"run.cache={tmp_path}", f"run.folder={tmp_path / 'run'}", "run.device=cpu"]
    few = ["data.anchor=synthetic", "data.synthetic.per_prompt=1", "run.tensorboard=false"]
    with caplog.at_level("INFO", "ddrl"):
        build_job(parse_recipe(SMALL, overrides=[*where, *few, "run.steps=40"]))
        assert "10 synthetic samples, each of which comes up about 48 times" in caplog.text
        assert "learned by heart" not in caplog.text
        build_job(parse_recipe(SMALL, overrides=[*where, *few, "run.steps=45"]))
        assert "learned by heart" in caplog.text
        caplog.clear()
        mixed = ["data.anchor=mixed", "data.synthetic.per_prompt=1", "run.steps=45"]
        build_job(parse_recipe(SMALL, overrides=[*where, *mixed]))
        assert "comes up about 27 times" in caplog.text


def test_the_pool_of_a_job(tmp_path: Path) -> None:
    def trainer(*overrides: str) -> Trainer:
        where = [f"run.cache={tmp_path}", f"run.folder={tmp_path / 'run'}", "run.device=cpu"]
        return build_job(parse_recipe(SMALL, overrides=[*where, *overrides])).trainer

    paired = trainer()
    num_real = len(paired.collector.pool.x0)
    made_of = trainer("data.anchor=synthetic", "data.synthetic.per_prompt=5")
    assert made_of.collector.pool.x0.shape == (50, 1, 8, 8)
    mixed = trainer("data.anchor=mixed", "data.synthetic.per_prompt=5", "data.synthetic_share=0.25")
    assert len(mixed.collector.pool.x0) == num_real + 50
    assert torch.equal(mixed.collector.pool.x0[slice(num_real, None)], made_of.collector.pool.x0[:])
    assert torch.equal(mixed.collector.pool.x0[slice(num_real)], paired.collector.pool.x0[:])
    kinds = mixed.dealer.deal(0).anchor_row.reshape(3, 4) >= num_real
    assert kinds.sum(1).tolist() == [1, 1, 1]
    for one in (made_of, mixed):
        assert one.iteration()["data_loss"] > 0
    alone = trainer("data.anchor=synthetic", "objective.regularizer=none")
    assert len(alone.collector.pool.x0) == num_real  # nothing is sampled that nobody looks at
    assert "data_loss" not in alone.iteration()
    tilt = trainer("data.anchor=synthetic", "objective.advantage=tilt")
    assert len(tilt.collector.pool.x0) == 90  # 150 steps of 12 anchors, each sample about 20 times
    tilt.iteration()
