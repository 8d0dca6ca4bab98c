"""The memory of a run: what is held all the time, and the peak of each phase of an iteration."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ddrl.recipe.recipe import Recipe

_WIDTH = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Working:
    """Bytes that a pass over one micro-batch needs at its peak, in addition to what is held.

    Attributes:
        encode: one sample of the data, through the VAE.
        rollout: a pass without gradient.
        decode: latents to pixels.
        update: forward and backward, of the term that needs more.
        evaluate: a pass without gradient, of the weights as they are trained.
    """

    encode: int
    rollout: int
    decode: int
    update: int
    evaluate: int


@dataclass(frozen=True)
class Footprint:
    """What a model and its data take, in bytes.

    Attributes:
        frozen: weights of the network that are not trained.
        trained: weights that are, in float32.
        text_encoders: and encoders of images.
        vae: the autoencoder.
        latent: numbers in the latents of a sample.
        condition: an encoded text.
        merged: weights that are made for a rollout, beside those that stay.
        noise_at_once: whether the noise of a rollout is on the device for all steps at once.
        working: of passes; None where they could not be traced.
    """

    frozen: int
    trained: int
    latent: int
    text_encoders: int = 0
    vae: int = 0
    condition: int = 0
    merged: int = 0
    noise_at_once: bool = True
    working: Working | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes on the device that computes.

    Attributes:
        frozen: weights of the network that are not trained.
        trained: weights that are.
        text_encoders: 0 where they are kept on the CPU.
        vae: 0 where it is kept on the CPU.
        gradients: of the trained weights.
        moments: AdamW's two.
        ema: the averaged weights.
        reference: the frozen copy of the network; an adapter that is switched off needs none.
        trajectory: latents of all samples at all steps; 0 where they are kept on the CPU.
        conditions: encoded texts of an iteration.
        phases: the peak of each phase, all of the above included as far as it is there then;
            empty where passes could not be traced.
    """

    frozen: int
    trained: int
    text_encoders: int
    vae: int
    gradients: int
    moments: int
    ema: int
    reference: int
    trajectory: int
    conditions: int
    phases: tuple[tuple[str, int], ...] = ()

    @property
    def held(self) -> int:
        """What is there through the whole iteration."""
        network = self.frozen + self.trained + self.gradients + self.moments + self.ema
        return network + self.reference + self.text_encoders + self.vae + self.conditions

    @property
    def peak(self) -> tuple[str, int]:
        """The phase that needs most, and how much; ``("", held)`` where it isn't known."""
        return max(self.phases, key=lambda phase: phase[1], default=("", self.held))


def plan_memory(recipe: Recipe, footprint: Footprint, *, num_samples: int, num_data: int) -> Memory:
    """Work out the memory of a run.

    Args:
        recipe: a checked recipe.
        footprint: of its model and data.
        num_samples: rollouts per iteration, 0 without a policy term.
        num_data: data samples per iteration, 0 without a data term.
    """
    rollout, trained = recipe.rollout, footprint.trained
    is_offloaded = recipe.model.offload
    needs_start = recipe.objective.regularizer == "reference" or recipe.data.target == "teacher"
    is_copied = needs_start and not recipe.model.lora.is_used
    on_device = 0 if is_offloaded else 1
    is_on_host = rollout.storage_device == "host"
    numbers = num_samples * (rollout.steps + 1) * footprint.latent
    memory = Memory(
        frozen=footprint.frozen,
        trained=trained,
        text_encoders=footprint.text_encoders * on_device,
        vae=footprint.vae * on_device,
        gradients=trained,
        moments=2 * trained,
        ema=trained,
        reference=(footprint.frozen + trained) if is_copied else 0,
        trajectory=0 if is_on_host else numbers * _WIDTH[rollout.storage_dtype],
        conditions=footprint.condition * (rollout.prompts_per_step + num_data),
    )
    if footprint.working is None:
        return memory
    noise = 4 * numbers
    if not footprint.noise_at_once:  # a step's of a micro-batch, and that of the next
        rows = min(recipe.run.micro_batch or num_samples, num_samples)
        noise = 4 * 2 * rows * footprint.latent
    phases = _phases(recipe, memory, footprint, num_samples, noise=noise)
    return replace(memory, phases=phases)


def _phases(
    recipe: Recipe,
    memory: Memory,
    footprint: Footprint,
    num_samples: int,
    *,
    noise: int,
) -> tuple[tuple[str, int], ...]:
    """The peaks of the phases that the run has, in their order."""
    working = footprint.working
    assert working is not None
    vae = footprint.vae - memory.vae  # put on the device for its own phases, if it is kept off it
    phases: list[tuple[str, int]] = []
    if not recipe.model.is_embedded:
        network, media = memory.frozen + memory.trained, footprint.vae + working.encode
        texts = footprint.text_encoders
        # Off the device, the parts for texts and those for media are never there together.
        both = max(texts, media) if recipe.model.offload else texts + media
        phases.append(("encode", network + both))
    if num_samples:
        busy = memory.held + memory.trajectory
        phases.append(("rollout", busy + noise + footprint.merged + working.rollout))
        # Pixels go to the CPU at once. With micro-batches the rollout goes on after a decode.
        is_between = bool(recipe.run.micro_batch) and recipe.scoring.overlap
        merged = footprint.merged if is_between else 0
        phases.append(("decode", busy + merged + vae + working.decode))
    phases.append(("update", memory.held + memory.trajectory + working.update))
    if recipe.evaluation.every:  # of the averaged weights, while the trained ones are put aside
        phases.append(("evaluation", memory.held + memory.trained + working.evaluate))
    return tuple(phases)
