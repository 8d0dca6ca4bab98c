"""The sections of a recipe: every key with its type, bounds, default and description.

TOML has no null, so a number that can be switched off is off at 0. Rules that tie several keys
together live in ``ddrl.recipe.rules.together``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ddrl.recipe.sections.base import Section, as_tuple
from ddrl.recipe.sections.rewards import HeldoutRewardSection

Kernel = Literal["ode", "flow_sde", "dance_sde", "ddim", "cps"]
"""The transition kernels of eq. (T1), by name."""

MAX_SEED = 2**63 - 1  # what PyTorch takes


StepSelection = Annotated[Literal["all"] | tuple[int, ...], BeforeValidator(as_tuple)]
"""``"all"``, or the numbers of some of the sampler's steps, counted from 0 (pure noise)."""


class RolloutSection(Section):
    """How samples are drawn from the policy, eq. (T1)."""

    prompts_per_step: int = Field(
        10, ge=1, le=100_000, description="Prompts, hence groups, per step."
    )
    group_size: int = Field(16, ge=1, le=100_000, description="Samples per prompt.")
    steps: int = Field(10, ge=1, le=10_000, description="Steps of the sampler, K.")
    kernel: Kernel = Field("flow_sde", description="Transition kernel, eq. (T1).")
    eta: float = Field(
        0.7,
        ge=0,
        description="Noise level of the kernel; above 0, and at most 1 for `ddim` and `cps`.",
    )
    time_shift: float = Field(
        0.0,
        ge=0,
        description="Shift of the time grid; above 1 spends more steps near the noise; 0 = the "
        "model's own.",
    )
    stochastic_steps: StepSelection = Field(
        "all", description="Steps that use the kernel; the others follow the ODE."
    )
    trained_steps: StepSelection = Field(
        "all", description="Steps that enter the loss; `all` = every step with noise."
    )
    guidance: float = Field(
        1.0, ge=0, description="Classifier-free guidance scale, above 0; 1 = off."
    )
    storage_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type that the trajectory's latents are stored in."
    )
    storage_device: Literal["device", "host"] = Field(
        "device",
        description="Memory that the trajectory's latents are stored in: `host` keeps them off the "
        "GPU, where long clips of many steps take gigabytes, and copies each step there and back.",
    )
    merge: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Draw samples with weights made once per rollout, for faster passes: the "
        "adapter merged into the base, and matrices in bfloat16 where `run.precision` is. It takes "
        "memory for these weights meanwhile. With an adapter, ratios start from the update's own "
        "probabilities, which later updates of a rollout need passes for: so `auto` merges where "
        "there is one update (`diffusers` only).",
    )


class ObjectiveSection(Section):
    """The loss, eq. (L1)."""

    policy: Literal["reinforce", "grpo", "none"] = Field(
        "grpo",
        description="Policy term; `none` leaves the data term alone: supervised fine-tuning.",
    )
    regularizer: Literal["data", "reference", "none"] = Field(
        "data", description="`data` is DDRL, `reference` is Flow-GRPO, `none` is DanceGRPO."
    )
    beta: float = Field(
        1.0,
        ge=0,
        description="Strength of the regularizer, in units of the advantage: reward units, or "
        "standard deviations of the reward for `group` and `global`.",
    )
    drift_budget: float = Field(
        0.0,
        ge=0,
        description="Rise of the diffusion loss on held-out data that `beta` is steered to, as a "
        "fraction, such as 0.03; `beta` is then only where it starts; 0 = `beta` stays.",
    )
    drift_budget_every: int = Field(
        5, ge=1, description="Iterations between corrections of `beta` (`drift_budget` only)."
    )
    step_weight: Literal["path", "velocity", "geometric"] = Field(
        "path",
        description="Weight omega_k of a step, shared by both terms: 1, 1/W_k or 1/sqrt(W_k).",
    )
    advantage: Literal["group", "tilt", "global", "center"] = Field(
        "group", description="How rewards become advantages, eqs. (A1) to (A4)."
    )
    advantage_clip: float = Field(
        5.0,
        ge=0,
        description="Advantages are cut here, in their own unit (see `beta`); 0 = off.",
    )
    exponent_clamp: float = Field(
        3.5,
        gt=0,
        description="Largest exponent of `tilt`, so that no sample owns the update.",
    )
    clip_low: float = Field(
        0.2, gt=0, le=1, description="The ratio is clipped below 1 minus this (`grpo` only)."
    )
    clip_high: float = Field(
        0.2, gt=0, description="The ratio is clipped above 1 plus this (`grpo` only)."
    )
    log_prob_reduction: Literal["sum", "mean"] = Field(
        "sum", description="Over latent dimensions, for both terms; `sum` is the log-density."
    )
    data_times: Literal["grid", "uniform", "logit_normal"] = Field(
        "grid", description="Times of the data term: those of the trained steps, or drawn anew."
    )
    data_per_step: Literal["all", "one"] = Field(
        "all",
        description="The data term on all trained steps, or on one drawn step per data sample, "
        "with its weight raised to keep the expectation.",
    )
    kl_in_return: bool = Field(
        False, description="Charge each step for the KL still to come, too (`reference` only)."
    )
    updates_per_rollout: int = Field(
        1, ge=1, description="Optimizer updates per rollout; each takes an equal part of a group."
    )


