"""Samples of the base model that stand for data: drawn once, kept in the cache, found again.

A sample's file is named by all that it depends on: the network's weights, the prompt's condition,
the sampler and its settings, the seed and the number of the sample. So a run that was killed goes
on where it was, more samples per prompt extend those that are there, and a stale one can't be
used. The noise is named by (seed, prompt, sample), so that it does not depend on the batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddrl.builders.data.corpus import Part
from ddrl.builders.identity import condition_hash, text_hash, weights_hash
from ddrl.builders.keys import cache_key, family_code
from ddrl.builders.sampler import build_forward, build_transitions
from ddrl.builders.store import Progress
from ddrl.data.encoded.cache import EncodedCache
from ddrl.data.encoded.stored import StoredLatents
from ddrl.data.samples import sample_id
from ddrl.diffusion.schedule import time_grid
from ddrl.errors import DataError
from ddrl.models.base import DiffusionModel
from ddrl.models.lora.adapter import has_lora, lora_disabled
from ddrl.recipe import Recipe
from ddrl.records import Condition, LatentRows
from ddrl.seeding import derive_seed, sample_noise
from ddrl.training.forward import Forward
from ddrl.training.rollout import Sampler, batches, sample_ode

FORMAT = "ddrl-synthetic/1"  # part of every key: raise it when the making of samples changes
_IN_MEMORY = 2**28  # bytes: up to here, latents are read once and kept

Draw = Callable[[int, Condition, Sequence[int]], Tensor]
"""(name of the prompt, its condition (1 row), numbers of the samples) -> latents, a row each."""


@dataclass(frozen=True)
class Drawn:
    """One sample.

    Attributes:
        key: of its latents in the cache.
        prompt: the prompt's position among the captions.
        text: the prompt.
        prompt_name: integer that names the prompt's noise, whatever prompts are beside it.
        sample: number of the sample, counted from 0 for every prompt.
        score: its reward, where samples were chosen by it.
    """

    key: str
    prompt: int
    text: str
    prompt_name: int
    sample: int
    score: float | None = None


@dataclass(frozen=True)
class Synthetic:
    """N samples, prompt by prompt.

    Attributes:
        latents: shape (N, ...), float32, on the CPU.
        caption_id: the prompt of each, shape (N,).
        samples: what each is, length N.
        settings: of the sampler, the same for all.
        num_made: drawn now.
        num_drawn: now and before; N, unless only the best were kept.
    """

    latents: LatentRows
    caption_id: Tensor
    samples: tuple[Drawn, ...]
    settings: Mapping[str, Any]
    num_made: int
    num_drawn: int

    def lines(self) -> list[str]:
        """What was done, for a terminal."""
        made, drawn, kept = self.num_made, self.num_drawn, len(self.samples)
        lines = [f"samples  {made} made, {drawn - made} reused"]
        return lines if kept == drawn else [*lines, f"kept     {kept}, the best by reward"]


def synthesize(
    recipe: Recipe,
    model: DiffusionModel,
    part: Part,
    *,
    per_prompt: int,
    progress: Progress | None = None,
) -> Synthetic:
    """Draw the samples of ``[data.synthetic]`` for every prompt, or find them in the cache.

    Args:
        recipe: whose settings and cache.
        model: the base: an adapter is switched off, trained weights have to be put back before.
        part: whose prompts; its own latents only tell the shape.
        per_prompt: samples of each.
        progress: called as samples are made.

    Raises:
        DataError: a sample is not finite, the cache fails, or the data has several sizes.
    """
    cache = EncodedCache(Path(recipe.run.cache) / "synthetic")
    shape = _only_shape(recipe, part)
    draw, settings = _sampler(recipe, model, shape)
    made_from = [FORMAT, weights_hash(model), settings, list(shape)]
    samples, done = [], 0
    cache.sweep()
    for prompt, text in enumerate(part.captions):
        name = sample_id(text)
        seen = [*made_from, text, condition_hash(part.condition[prompt : prompt + 1])]
        key = cache_key("synthetic", *seen, code=family_code(model))
        for sample in range(per_prompt):
            digest = text_hash([key, sample])
            samples.append(Drawn(digest, prompt, text, name, sample))
    absent = [one for one in samples if not cache.has("media", one.key)]
    with _as_base(model):
        for batch in _batches(absent, recipe.run.micro_batch):
            condition = part.condition[batch[0].prompt : batch[0].prompt + 1]
            latents = draw(batch[0].prompt_name, condition, [one.sample for one in batch])
            for one, row in zip(batch, latents, strict=True):
                if not bool(row.isfinite().all()):
                    raise DataError(
                        f"Sample {one.sample} of the base for {one.text!r:.80} is not finite.",
                        hint="look at the sampler in data.synthetic and rollout, its guidance, and "
                        "model.dtype and run.precision",
                    )
                cache.write("media", one.key, {"latents": row})
            done += len(batch)
            if progress is not None:
                progress("samples of the base", done, len(absent), "")
    shown = {name: value for name, value in settings.items() if name != "coefficients"}
    if absent:
        _write_index(cache, shown, samples)
    return Synthetic(
        latents=_latents(cache, samples),
        caption_id=torch.tensor([one.prompt for one in samples]),
        samples=tuple(samples),
        settings=shown,
        num_made=len(absent),
        num_drawn=len(samples),
    )


def _only_shape(recipe: Recipe, part: Part) -> tuple[int, ...]:
    """The shape of one sample's latents.

    Raises:
        DataError: the data has several sizes.
    """
    if part.size_id is not None:
        raise DataError(
            "Samples of the base have one size, and data.sizes has several.",
            hint=f"name one of them: data.sizes={recipe.data.sizes[0]}",
        )
    return tuple(part.x0.shape[1:])


def with_samples(recipe: Recipe, made: Synthetic, samples: Sequence[Drawn]) -> Synthetic:
    """The same with these samples alone, which are in the cache.

    Raises:
        DataError: the cache can't be read.
    """
    cache = EncodedCache(Path(recipe.run.cache) / "synthetic")
    return replace(
        made,
        latents=_latents(cache, samples),
        caption_id=torch.tensor([one.prompt for one in samples]),
        samples=tuple(samples),
    )


def _latents(cache: EncodedCache, samples: Sequence[Drawn]) -> LatentRows:
    stored = StoredLatents(cache, [one.key for one in samples])
    return stored[:] if math.prod(stored.shape) * 4 <= _IN_MEMORY else stored


def _sampler(
    recipe: Recipe, model: DiffusionModel, shape: tuple[int, ...]
) -> tuple[Draw, dict[str, Any]]:
    """The sampler, and all that its samples depend on besides weights, prompt and number."""
    section = recipe.data.synthetic
    guidance = section.guidance or recipe.rollout.guidance
    forward = build_forward(recipe, model, guidance=guidance)
    make = _ode if section.sampler == "ode" else _sde
    draw, settings = make(recipe, forward, shape)
    common = {
        "sampler": section.sampler,
        "guidance": guidance,
        "seed": section.seed,
        "precision": recipe.run.precision,
    }
    return draw, {**common, **settings}


def _ode(recipe: Recipe, forward: Forward, shape: tuple[int, ...]) -> tuple[Draw, dict[str, Any]]:
    """The evaluation's solver."""
    section, model = recipe.data.synthetic, forward.model
    solver, steps = recipe.evaluation.solver, section.steps or recipe.evaluation.steps
    times = time_grid(steps, shift=model.time_shift(shape, steps))
    device = next(model.transformer.parameters()).device

    def draw(name: int, condition: Condition, samples: Sequence[int]) -> Tensor:
        noise = sample_noise(
            shape, run_seed=section.seed, purpose="synthetic", step=name, sample_ids=samples
        )
        rows = condition.to(device)[torch.zeros(len(samples), dtype=torch.int64, device=device)]
        return sample_ode(forward, rows, noise.to(device), times=times, solver=solver).cpu()

    return draw, {"solver": solver, "steps": steps, "coefficients": [times.tolist()]}


