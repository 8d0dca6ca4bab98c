"""Deterministic samples: the same prompts and seeds give every model the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.solvers import Solver
from ddrl.models.decoding import decode_samples
from ddrl.records import ConditionRows, Prompts
from ddrl.seeding import sample_noise
from ddrl.training.forward import Forward
from ddrl.training.rollout import batches, sample_ode


@dataclass(frozen=True)
class SampleSet:
    """Samples of P prompts, S each.

    Attributes:
        media: pixels in [0, 1], on the CPU, prompt by prompt, shape (P S, 3, H, W).
        prompts: the prompt of every sample, length P S; ``prompt_id`` counts from 0 to P - 1.
    """

    media: Tensor
    prompts: Prompts


def generate(
    forward: Forward,
    texts: Sequence[str],
    *,
    metadata: Sequence[Mapping[str, Any]] = (),
    condition: ConditionRows | None = None,
    chosen: Sequence[int] | None = None,
    samples_per_prompt: int,
    latent_shape: Sequence[int],
    seed: int,
    num_steps: int = 30,
    solver: Solver = "heun",
    micro_batch: int = 0,
    device: torch.device | str = "cpu",
) -> SampleSet:
    """Sample with the ODE.

    The noise of sample s of prompt p is named by (seed, p, s), so that more samples per prompt
    extend the set and leave those before as they were.

    Args:
        forward: the model.
        texts: P prompts; a text may be there twice, with other first frames.
        metadata: of the prompts, for rewards; none: nothing is known of any.
        condition: their encodings, one row each, with the frames that are given; default: the
            model encodes the texts.
        chosen: which of the prompts are sampled; default: all. Their noise is the same either way.
        samples_per_prompt: S.
        latent_shape: of one sample.
        seed: of the noise.
        num_steps: of the solver.
        solver: see :func:`ddrl.diffusion.solvers.solve`.
        micro_batch: samples per forward pass, 0 for all.
        device: where the model is.

    Raises:
        WeightsError: the decoder has made pixels that are no numbers.
    """
    numbers = range(len(texts)) if chosen is None else chosen
    prompt_id = torch.tensor(numbers).repeat_interleave(samples_per_prompt)
    noise = _noise(numbers, samples_per_prompt, latent_shape, seed)
    model = forward.model
    known = model.encode(texts) if condition is None else condition
    times = time_grid(num_steps, shift=model.time_shift(latent_shape, num_steps))
    decoded = []
    for rows in batches(len(noise), micro_batch):  # the conditions of one pass at a time
        given = known[prompt_id[rows]].to(device)
        latents = sample_ode(forward, given, noise[rows].to(device), times=times, solver=solver)
        decoded += [
            decode_samples(
                model,
                latents[some],
                given[some],
                name=_name(texts, prompt_id[rows][some]),
            )
            for some in batches(len(latents), 256)
        ]
    media = torch.cat(decoded)
    prompts = Prompts.numbered(texts, metadata)
    return SampleSet(media, prompts.select(prompt_id.tolist()))


def _noise(prompts: Sequence[int], samples: int, latent_shape: Sequence[int], seed: int) -> Tensor:
    """Return where the samples of all prompts start, prompt by prompt."""
    return torch.cat(
        [
            sample_noise(
                latent_shape,
                run_seed=seed,
                purpose="generate",
                step=prompt,
                sample_ids=range(samples),
            )
            for prompt in prompts
        ]
    )


def _name(texts: Sequence[str], prompt_id: Tensor) -> Callable[[int], str]:
    """Return what to call a sample, by its row."""
    return lambda row: f"a sample of the prompt {texts[int(prompt_id[row])]!r:.80}"