class OptimizerSection(Section):
    """AdamW and the average of the weights."""

    learning_rate: float = Field(2e-4, gt=0, description="Learning rate after warm-up.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of AdamW's first moment.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of AdamW's second moment.")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay.")
    warmup_steps: int = Field(0, ge=0, description="Updates of linear warm-up.")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="Learning rate after warm-up; `cosine` ends at 0 with the run."
    )
    grad_clip: float = Field(1.0, ge=0, description="Largest gradient norm; 0 = off.")
    ema: float = Field(0.95, ge=0, lt=1, description="Decay of the averaged weights; 0 = off.")
    ema_warmup: bool = Field(
        False,
        description="Begin with a shorter average, of decay (1 + n)/(10 + n) at update n until "
        "that is `ema`: without, the average of a short run is mostly its start.",
    )


class EvaluationSection(Section):
    """What is measured in addition to the reward."""

    every: int = Field(25, ge=0, description="Steps between evaluations; 0 = none while training.")
    prompts: int = Field(64, ge=1, description="Held-out prompts that are sampled, at most.")
    samples_per_prompt: int = Field(50, ge=1, description="Samples per prompt.")
    steps: int = Field(30, ge=1, description="Steps of the deterministic solver.")
    solver: Literal["euler", "heun", "multistep"] = Field(
        "heun", description="Deterministic solver; `heun` calls the model twice per step."
    )
    drift_limit: float = Field(
        0.10,
        gt=0,
        description="Relative rise of the diffusion loss on held-out data that is reported as a "
        "sign of reward hacking.",
    )
    seed: int = Field(1234, ge=0, description="Seed of the evaluation, the same for every run.")
    encoder: str = Field(
        "auto",
        min_length=1,
        description="Features that samples and data are compared in: a folder or hub id of a "
        "vision model (CLIP, DINO) for transformers; `auto` = the judge where there is one, else "
        "pooled pixels.",
    )
    panel_samples: int = Field(
        0,
        ge=0,
        description="Samples of the reduced audit while training, over the held-out prompts, at "
        "least two of each; 0 = the diffusion loss on held-out data alone.",
    )
    panel: Literal["inline", "background"] = Field(
        "inline",
        description="Where the reduced audit runs: training waits for it, or a process with a "
        "model of its own audits checkpoints beside training.",
    )
    stop_on_hack: bool = Field(
        False,
        description="Stop the run when two reduced audits in a row say hacked; the best "
        "checkpoint by the audit is kept.",
    )
    reward: Annotated[tuple[HeldoutRewardSection, ...], BeforeValidator(as_tuple)] = Field(
        default=(), description="Held-out rewards: measured, never trained on."
    )


class GuardSection(Section):
    """What stops a run that goes wrong; 0 switches a limit off."""

    max_grad_norm: float = Field(1e4, ge=0, description="Largest gradient norm before clipping.")
    max_ratio: float = Field(1e3, ge=0, description="Largest probability ratio; above 1.")
    max_latent_std: float = Field(
        10.0, ge=0, description="Largest standard deviation of the sampled latents."
    )
    min_latent_std: float = Field(
        1e-3, ge=0, description="Smallest standard deviation of the sampled latents."
    )
    max_drift: float = Field(
        0.0, ge=0, description="Largest relative rise of the diffusion loss on held-out data."
    )
    replay_tolerance: float = Field(
        1e-3,
        ge=0,
        description="Largest error of the ratio, which is 1 on weights that have not moved.",
    )


class RunSection(Section):
    """Length, place and machine of the run."""

    steps: int = Field(150, ge=1, description="Rollouts, each followed by its updates.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed that every draw is named after.")
    folder: str = Field("runs/digits", min_length=1, description="Where the run is written.")
    cache: str = Field(
        "runs/.cache", min_length=1, description="Where base models and encoded data are kept."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`auto` takes CUDA when it is there."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type that the network computes in (autocast)."
    )
    micro_batch: int = Field(
        0, ge=0, description="Samples per pass; changes memory, not the result; 0 = all at once."
    )
    steps_per_pass: int = Field(
        1,
        ge=1,
        description="Trained steps folded into one pass: faster for small models, more memory.",
    )
    checkpoint_every: int = Field(50, ge=0, description="Steps between checkpoints; 0 = last only.")
    keep_checkpoints: int = Field(2, ge=2, description="How many are kept; one might be damaged.")
    float32_matmul: Literal["highest", "high"] = Field(
        "highest",
        description="Matrix products of float32 numbers on a GPU: `high` allows TF32, which is "
        "several times faster and keeps 10 bits of each number; see PyTorch's "
        "`set_float32_matmul_precision`.",
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 = PyTorch's own choice.")
    tensorboard: bool = Field(
        True,
        description="Write TensorBoard events into the run's folder, after which the run is named: "
        "`tensorboard --logdir runs`.",
    )
    wandb_project: str = Field("", description="Weights & Biases project; empty = off.")