def _sde(recipe: Recipe, forward: Forward, shape: tuple[int, ...]) -> tuple[Draw, dict[str, Any]]:
    """The rollout's kernel."""
    section, run, model = recipe.data.synthetic, recipe.rollout, forward.model
    steps = section.steps or run.steps
    transitions = build_transitions(
        run.model_copy(update={"steps": steps}),
        model.process,
        own_shift=model.time_shift(shape, steps),
    )
    seed = derive_seed(section.seed, "synthetic")  # not the noise of a run's own rollouts
    device = next(model.transformer.parameters()).device
    dtype = getattr(torch, run.storage_dtype)
    sampler = Sampler(
        forward, transitions, latent_shape=shape, seed=seed, storage_dtype=dtype, device=device
    )

    def draw(name: int, condition: Condition, samples: Sequence[int]) -> Tensor:
        group = torch.zeros(len(samples), dtype=torch.int64)
        drawn = sampler.rollout(condition.to(device), group, step=name, sample_ids=samples)
        return drawn.final.cpu()

    columns = (transitions.times, transitions.a, transitions.b, transitions.std)
    return draw, {
        "kernel": run.kernel,
        "eta": run.eta,
        "steps": steps,
        "storage_dtype": run.storage_dtype,
        "coefficients": [column.tolist() for column in columns],
    }


def _batches(samples: Sequence[Drawn], size: int) -> Iterator[Sequence[Drawn]]:
    """Samples of one prompt each, at most ``size`` (0: all of the prompt's)."""
    for _, group in itertools.groupby(samples, key=lambda one: one.prompt):
        own = list(group)
        yield from (own[rows] for rows in batches(len(own), size))


def _as_base(model: DiffusionModel) -> AbstractContextManager[None]:
    """The model without its adapter."""
    return lora_disabled(model.transformer) if has_lora(model.transformer) else nullcontext()


def _write_index(
    cache: EncodedCache, settings: Mapping[str, Any], samples: Sequence[Drawn]
) -> None:
    """Say in ``index.json`` how every sample was made, those of earlier calls included."""
    try:
        known = cache.index().get("samples", {})
    except DataError:  # there is none yet, or not a whole one: nothing depends on it
        known = {}
    entries = {
        one.key: {
            "prompt": one.text,
            "sample": one.sample,
            "noise": [settings["seed"], one.prompt_name, one.sample],
            **settings,
        }
        for one in samples
    }
    cache.write_index({"samples": {**known, **entries}})
